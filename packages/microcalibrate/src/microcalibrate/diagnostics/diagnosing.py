"""Find the units that carry too much of what is reported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.diagnostics.comparisons import compare_cutoffs
from microcalibrate.diagnostics.default_surface import default_surface
from microcalibrate.diagnostics.diagnosis import Diagnosis
from microcalibrate.diagnostics.flags import FlagRules
from microcalibrate.diagnostics.frame import (
    LINEAGE_COLUMN,
    Frame,
    Index,
    SurveyTables,
    Vector,
    as_frame,
    unit_labels,
    unit_weights,
)
from microcalibrate.diagnostics.incidence import Design
from microcalibrate.diagnostics.kish import kish_table, weight_figures
from microcalibrate.diagnostics.recalibrated import with_recalibrated
from microcalibrate.diagnostics.reforms import NamedReform, Reform, ReformSpace, named_reforms
from microcalibrate.diagnostics.scenarios import Scenario, Workplace
from microcalibrate.diagnostics.surface import Surface
from microcalibrate.diagnostics.tabulating import (
    cells_table,
    influence_table,
    records_table,
    reforms_table,
    summary_figures,
)
from microcalibrate.diagnostics.unit_targets import problem_of
from microcalibrate.errors import InvalidOption, InvalidSurface
from microcalibrate.progress import Bar
from microcalibrate.result import installed_versions

if TYPE_CHECKING:
    import pandas as pd


def diagnose(
    data: pd.DataFrame | Frame | SurveyTables,
    weights: Any = None,
    *,
    surface: Surface | Mapping[str, Any] | None = None,
    reforms: ReformSpace | Mapping[str, Reform] | Sequence[Reform] | None = None,
    lineage: Any = None,
    threshold: float = 0.05,
    n_reforms: int | None = None,
    seed: int = 0,
    on_error: str = "raise",
    reform_fraction: float = 0.2,
    flag_dominating: bool = False,
    targets: Any = None,
    n_left_out: int = 50,
    weight_groups: Any = None,
    strata: Any = None,
    psu: Any = None,
    id_column: str | None = None,
    n_workers: int = 1,
    progress: bool | None = None,
) -> Diagnosis:
    """Find the units that carry too much of what is reported, at baseline and over reforms.

    The gross share of unit `i` in a statistic is `|a_i| / sum(|a_j|)`, where `a_i` is its weight
    times what its rows have in the cell. A unit is influential where that exceeds `max(threshold,
    3 / n)` of a statistic with `n` contributors, unless the cell is thin: fewer than 30
    contributors, or fewer than 10 effective ones (`1 / sum(share**2)`). Beside every figure of a
    record stands that of its lineage, all units of one origin taken together, which copies of a
    record cannot improve.

    Args:
        data: One DataFrame, where each row is a unit; or several tables as a `Frame`, or a survey.
        weights: Persons (or households) per unit: a column of the unit's table, an array in its
            order, or a Series by identifier. None is for a survey that has weights.
        surface: What is reported: a `Surface`, or a mapping for `Surface.from_mapping`. None
            chooses by the rules of `default_surface`.
        reforms: Over which changes to look too: functions of the tables, by name or in a list, or
            a `ReformSpace` to draw from.
        lineage: Origin of each unit, a column or one label per unit. None takes the column
            `_mc_lineage` of the unit's table where there is one; else each unit is its own.
        threshold: Gross share above which a unit is influential, in `(0, 1)`.
        n_reforms: How many reforms to draw from a space; None is 20.
        seed: Of these draws.
        on_error: "raise" stops at the first reform that fails; "record" lists it and goes on.
        reform_fraction: Fraction of the reforms that change anything in which a unit must be
            influential to be flagged over reforms, in `(0, 1]`.
        flag_dominating: A record that carries more than about 32% of a statistic makes the
            effective contributors fewer than 10 by itself. False reports such a cell as thin, with
            "one record carries most of it" as the reason; True calls the record influential.
        targets: What the weights are calibrated to: a table of declared targets (its column
            `entity` says whose rows each is of, blank for the unit), or a `Problem` with a row
            per unit. With it, the most influential units are left out one by one, the weights of
            the others are fitted again from those in use with the least entropy, and
            `leave_one_out_recalibrated` says what each statistic would really change by. That
            costs a solve each. None leaves it out.
        n_left_out: How many units, from 1.
        weight_groups: Group of each unit for comparisons with a median weight: column or labels.
        strata: Stratum of each unit for standard errors: column or labels.
        psu: Primary sampling unit of each unit: column or labels.
        id_column: Identifier of the rows of a single table; None numbers them.
        n_workers: Reforms computed at the same time; results do not depend on it.
        progress: Whether to show a bar; None shows it on a terminal.

    Returns:
        The diagnosis.

    Raises:
        InvalidWeights: If weights are missing, not finite, negative, or all zero.
        InvalidProblem: If tables, links or labels do not fit together.
        InvalidSurface: If the surface cannot be read from the tables.
        InvalidExpression: If an expression is not of the language or names no column.
        InvalidOption: If an option is out of its range.
        InvalidTargetTable: If a declared target cannot be built.
        InfeasibleTargets: If hard targets cannot hold even with all units.
        ReformFailed: If a reform fails, unless `on_error` is "record".

    Examples:
        >>> import pandas as pd
        >>> rng = np.random.default_rng(0)
        >>> homes = pd.DataFrame({"income": rng.gamma(2.0, 20_000, 500), "weight": 100.0})
        >>> homes.loc[7, "weight"] = 20_000
        >>> found = diagnose(homes, "weight", surface={"metrics": ["income"]})
        >>> found.flagged.id.tolist()
        [7]
    """
    rules = FlagRules(
        threshold=threshold, reform_fraction=reform_fraction, flag_dominating=flag_dominating
    )
    if on_error not in ("raise", "record"):
        raise InvalidOption(f"on_error={on_error!r} must be 'raise' or 'record'.")
    if isinstance(n_workers, bool) or not isinstance(n_workers, int) or n_workers < 1:
        raise InvalidOption(f"n_workers={n_workers!r} must be a whole number from 1.")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InvalidOption(f"seed={seed!r} must be a whole number from 0.")
    if isinstance(n_left_out, bool) or not isinstance(n_left_out, int) or n_left_out < 1:
        raise InvalidOption(f"n_left_out={n_left_out!r} must be a whole number from 1.")
    frame = as_frame(data, id_column)
    if weights is None and not isinstance(data, Frame):
        weights = getattr(data, "weights", None) if isinstance(data, SurveyTables) else None
    unit = unit_weights(frame, weights)
    listed, extra_metrics = named_reforms(reforms, n_reforms, int(seed))
    given_surface = surface
    if surface is None:
        surface = default_surface(
            frame, unit, frozenset([weights] if isinstance(weights, str) else [])
        )
    elif not isinstance(surface, Surface):
        surface = Surface.from_mapping(surface)
    left_out = surface.check(frame)
    for metric in extra_metrics:
        frame.check_entity(metric.entity_in(frame))
        if metric.name in {known.name for known in surface.metrics}:
            raise InvalidSurface(
                f"the reforms bring along a metric {metric.name!r}, and the surface has one of "
                "that name. Rename either."
            )

    if lineage is None and LINEAGE_COLUMN in frame.tables[frame.unit].columns:
        lineage = LINEAGE_COLUMN
    origins, origin_codes = _numbered(frame, lineage, "lineage")
    strata_codes = _numbered(frame, strata, "strata")[1]
    psu_codes = _numbered(frame, psu, "psu")[1]
    design = Design.build(unit, strata_codes, psu_codes)
    calibration = None if targets is None else problem_of(frame, unit, targets)
    place = Workplace(frame, surface, unit, origin_codes, design, rules, extra_metrics)

    baseline = place.baseline()
    outcomes: list[Scenario] = []
    above = np.zeros(frame.n_units, dtype=np.int64)
    shares, largest = np.zeros(frame.n_units), np.zeros(frame.n_units)
    worst = np.full(frame.n_units, -1, dtype=np.intp)
    first_statistic = sum(len(table) for table in baseline.cells)
    if listed:
        place.prepare_reforms()
    scenarios = _scenarios(place, listed, on_error, n_workers)
    for outcome in _counted(scenarios, len(listed), progress):
        tracker = outcome.tracker
        if tracker is not None:
            above += tracker.n_influential > 0
            shares += tracker.share
            better = tracker.share > largest
            largest[better] = tracker.share[better]
            worst[better] = first_statistic + tracker.worst[better]
            first_statistic += sum(len(table) for table in outcome.cells)
        outcomes.append(outcome)
    n_ok = sum(outcome.status == "ok" for outcome in outcomes)

    groups = (
        np.full(frame.n_units, "all")
        if weight_groups is None
        else unit_labels(frame, weight_groups, "weight_groups")
    )
    comparisons, potter, extreme = compare_cutoffs(unit, groups, _unit_totals(place))
    cells = cells_table([baseline, *outcomes], frame, surface, extra_metrics)
    records = records_table(
        frame,
        unit,
        origins,
        origin_codes,
        baseline,
        cells.statistic,
        {"above": above, "mean": shares / max(n_ok, 1), "largest": largest, "worst": worst},
        n_ok,
        rules,
        extreme,
    )
    flagged = _flagged(records, unit)
    kish = kish_table(
        frame,
        unit,
        np.arange(frame.n_units) if origin_codes is None else origin_codes,
        place.slices[1:],
    )
    table = reforms_table(listed, outcomes, records.id)
    influence, counts = with_recalibrated(
        influence_table([baseline, *outcomes], records, cells),
        records, place, calibration, n_left_out, progress,
    )  # fmt: skip
    assert baseline.tracker is not None
    settings = {
        "unit": frame.unit,
        "n_units": frame.n_units,
        "surface": surface.as_mapping(),
        "surface_is_default": given_surface is None,
        "threshold": rules.threshold,
        "least_contributors": rules.least_contributors,
        "least_effective": rules.least_effective,
        "reform_fraction": rules.reform_fraction,
        "flag_dominating": rules.flag_dominating,
        "n_reforms": len(listed),
        "seed": int(seed),
        "on_error": on_error,
        "n_left_out": n_left_out if calibration is not None else 0,
        "has_lineage": lineage is not None,
        "has_strata": strata is not None,
        "has_psu": psu is not None,
    }
    return Diagnosis(
        records=records,
        flagged=flagged,
        influence=influence,
        cells=cells,
        kish=kish,
        reforms=table,
        comparisons=comparisons,
        potter=potter,
        summary_figures=counts
        | summary_figures(
            records,
            cells,
            kish,
            table,
            baseline.tracker,
            weight_figures(unit),
            left_out,
        ),
        settings=settings,
        versions=installed_versions(),
    )


def _numbered(frame: Frame, labels: Any, what: str) -> tuple[NDArray[Any] | None, Index | None]:
    """Labels of the units and the number of each; numbers are None where all labels differ."""
    if labels is None:
        return None, None
    array = unit_labels(frame, labels, what)
    if array.dtype.kind == "O":
        array = array.astype(str)
    different, codes = np.unique(array, return_inverse=True)
    return array, None if len(different) == len(array) and what != "strata" else codes


def _scenarios(
    place: Workplace, reforms: list[NamedReform], on_error: str, n_workers: int
) -> Iterator[Scenario]:
    """The outcome of each reform, in order; at most `n_workers` are in memory at a time."""
    if n_workers == 1:
        for reform in reforms:
            yield place.reform(reform, on_error)
        return
    with ThreadPoolExecutor(n_workers) as pool:
        for start in range(0, len(reforms), n_workers):
            some = reforms[start : start + n_workers]
            yield from pool.map(lambda reform: place.reform(reform, on_error), some)


def _counted(outcomes: Iterator[Scenario], n: int, progress: bool | None) -> Iterator[Scenario]:
    """The same outcomes, shown and told as they come."""
    if n == 0:
        return
    with Bar(progress, "reforms", "reforms", total=n) as bar:
        for outcome in outcomes:
            bar.advance()
            yield outcome


def _unit_totals(place: Workplace) -> list[Vector]:
    """What each unit has of each metric of the surface, over all of its rows."""
    return [
        place.incidences(metric)[0].added_up(metric.numerator(place.frame))
        for metric in place.surface.metrics
    ]


def _flagged(records: pd.DataFrame, weights: Vector) -> pd.DataFrame:
    """Flagged records, the largest share first."""
    found = records[records.is_flagged]
    worst = np.maximum(found.share.to_numpy(), found.reform_max_share.to_numpy())
    order = np.argsort(-worst, kind="stable")
    found = found.iloc[order].reset_index(drop=True)
    median = float(np.median(weights[weights > 0]))
    return found.assign(weight_over_median=found.weight / median)
