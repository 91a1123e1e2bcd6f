"""Variance of weighted totals under a design: what the sampling units of a stratum differ by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from microcalibrate.errors import InvalidDesign
from microcalibrate.inference.design import BoundDesign, Stage

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def variance_of_totals(contributions: Matrix, design: BoundDesign) -> Matrix:
    """Covariance of the column sums of what records contribute.

    The estimator of a stratified cluster sample (Cochran 1977, section 11.3; Särndal, Swensson
    and Wretman 1992, section 4.6): at each stage, of units of which `n` of `N` were sampled in a
    stratum, `(1 - n / N) n / (n - 1)` times the squares of their totals about their mean. Later
    stages count with the sampling fractions of those before, so that they count nothing where the
    first stage is with replacement.

    Args:
        contributions: Weight times value of each record, shape `(n_records, n_totals)`.
        design: How the records were drawn.

    Returns:
        Shape `(n_totals, n_totals)`.

    Raises:
        InvalidDesign: If a stratum has one sampled unit, and the design does not say what then.

    Examples:
        >>> from microcalibrate.inference.design import SurveyDesign
        >>> variance_of_totals(np.array([[1.0], [3.0]]), SurveyDesign().bind(None, 2))
        array([[4.]])
    """
    n_totals = contributions.shape[1]
    total = np.zeros((n_totals, n_totals))
    fraction = np.ones(len(contributions))
    for number, stage in enumerate(design.stages):
        total += _of_stage(contributions, stage, fraction, number, design.lonely_psu)
        of_unit = (stage.n_sampled / stage.population)[stage.stratum]
        fraction = fraction * of_unit[stage.unit]
        if not fraction.any():
            break
    return total


def _of_stage(
    contributions: Matrix, stage: Stage, fraction: Vector, number: int, lonely_psu: str
) -> Matrix:
    n_units, n_strata = len(stage.stratum), len(stage.n_sampled)
    totals = _sums(stage.unit, contributions, n_units)
    of_unit = np.zeros(n_units)
    of_unit[stage.unit] = fraction
    means = _sums(stage.stratum, totals, n_strata) / stage.n_sampled[:, None]
    deviation = totals - means[stage.stratum]
    scale = stage.correction * stage.n_sampled / np.maximum(stage.n_sampled - 1, 1)
    share = 1.0
    lonely = stage.lonely
    if len(lonely):
        if lonely_psu == "fail":
            raise InvalidDesign(_lonely_message(stage, number))
        if lonely_psu == "adjust":
            alone = np.isin(stage.stratum, lonely)
            deviation[alone] = totals[alone]
        if lonely_psu == "average":
            if len(lonely) == n_strata:
                raise InvalidDesign(
                    "every stratum has one sampled unit, so there is no variance to average. Join "
                    "strata that are alike."
                )
            share = n_strata / (n_strata - len(lonely))
    weight = scale[stage.stratum] * of_unit * share
    return np.asarray((deviation * weight[:, None]).T @ deviation)


def _sums(groups: npt.NDArray[np.intp], values: Matrix, n_groups: int) -> Matrix:
    """Column sums of `values` by group, shape `(n_groups, n_columns)`."""
    members = sp.csr_array(
        (np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=(n_groups, len(groups))
    )
    return np.asarray(members @ values)


def _lonely_message(stage: Stage, number: int) -> str:
    named = ", ".join(f'"{stage.labels[one]}"' for one in stage.lonely[:3])
    more = f" and {len(stage.lonely) - 3} more" if len(stage.lonely) > 3 else ""
    return (
        f"stratum {named}{more} has one sampled unit at stage {number + 1}, so that its variance "
        'cannot be estimated. Join it with a stratum that is alike, or set lonely_psu to "adjust", '
        '"average", or "certainty" if it was taken whole.'
    )
