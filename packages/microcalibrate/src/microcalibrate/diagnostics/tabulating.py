"""From what was measured to the tables of a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.diagnostics.flags import (
    ONE_DOMINATES,
    THIN_REASONS,
    FlagRules,
    Mask,
    standardised_limit,
    variance_limit,
)
from microcalibrate.diagnostics.frame import Frame, Index, Vector
from microcalibrate.diagnostics.influence import LEAST_NET
from microcalibrate.diagnostics.reforms import NamedReform
from microcalibrate.diagnostics.scenarios import BASELINE, Scenario
from microcalibrate.diagnostics.surface import OVERALL, Metric, Surface
from microcalibrate.diagnostics.tracking import Tracker

if TYPE_CHECKING:
    import pandas as pd

CANCELS = f"undefined: positive and negative amounts cancel to under {LEAST_NET:.1%} of the gross"


def statistic_name(reform: str, metric: str, kind: str, part: str, cell: str) -> str:
    """A statistic in full.

    Examples:
        >>> statistic_name("baseline", "wages", "total", "region", "London")
        'wages, region = London'
        >>> statistic_name("reform 3", "poverty", "mean", "all", "all")
        'reform 3: change in poverty (mean), all'
    """
    what = metric if kind == "total" else f"{metric} ({kind})"
    where = OVERALL if part == OVERALL else f"{part} = {cell}"
    return f"{'' if reform == BASELINE else f'{reform}: change in '}{what}, {where}"


def cells_table(
    scenarios: Sequence[Scenario],
    frame: Frame,
    surface: Surface,
    extra_metrics: Sequence[Metric],
) -> pd.DataFrame:
    """One row per statistic of all scenarios."""
    import pandas as pd

    parts = []
    for scenario in scenarios:
        parts += [table.assign(reform=scenario.name) for table in scenario.cells]
    table = pd.concat(parts, ignore_index=True)
    entities = {m.name: m.entity_in(frame) for m in (*extra_metrics, *surface.metrics)}
    names = [
        statistic_name(*values)
        for values in zip(
            table.reform, table.metric, table.kind, table.slice, table.cell, strict=True
        )
    ]
    defined = table.pop("has_net_share")
    reason = np.where(defined, "", np.where(table.gross > 0, CANCELS, "undefined: no amounts"))
    thin = table.pop("thin").to_numpy()
    ids = pd.array(frame.unit_ids)
    largest = pd.api.extensions.take(ids, table.pop("largest_unit").to_numpy(), allow_fill=True)
    table = table.assign(
        statistic=_labelled(np.arange(len(names)), names),
        entity=table.metric.map(entities),
        net_reason=pd.Series(reason, dtype="str"),
        is_thin=thin != 0,
        thin_reason=_labelled(thin, list(THIN_REASONS)),
        largest_id=largest,
    )
    first = ["statistic", "reform", "metric", "kind", "entity", "slice", "cell"]
    return table[[*first, *(name for name in table.columns if name not in first)]]


def influence_table(
    scenarios: Sequence[Scenario], records: pd.DataFrame, cells: pd.DataFrame
) -> pd.DataFrame:
    """One row per unit and statistic above the floor."""
    import pandas as pd

    parts: list[dict[str, NDArray[Any]]] = []
    first = 0
    for scenario in scenarios:
        parts += [{**e, "statistic": first + e["statistic"]} for e in scenario.entries]
        first += sum(len(table) for table in scenario.cells)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    unit, statistic = joined.pop("unit"), joined.pop("statistic")
    del joined["cell"]
    of = cells.iloc[statistic]
    n = of.n.to_numpy().astype(np.float64)
    columns: dict[str, Any] = {
        "id": records.id.to_numpy()[unit],
        "lineage": records.lineage.to_numpy()[unit],
        "weight": records.weight.to_numpy()[unit],
    }
    for name in ("reform", "metric", "slice", "cell", "statistic", "net_reason"):
        categories, codes = np.unique(cells[name].astype(str), return_inverse=True)
        columns[name] = pd.Categorical.from_codes(
            codes[statistic], categories=pd.Index(categories.tolist(), dtype="str")
        )
    columns |= joined
    columns["limit"] = of.limit.to_numpy()
    columns["is_thin"] = of.is_thin.to_numpy()
    columns["is_high_variance"] = joined["variance_share"] > variance_limit(n)
    columns["is_high_standardised"] = joined["standardised"] > standardised_limit(n)
    return pd.DataFrame(columns)


def records_table(
    frame: Frame,
    weights: Vector,
    origins: NDArray[Any] | None,
    origin_codes: Index | None,
    baseline: Scenario,
    statistics: pd.Series[Any],
    over_reforms: Mapping[str, NDArray[Any]],
    n_reforms: int,
    rules: FlagRules,
    extreme: Mapping[str, Mask],
) -> pd.DataFrame:
    """One row per unit; see `Diagnosis.records`."""
    import pandas as pd

    tracker = baseline.tracker
    assert tracker is not None
    names = statistics.astype(str).tolist()
    of_lineage = tracker.lineage_share
    is_influential = tracker.n_influential > 0
    needed = rules.reform_fraction * n_reforms * (1 - 1e-9)
    is_robust = (over_reforms["above"] >= needed) if n_reforms else np.zeros_like(is_influential)
    return pd.DataFrame(
        {
            "id": frame.unit_ids,
            "lineage": frame.unit_ids if origins is None else origins,
            "weight": weights,
            "share": tracker.share,
            "worst_statistic": _labelled(tracker.worst, names),
            "lineage_share": of_lineage if origin_codes is None else of_lineage[origin_codes],
            "n_influential": tracker.n_influential,
            "n_reforms_above": over_reforms["above"],
            "reform_mean_share": over_reforms["mean"],
            "reform_max_share": over_reforms["largest"],
            "reform_worst_statistic": _labelled(over_reforms["worst"], names),
            "is_influential": is_influential,
            "is_reform_robust": is_robust,
            "is_flagged": is_influential | is_robust,
            **extreme,
        }
    )


def reforms_table(
    reforms: Sequence[NamedReform], outcomes: Sequence[Scenario], ids: pd.Series[Any]
) -> pd.DataFrame:
    """One row per reform, whatever came of it."""
    import pandas as pd

    rows = []
    for reform, outcome in zip(reforms, outcomes, strict=True):
        share, largest, n_influential = np.nan, "", 0
        if outcome.tracker is not None:
            top = int(outcome.tracker.share.argmax())
            share = float(outcome.tracker.share[top])
            largest = str(ids.iloc[top]) if share > 0 else ""
            n_influential = int((outcome.tracker.n_influential > 0).sum())
        rows.append(
            (
                reform.name,
                reform.description,
                outcome.status,
                outcome.message if outcome.status == "failed" else "",
                ", ".join(outcome.metrics),
                outcome.gross_change,
                n_influential,
                share,
                largest,
            )
        )
    columns = (
        "reform",
        "description",
        "status",
        "message",
        "metrics",
        "gross_change",
        "n_influential",
        "largest_share",
        "largest_id",
    )
    table = pd.DataFrame(rows, columns=list(columns))
    texts = ("reform", "description", "status", "message", "metrics", "largest_id")
    return table.astype(
        {name: "str" for name in texts}
        | {"gross_change": "float64", "largest_share": "float64", "n_influential": "int64"}
    )


def summary_figures(
    records: pd.DataFrame,
    cells: pd.DataFrame,
    kish: pd.DataFrame,
    reforms: pd.DataFrame,
    tracker: Tracker,
    weights: dict[str, float],
    left_out: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """The figures of `Diagnosis.summary`, in plain types."""
    baseline = cells[cells.reform == BASELINE]
    overall = kish.iloc[0]
    return {
        "n_units": len(records),
        "n_flagged": int(records.is_flagged.sum()),
        "n_influential": int(records.is_influential.sum()),
        "n_reform_robust": int(records.is_reform_robust.sum()),
        "n_lineages": len(tracker.lineage_share),
        "n_lineages_above": int(tracker.is_lineage_influential.sum()),
        "largest_share": float(records.share.max()),
        "largest_lineage_share": float(tracker.lineage_share.max()),
        "n_statistics": len(baseline),
        "n_thin": int(baseline.is_thin.sum()),
        "n_dominated": int((baseline.thin_reason == ONE_DOMINATES).sum()),
        "n_reforms_ok": int((reforms.status == "ok").sum()),
        "n_reforms_inert": int((reforms.status == "inert").sum()),
        "n_reforms_failed": int((reforms.status == "failed").sum()),
        "kish": {
            name: (int if name in ("n", "n_units", "n_lineages") else float)(overall[name])
            for name in ("n", "n_eff", "design_effect", "n_lineages", "lineage_n_eff")
        },
        "weights": weights,
        "left_out": [list(pair) for pair in left_out],
    }


def _labelled(codes: NDArray[Any], names: list[str]) -> Any:
    """Names by number, -1 for none, each different name stored once."""
    import pandas as pd

    places, different = pd.factorize(np.array(names, dtype=object))
    of_codes = np.where(codes >= 0, np.asarray(places)[codes], -1)
    return pd.Categorical.from_codes(of_codes, categories=pd.Index(different, dtype="str"))
