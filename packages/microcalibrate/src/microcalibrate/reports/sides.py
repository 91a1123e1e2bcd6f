"""What of each kind of run is compared with another run of the kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from microcalibrate.figures.plotting import amount, percent, power_of_ten

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.logs import CalibrationLog


@dataclass(frozen=True, eq=False)
class Side:
    """What of a run is compared.

    Attributes:
        statistics: Name to the number and how it is written.
        targets: `name`, `target`, `error`; None where the kind has no targets.
        weights: `id`, `weight`.
        settings: Options of the run.
    """

    statistics: dict[str, tuple[float, Callable[[float], str]]]
    targets: pd.DataFrame | None
    weights: pd.DataFrame
    settings: Mapping[str, Any]


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _calibration(result: Any) -> Side:
    from microcalibrate.result import STATISTICS
    from microcalibrate.result_tables import as_declared

    after = result.statistics["after"]
    statistics: dict[str, tuple[float, Callable[[float], str]]] = {
        label: (after[key], pattern.format) for key, label, pattern in STATISTICS
    }
    statistics["relative duality gap"] = (result.gap, "{:.1e}".format)
    weights = result.weights_table()[["id", "weight"]]
    targets = as_declared(result.targets)[["name", "target", "error"]]
    return Side(statistics, targets, weights, result.settings)


def _diagnosis(diagnosis: Any) -> Side:
    return Side(_state(diagnosis), None, diagnosis.records[["id", "weight"]], diagnosis.settings)


def _state(diagnosis: Any) -> dict[str, tuple[float, Callable[[float], str]]]:
    """Figures of a diagnosis, by record and by origin."""
    found = diagnosis.summary_figures
    return {
        "records": (found["n_units"], _count),
        "origins": (found["n_lineages"], _count),
        "records flagged": (found["n_flagged"], _count),
        "origins above the limit": (found["n_lineages_above"], _count),
        "largest share of a record": (found["largest_share"], percent),
        "largest share of an origin": (found["largest_lineage_share"], percent),
        "effective sample size": (found["kish"]["n_eff"], _count),
        "effective sample size by origin": (found["kish"]["lineage_n_eff"], _count),
        "thin statistics": (found["n_thin"], _count),
        "largest weight": (found["weights"]["largest"], amount),
    }


def _regularised(result: Any) -> Side:
    from microcalibrate.result_tables import DECLARED_COLUMNS, as_declared

    statistics = _state(result.after)
    statistics["records flagged before"] = (result.before.summary_figures["n_flagged"], _count)
    statistics["generated records"] = (len(result.lineage), _count)
    statistics["rounds kept"] = (float(result.rounds.accepted.sum()), _count)
    if len(result.targets):
        statistics["mean absolute relative error"] = (
            result.targets.after_error.abs().mean(),
            percent,
        )
    targets = as_declared(result.targets, ("target",), DECLARED_COLUMNS[:1])
    targets = targets[["name", "target", "after_error"]]
    return Side(
        statistics,
        targets.rename(columns={"after_error": "error"}),
        result.after.records[["id", "weight"]],
        result.settings,
    )


SIDES: dict[str, Callable[[Any], Side]] = {
    "calibration": _calibration,
    "diagnosis": _diagnosis,
    "regularisation": _regularised,
}
"""Kinds of runs that can be compared. A further kind is one more of these."""
WITH_LOG = frozenset({"calibration"})
"""Kinds whose folders have a log of the targets."""


def side_of_log(log: CalibrationLog) -> Side:
    """What of a log is compared."""
    import pandas as pd

    found = log.quality()
    known = found.n_close + found.n_fair + found.n_poor

    def share(count: int) -> tuple[float, Callable[[float], str]]:
        return (count / known if known else math.nan), _percent

    statistics: dict[str, tuple[float, Callable[[float], str]]] = {
        "targets": (found.n_targets, _count),
        "targets without a relative error": (found.n_undefined, _count),
        "targets that were not calibrated to": (found.n_excluded, _count),
        "epochs": (len(log.epochs), _count),
        "mean absolute relative error, capped at 100%": (found.mean_error, _percent),
        "median absolute relative error": (found.median_error, _percent),
        "largest absolute relative error": (found.largest_error, _percent),
        "share of targets within 5%": share(found.n_close),
        "share of targets within 20%": share(found.n_close + found.n_fair),
    }
    if log.loss_kind == "run":
        statistics["loss of the run"] = (float(log.curve.loss.iloc[-1]), _loss)
    elif log.loss_kind == "per target":
        loss = float(log.curve.loss.iloc[-1])
        statistics["loss, mean over the targets"] = (loss, _loss)
    weights = pd.DataFrame({"id": pd.Series(dtype="object"), "weight": pd.Series(dtype="float64")})
    return Side(statistics, None, weights, log.facts.get("config", {}))


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else percent(value)


def _loss(value: float) -> str:
    return "–" if math.isnan(value) else power_of_ten(value)
