"""Newton's step on prices of which some pay for the width of a band.

A target that may be missed by a tolerance charges its price for it, so that the dual objective has
a kink where that price is zero. At prices `y`, with the gradient `g` of the smooth part and its
curvature `Q`, the step of a proximal Newton method (Lee, Sun and Saunders 2014) is

    argmax over d of    g @ d - d @ Q @ d / 2 - tolerance @ abs(y + d)

Which bands hold their target, and at which end, is found by block principal pivoting (Kim and Park
2010): all that are on the wrong side change at once, or one by one where that gains nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from microcalibrate.engine.normal_equations import Given, Matrix, Vector, factor

# All change at once so many times without a gain before they change one by one.
FRUITLESS = 3
# Hundreds of bands or fewer take some ten; where more are not enough, the interior point method is
# the shorter road.
MOST_PIVOTS = 60
# Within this share of its tolerance a target counts as inside of its band.
ROUNDING = 1e-9


def banded_direction(
    gram: Matrix,
    column_scale: Vector,
    compliance: Vector,
    gradient: Vector,
    prices: Vector,
    banded: npt.NDArray[np.intp],
    tolerance: Vector,
) -> Vector:
    """The step in all prices; bands that hold nothing get a price of exactly zero.

    Args:
        gram: Curvature of the smooth part before scaling, upper triangle.
        column_scale: Its factor on both sides, shape `(n_targets,)`.
        compliance: Added to its diagonal, `(n_targets,)`.
        gradient: Of the smooth part, `(n_targets,)`.
        prices: Present ones, `(n_targets,)`.
        banded: Positions of the targets with a band, `(n_bands,)`.
        tolerance: Half the width of each band, `(n_bands,)`.

    Raises:
        numpy.linalg.LinAlgError: If the curvature is not positive semidefinite, or no choice of
            ends was found.

    Examples:
        >>> step = banded_direction(
        ...     np.eye(2), np.ones(2), np.zeros(2), np.array([3.0, 0.5]), np.array([0.0, 0.2]),
        ...     np.arange(2), np.ones(2),
        ... )
        >>> step
        array([ 2. , -0.2])
    """
    whole = np.triu(gram) + np.triu(gram, 1).T
    whole *= column_scale[:, None] * column_scale
    whole[np.diag_indices_from(whole)] += compliance
    ends = np.sign(prices[banded])
    fewest, fruitless = len(banded) + 1, 0
    for _ in range(MOST_PIVOTS):
        loose = banded[ends == 0]
        is_free = np.ones(len(prices), dtype=np.bool_)
        is_free[loose] = False
        free = np.flatnonzero(is_free)
        step = np.zeros_like(prices)
        step[loose] = -prices[loose]
        aim = gradient.copy()
        aim[banded] -= ends * tolerance
        left = aim - whole[:, loose] @ step[loose]
        block = Given(gram[np.ix_(free, free)], column_scale[free])
        step[free] = factor(block, step[:0], compliance[free])(left[free])
        pull = left[loose] - whole[np.ix_(loose, free)] @ step[free]
        wanted = ends.copy()
        beyond = np.abs(pull) > (1 + ROUNDING) * tolerance[ends == 0]
        wanted[ends == 0] = np.where(beyond, np.sign(pull), 0.0)
        wanted[(prices + step)[banded] * ends < 0] = 0.0
        wrong = np.flatnonzero(wanted != ends)
        if not len(wrong):
            return step
        if len(wrong) < fewest:
            fewest, fruitless = len(wrong), 0
        else:
            fruitless += 1
        changed = wrong if fruitless <= FRUITLESS else wrong[-1:]
        ends[changed] = wanted[changed]
    raise np.linalg.LinAlgError("no choice of the ends of bands was found")
