"""`estimate`: from weights and what is asked, to estimates with standard errors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from microcalibrate.arrays import checked_weights
from microcalibrate.calibration import Calibration
from microcalibrate.columns import Columns, Mask, Text, did_you_mean
from microcalibrate.errors import InvalidEstimand, InvalidOption
from microcalibrate.inference.cautions import DesignVarianceWarning, cautions_of
from microcalibrate.inference.design import SurveyDesign
from microcalibrate.inference.estimands import Estimand
from microcalibrate.inference.estimates import COLUMNS, Estimates
from microcalibrate.inference.linked_data import Tables
from microcalibrate.inference.members import Members
from microcalibrate.inference.replicate_weights import ReplicateWeights
from microcalibrate.inference.sampling_error import (
    LinearisedError,
    SamplingError,
    TargetError,
    covariance_of_targets,
)
from microcalibrate.inference.sensitivity import Sensitivity
from microcalibrate.inference.statistics import (
    Differentiable,
    OfMembers,
    Statistic,
    is_quantile,
)

if TYPE_CHECKING:
    import pandas as pd

Vector: TypeAlias = npt.NDArray[np.float64]
Matrix: TypeAlias = npt.NDArray[np.float64]

RESIDUALS = ("design", "optimum")


def estimate(
    weights: Calibration | Any,
    what: Estimand | Sequence[Estimand],
    data: Any = None,
    *,
    design: SurveyDesign | None = None,
    replicates: ReplicateWeights | None = None,
    by: str | Sequence[str] | None = None,
    target_errors: Any = None,
    residuals: str | None = None,
    level: float = 0.95,
) -> Estimates:
    """Estimates with standard errors that know of the calibration.

    With a `design`, each statistic is linearised: its variance is that of a total of residuals of
    a regression on the targets' columns, times the calibrated weights (Deville and Särndal 1992),
    between the sampling units of each stratum. With `replicates` it is the spread of the
    statistic over their weights, each calibrated anew.

    Args:
        weights: A `Calibration` after `calibrate()`; or weights from elsewhere, shape
            `(n_records,)`, which are then taken as given: only replicates know how they were made.
        what: What to estimate: `total("income")`, `mean("age")`, `ratio("tax", "income")`,
            `quantile("income", 0.5)`, `count()`, `smooth(…)`, `own(…)`.
        data: Table with the columns that these name, one row per record: the records that were
            calibrated, in their order. Or the linked tables of `Calibration.from_tables`: then
            `mean("wages", entity="person")` is of persons, who have the weights of their
            households; the design names columns of these, and `records` counts them.
        design: How the records were drawn.
        replicates: Replicate weights instead of a design.
        by: Column, or columns, of domains: each combination of their values has rows of its own.
        target_errors: How unsure the targets themselves are: standard errors in the units that
            they were declared in (of a quantile, of the share up to it), a sequence or a mapping
            by name, or a covariance matrix. Targets are taken to be independent of the sample.
        residuals: Which regression the residuals are of. "design": with design weights, as R
            `survey` does for every distance. "optimum": the one that belongs to the optimum, in
            which records on a bound do not count, and soft targets pull as they pulled. By
            default "design" where all targets are exact, and "optimum" where some are not.
        level: Of the confidence intervals, which are Student's t with the design's degrees of
            freedom.

    Returns:
        The estimates: `.table` has a row for each statistic and domain.

    Raises:
        InvalidOption: If options contradict each other.
        InvalidEstimand: If a column is missing, or has gaps where it counts.
        InvalidDesign: If the design does not fit the records.

    Warns:
        DesignVarianceWarning: If the sampling error is not, or not wholly, what is asked for: no
            design was given, weights come from elsewhere, or records were chosen by a rule.

    Examples:
        >>> from microcalibrate import SurveyDesign, estimate, mean
        >>> people = {"age": np.array([20.0, 40.0, 60.0, 80.0]), "sex": np.array([0, 1, 0, 1])}
        >>> cal = Calibration(np.ones(4), [3.0, 2.0], np.eye(2)[people["sex"]], tolerances=0)
        >>> _ = cal.calibrate()
        >>> found = estimate(cal, mean("age"), people, design=SurveyDesign(strata="sex"))
        >>> found.table[["estimate", "standard_error"]].round(3).values.tolist()
        [[48.0, 14.422]]
    """
    if not 0 < level < 1:
        raise InvalidOption(f"level={level!r} must lie between 0 and 1, such as 0.95.")
    calibration = weights if isinstance(weights, Calibration) else None
    members = Members.of(calibration) if calibration else None
    final = members.weights if members else checked_weights(weights)
    tables = Tables.of(data, len(final))
    errors = _sampling_error(members, final, tables.own, design, replicates, residuals)
    from_targets = _target_error(calibration, members, final, target_errors)
    cautions = cautions_of(calibration, design, replicates)
    for caution in cautions:
        warnings.warn(caution, DesignVarianceWarning, stacklevel=2)
    names, rows = _rows(what, by, tables)
    return Estimates(
        *_tabulated(rows, names, final, errors, from_targets, level),
        level=level,
        method=_method(replicates, design),
        cautions=cautions,
    )


def weighted_residuals(
    weights: Calibration | Any,
    what: Estimand | Sequence[Estimand],
    data: Any = None,
    *,
    by: str | Sequence[str] | None = None,
    residuals: str | None = None,
) -> pd.DataFrame:
    """What each record adds to the linearised error of each statistic: its weight times residual.

    The variance of their total under the design, as of any total of a survey, is that of the
    estimate. So other software can go on from them, with weights of 1, and designs that a
    `SurveyDesign` cannot say.

    Args:
        weights: See `estimate`.
        what: See `estimate`. For a quantile the residuals are those of the share below it.
        data: See `estimate`.
        by: See `estimate`.
        residuals: See `estimate`.

    Returns:
        A row per record in the order of the data, and a column per statistic and domain, called
        `mean(income)` or `mean(income), sex=f`.

    Raises:
        InvalidOption: If options contradict each other.
        InvalidEstimand: If a column is missing, or has gaps where it counts.

    Examples:
        >>> from microcalibrate import mean
        >>> cal = Calibration(np.ones(3), [6.0], np.ones((3, 1)), tolerances=0)
        >>> _ = cal.calibrate()
        >>> found = weighted_residuals(cal, mean(np.array([1.0, 2.0, 6.0]), name="mean"))
        >>> found["mean"].round(3).tolist()
        [-0.667, -0.333, 1.0]
    """
    import pandas as pd

    members = Members.of(weights) if isinstance(weights, Calibration) else None
    final = members.weights if members else checked_weights(weights)
    design = SurveyDesign(psu=members.cluster if members else None)
    tables = Tables.of(data, len(final))
    errors = _sampling_error(members, final, tables.own, design, None, residuals)
    assert isinstance(errors, LinearisedError)
    names, rows = _rows(what, by, tables)
    smooth = [_differentiable(row, row.statistic.value(final)) for row in rows]
    labels = [
        ", ".join([row.name, *(f"{k}={v}" for k, v in zip(names, row.domain, strict=True))])
        for row in rows
    ]
    if len(set(labels)) < len(labels):
        twice = next(one for one in labels if labels.count(one) > 1)
        raise InvalidEstimand(f"{twice!r} is asked for twice: give one of them another name=.")
    return pd.DataFrame(errors.contributions(smooth), columns=labels)


@dataclass(frozen=True, eq=False)
class _Row:
    """A statistic in a domain."""

    name: str
    domain: tuple[Any, ...]
    statistic: Statistic | Differentiable


def _rows(
    what: Estimand | Sequence[Estimand], by: str | Sequence[str] | None, data: Tables
) -> tuple[list[str], list[_Row]]:
    """Columns of the domains, and each statistic in each of them."""
    wanted = [what] if isinstance(what, (Estimand, str)) else list(what)
    if not wanted:
        raise InvalidEstimand("nothing is asked for: give total(…), mean(…) or the like.")
    for one in wanted:
        if not isinstance(one, Estimand):
            raise InvalidEstimand(
                f"{one!r} does not say what to estimate: give total({one!r}), mean({one!r}) or the "
                "like."
            )
    rows = []
    for one in wanted:
        level = data.level(one.entity)
        bound = one.bind(level.columns, level.n_rows)
        for values, mask in _domains(by, level.columns, level.n_rows):
            inside = bound.within(mask)
            if level.record is not None:
                inside = OfMembers(inside, level.record, data.n_records)
            rows.append(_Row(one.name, values, inside))
    return [by] if isinstance(by, str) else list(by or []), rows


def _differentiable(row: _Row, value: float) -> Differentiable:
    """What has a derivative: the statistic itself, or for a quantile the share below it."""
    if is_quantile(row.statistic):
        below: Differentiable = row.statistic.share_below(value)  # type: ignore[union-attr]
        return below
    return row.statistic  # type: ignore[return-value]  # any other statistic is differentiable


def _sampling_error(
    members: Members | None,
    weights: Vector,
    data: Any,
    design: SurveyDesign | None,
    replicates: ReplicateWeights | None,
    residuals: str | None,
) -> SamplingError:
    if residuals is not None and residuals not in RESIDUALS:
        raise InvalidOption(f"residuals={residuals!r} is not known. Use one of {list(RESIDUALS)}.")
    if replicates is not None:
        if design is not None or residuals is not None:
            raise InvalidOption(
                "replicates bring their own sampling error: leave design= and residuals= out."
            )
        replicates.check_full(weights)
        return replicates
    if design is not None and not isinstance(design, SurveyDesign):
        raise InvalidOption(f"design={design!r} is no SurveyDesign: give SurveyDesign(psu=…).")
    # Nothing said: records, or where there are clusters these, count as drawn each on its own.
    units = members.cluster if members is not None else None
    bound = (design or SurveyDesign(psu=units)).bind(data, len(weights))
    if members is None:
        if residuals is not None:
            raise InvalidOption(
                "residuals= is about a calibration, and only weights were given. Hand over the "
                "Calibration itself."
            )
        return LinearisedError(weights, bound, None)
    if residuals is None:
        exact = bool((members.optimum.problem.tolerances == 0).all())
        residuals = "design" if exact else "optimum"
    members.check_design(bound)
    sensitivity = Sensitivity(members.optimum, at_design=residuals == "design")
    return LinearisedError(weights, bound, sensitivity, members)


def _target_error(
    calibration: Calibration | None, members: Members | None, weights: Vector, given: Any
) -> TargetError | None:
    if given is None:
        return None
    if calibration is None or members is None:
        raise InvalidOption(
            "target_errors= goes through the calibration, and only weights were given. Hand over "
            "the Calibration itself."
        )
    covariance = covariance_of_targets(given, members.optimum.problem)
    quotients = calibration.states.quotients
    return TargetError(weights, covariance, Sensitivity(members.optimum), members, quotients)


def _domains(
    by: str | Sequence[str] | None, data: Any, n_records: int
) -> list[tuple[tuple[Any, ...], Mask]]:
    """Each combination of the values of columns, and a mask of it."""
    names = [by] if isinstance(by, str) else list(by or [])
    if not names:
        return [((), np.ones(n_records, dtype=np.bool_))]
    for name in names:
        if name in COLUMNS:
            raise InvalidEstimand(
                f"by: {name!r} is also a column of the table of estimates, which would have two "
                "of them. Rename it in the data."
            )
    if data is None:
        raise InvalidEstimand("by= names columns, and no data were given: pass data=.")
    columns = Columns(data)
    if columns.n_records != n_records:
        raise InvalidEstimand(
            f"the data have {columns.n_records} rows, and there are {n_records} weights."
        )
    labels = []
    for name in names:
        if name not in columns.names:
            raise InvalidEstimand(
                f"by: there is no column {name!r}.{did_you_mean(name, columns.names)}"
            )
        found = columns[name]
        values = found.decoded() if isinstance(found, Text) else found
        missing = np.array([one is None or one != one for one in values])
        if missing.any():
            raise InvalidEstimand(
                f"by: {name!r} is missing in {int(missing.sum())} records, which would be in no "
                "domain. Fill these in."
            )
        labels.append(values)
    cells = sorted(set(zip(*(one.tolist() for one in labels), strict=True)))
    return [
        (
            cell,
            np.logical_and.reduce([one == value for one, value in zip(labels, cell, strict=True)]),
        )
        for cell in cells
    ]


def _tabulated(
    rows: list[_Row],
    names: list[str],
    weights: Vector,
    errors: SamplingError,
    from_targets: TargetError | None,
    level: float,
) -> tuple[Any, Matrix]:
    """The table, and the covariance of its estimates."""
    import pandas as pd

    values = np.array([row.statistic.value(weights) for row in rows])
    smooth = [_differentiable(row, value) for row, value in zip(rows, values, strict=True)]
    sampling = errors.covariance(smooth)
    targets = np.zeros_like(sampling) if from_targets is None else from_targets.covariance(smooth)
    covariance = sampling + targets
    table = []
    for k, row in enumerate(rows):
        inside = np.where(row.statistic.mask, weights, 0.0)
        freedom = errors.degrees_of_freedom(inside)
        error = float(np.sqrt(max(covariance[k, k], 0.0)))
        reach = float(stats.t.ppf(0.5 + level / 2, freedom)) if freedom > 0 else float("nan")
        low, high = values[k] - reach * error, values[k] + reach * error
        stretch = 1.0
        if is_quantile(row.statistic):
            share = smooth[k].value(weights)
            low, high = (
                row.statistic.at(share + sign * reach * error, weights)  # type: ignore[union-attr]
                for sign in (-1, 1)
            )
            in_values = (high - low) / (2 * reach)
            stretch, error = (in_values / error if error > 0 else 0.0), in_values
        cells = {
            "statistic": row.name,
            **dict(zip(names, row.domain, strict=True)),
            "estimate": values[k],
            "standard_error": error,
            "lower": low,
            "upper": high,
            "design_effect": _design_effect(covariance[k, k], smooth[k], inside),
            "records": int(np.count_nonzero(inside)),
            "degrees_of_freedom": freedom,
        }
        if from_targets is not None:
            for name, part in (("sampling_error", sampling), ("target_error", targets)):
                cells[name] = stretch * float(np.sqrt(max(part[k, k], 0.0)))
        table.append(cells)
    quantiles = np.array([is_quantile(row.statistic) for row in rows])
    covariance[quantiles] = np.nan
    covariance[:, quantiles] = np.nan
    return pd.DataFrame(table), covariance


def _design_effect(variance: float, statistic: Differentiable, weights: Vector) -> float:
    """Variance over that of a simple random sample, drawn with replacement (Kish 1965).

    A statistic that is a total of `z` has under simple random sampling the variance
    `N**2 S**2 / n`, with `N` the total weight of the domain, `n` its records, and `S**2` the
    weighted variance of `z` there.
    """
    inside = weights != 0
    n, total = int(inside.sum()), float(weights.sum())
    if n < 2 or total <= 0:
        return float("nan")
    values = statistic.influence(weights)[inside]
    centred = values - float(weights[inside] @ values) / total
    spread = float(weights[inside] @ centred**2) / total * n / (n - 1)
    simple = total**2 * spread / n
    return variance / simple if simple > 0 else float("nan")


def _method(replicates: ReplicateWeights | None, design: SurveyDesign | None) -> str:
    if replicates is not None:
        return f"standard errors from {replicates.n_replicates} {replicates.type} replicates"
    return "standard errors from linearised residuals" + ("" if design else ", no design given")
