"""Newton's step on prices of which some pay for the width of a band.

A target that may be missed by a tolerance charges its price for it, so that the dual objective has
a kink where that price is zero. At prices `y`, with the gradient `g` of the smooth part and its
curvature `Q`, the step of a proximal Newton method (Lee, Sun and Saunders 2014) is

    argmax over d of    g @ d - d @ Q @ d / 2 - tolerance @ abs(y + d)

Which bands hold their target, and at which end, is found by block principal pivoting (Kim and Park
2010): all that are on the wrong side change at once. Where that goes round in circles, sweeps of
coordinate descent bring the prices nearer, whose signs are the next choice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from microcalibrate.engine.normal_equations import Given, Matrix, Vector, factor

# All change at once so many times without a gain; then so many sweeps of coordinate descent follow.
FRUITLESS = 3
SWEEPS = 200
# Choices of all ends in one step, after which the interior point method is the shorter road.
MOST_PIVOTS = 40
# A band whose target has a price below this share of the largest one holds nothing back.
NO_PRICE = 1e-6
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
    swept: Vector | None = None
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
        if fruitless <= FRUITLESS:
            ends = wanted
            continue
        if swept is None:
            swept, charge = prices.copy(), np.zeros_like(prices)
            charge[banded] = tolerance
        _sweep(whole, gradient - whole @ (swept - prices), swept, charge)
        ends, fruitless = np.sign(swept[banded]), 0
    raise np.linalg.LinAlgError("no choice of the ends of bands was found")


def without_idle(prices: Vector, banded: npt.NDArray[np.intp]) -> Vector:
    """Prices `(n_targets,)`, those of bands that hold nothing back exactly zero."""
    found = prices.copy()
    least = NO_PRICE * np.abs(prices).max(initial=0.0)
    found[banded[np.abs(prices[banded]) <= least]] = 0.0
    return found


def slack_of(missed: Vector, prices: Vector, tolerance: Vector) -> Vector:
    """What bands take off the errors of their targets: all that they can where these pay.

    Args:
        missed: Errors of the targets with a band, shape `(n_bands,)`, or a column per program.
        prices: Theirs, of the same shape.
        tolerance: Half the widths, `(n_bands,)` or `(n_bands, 1)`.
    """
    within = np.clip(missed, -tolerance, tolerance)
    return np.where(prices == 0, within, np.sign(prices) * tolerance)


def slope_along(
    direction: Vector,
    gradient: Vector,
    prices: Vector,
    at_kink: Vector,
    banded: npt.NDArray[np.intp],
    tolerance: Vector,
) -> Any:
    """Rise of the dual objective along a direction, a number for each column.

    Args:
        direction: Shape `(n_targets,)`, or a column per program; so are all that follow.
        gradient: Of the smooth part.
        prices: Where it is looked at.
        at_kink: Signs that prices of zero are taken to have.
        banded: Positions of the targets with a band, `(n_bands,)`.
        tolerance: Half the widths, `(n_bands,)` or `(n_bands, 1)`.
    """
    held = prices[banded]
    sign = np.where(held == 0, at_kink[banded], np.sign(held))
    charged = (tolerance * sign * direction[banded]).sum(axis=0)
    return (direction * gradient).sum(axis=0) - charged


def _sweep(curvature: Matrix, slope: Vector, prices: Vector, charge: Vector) -> None:
    # Imported here: loading numba costs half a second, and few problems come so far.
    from microcalibrate.engine.coordinate_sweeps import charged_sweeps

    charged_sweeps(curvature, slope, prices, charge, SWEEPS)
