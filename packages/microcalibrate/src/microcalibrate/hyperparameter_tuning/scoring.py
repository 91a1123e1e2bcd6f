"""How trials are judged: a score with stated weights, the Pareto front, one standard error.

Pure functions of what trials report, one home for each formula. The last rule is that of
Breiman, Friedman, Olshen and Stone (1984, section 3.4.3), in the words of Hastie, Tibshirani and
Friedman (2009, section 7.10).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from microcalibrate.arrays import Vector
from microcalibrate.errors import InvalidOption

Mask = NDArray[np.bool_]

AGGREGATES = ("mean", "median", "worst")
"""Ways in which `aggregated` makes one number of those of the folds."""


@dataclass(frozen=True)
class ScoreWeights:
    """What each part of the balanced score counts; every part is a number in [0, 1].

    A score is read in points of held-out error: with the defaults, halving the records from 20%
    to 10% of all, or bringing ten in a hundred held-out targets within 10%, is worth one point
    (0.01) of mean held-out error. So records are given up as long as they cost little, and the
    last few per cent of them, which save next to nothing, are not bought with error.

    Attributes:
        held_out_error: Weight of the held-out error, not negative.
        beyond_10_percent: Weight of the share of held-out targets missed by 10% or more.
        records: Weight of the share of records kept.

    Raises:
        InvalidOption: If a weight is negative or not a finite number, or if all are zero.

    Examples:
        >>> ScoreWeights(records=0.5)
        ScoreWeights(held_out_error=1.0, beyond_10_percent=0.1, records=0.5)
    """

    held_out_error: float = 1.0
    beyond_10_percent: float = 0.1
    records: float = 0.1

    def __post_init__(self) -> None:
        """Refuse weights that do not make a score."""
        for name, value in self.as_plain().items():
            is_number = isinstance(value, (int, float, np.integer, np.floating))
            if not is_number or isinstance(value, bool) or not 0 <= value < math.inf:
                raise InvalidOption(
                    f"score_weights[{name!r}]={value!r} must be a finite number that is not "
                    "negative; 0 leaves that part out of the score."
                )
        if not any(self.as_plain().values()):
            raise InvalidOption(
                "score_weights are all zero: every trial would be as good. Give one a weight."
            )

    @classmethod
    def of(cls, given: ScoreWeights | Mapping[str, float] | None) -> ScoreWeights:
        """Weights from a mapping by name; parts that it does not name keep their defaults.

        Args:
            given: Mapping from `held_out_error`, `beyond_10_percent` or `records` to a weight;
                None for the defaults.

        Raises:
            InvalidOption: If it is no mapping, a name is not known, or a value is out of range.

        Examples:
            >>> ScoreWeights.of({"beyond_10_percent": 0, "records": 0.2}).as_plain()
            {'held_out_error': 1.0, 'beyond_10_percent': 0, 'records': 0.2}
        """
        if given is None or isinstance(given, cls):
            return given or cls()
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(given, Mapping):
            raise InvalidOption(
                f"score_weights={given!r} must be a mapping from some of {known} to a number."
            )
        if unknown := [name for name in given if name not in known]:
            raise InvalidOption(f"score_weights has no {unknown[0]!r}. There are: {known}.")
        return cls(**given)

    def as_plain(self) -> dict[str, float]:
        """The weights by name, as they are stored with a study."""
        return dataclasses.asdict(self)


def aggregated(values: ArrayLike, how: str) -> float:
    """One number for the values of all folds, of a figure that is better when it is smaller.

    Args:
        values: One value per fold, shape `(n_folds,)`.
        how: "mean", "median" or "worst" (the largest).

    Raises:
        InvalidOption: If `how` is none of these, or a value is missing or not finite.

    Examples:
        >>> [aggregated([0.1, 0.2, 0.6], how) for how in AGGREGATES]
        [0.3, 0.2, 0.6]
    """
    ways: dict[str, Callable[[Vector], Any]] = {
        "mean": np.mean,
        "median": np.median,
        "worst": np.max,
    }
    if how not in ways:
        raise InvalidOption(f"aggregate={how!r} is not known. Use one of {list(AGGREGATES)}.")
    return float(ways[how](_finite("the values of folds", values)))


def standard_error(values: ArrayLike) -> float:
    """Standard error of the mean over folds: `std(values) / sqrt(n_folds)`.

    Folds of targets differ in how hard they are, and that counts in full: with few folds of unlike
    targets it is large.

    Args:
        values: One value per fold, shape `(n_folds,)`; the standard deviation has `n - 1` degrees
            of freedom.

    Returns:
        The standard error, NaN for a single fold.

    Examples:
        >>> standard_error([0.1, 0.2, 0.3])
        0.0577
    """
    array = _finite("the values of folds", values)
    return float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else math.nan


def score(
    held_out_errors: ArrayLike,
    within_10_percent: ArrayLike,
    records: ArrayLike,
    n_records: int,
    weights: ScoreWeights | None = None,
    how: str = "mean",
) -> float:
    """Balanced score of a trial, smaller is better, in units of held-out error.

    `weights.held_out_error * E + weights.beyond_10_percent * B + weights.records * R`, with the
    held-out error `E` and the share `B` of held-out targets missed by 10% or more, both
    aggregated over folds, and the share `R` of records kept, the mean over folds.

    Args:
        held_out_errors: Mean capped error of the held-out targets of each fold, in [0, 1], shape
            `(n_folds,)`.
        within_10_percent: Share of the held-out targets of each fold that are missed by less than
            10%, in [0, 1], shape `(n_folds,)`.
        records: How many records keep weight in each fold, shape `(n_folds,)`.
        n_records: Of how many.
        weights: What each part counts; None for the defaults.
        how: "mean", "median" or "worst" of the folds.

    Raises:
        InvalidOption: If an argument is not finite, or `how` is not known.

    Examples:
        >>> score([0.2, 0.4], [0.5, 0.7], [100, 300], 1_000)
        0.36
    """
    parts = weights or ScoreWeights()
    beyond = 1 - _finite("within_10_percent", within_10_percent)
    share = aggregated(records, "mean") / n_records
    return float(
        parts.held_out_error * aggregated(held_out_errors, how)
        + parts.beyond_10_percent * aggregated(beyond, how)
        + parts.records * share
    )


def pareto_front(errors: ArrayLike, records: ArrayLike) -> Mask:
    """Which trials no other beats: none is as good in both figures and better in one.

    Of trials that are equal in both, the first is kept.

    Args:
        errors: Held-out error of each trial, shape `(n_trials,)`.
        records: Records of each trial, shape `(n_trials,)`.

    Returns:
        Mask of the trials on the front, shape `(n_trials,)`.

    Raises:
        InvalidOption: If the lengths differ, or a value is not finite.

    Examples:
        >>> pareto_front([0.1, 0.2, 0.3, 0.2, 0.2], [900, 500, 600, 400, 400])
        array([ True, False, False,  True, False])
    """
    error, size = _like_long(errors=errors, records=records)
    # From the smallest error on, a trial is beaten unless it has fewer records than all before.
    order = np.lexsort((size, error))
    fewest_before = np.minimum.accumulate(np.concatenate([[np.inf], size[order][:-1]]))
    mask = np.zeros(len(error), dtype=np.bool_)
    mask[order] = size[order] < fewest_before[: len(error)]
    return mask


def best_of(values: ArrayLike, records: ArrayLike) -> int:
    """Position of the smallest value; of equal ones that with the fewest records, then the first.

    Args:
        values: Score or held-out error of each trial, shape `(n_trials,)`, at least one.
        records: Records of each trial, shape `(n_trials,)`.

    Raises:
        InvalidOption: If there is no trial, the lengths differ, or a value is not finite.

    Examples:
        >>> best_of([0.3, 0.2, 0.2], [100, 900, 500])
        2
    """
    value, size = _like_long(values=values, records=records)
    if not value.size:
        raise InvalidOption("there is no trial to choose from.")
    return int(np.lexsort((size, value))[0])


def one_standard_error(
    errors: ArrayLike, standard_errors: ArrayLike, records: ArrayLike, best: int
) -> int:
    """The sparsest trial whose error cannot be told from that of the best one.

    The one-standard-error rule: fewest records among the trials whose held-out error is at most
    that of the best plus its standard error (Breiman et al. 1984, section 3.4.3; Hastie et al.
    2009, section 7.10). Where the standard error is not known (one fold), nothing is added.

    Args:
        errors: Held-out error of each trial, shape `(n_trials,)`.
        standard_errors: Standard error of each, shape `(n_trials,)`; NaN where not known.
        records: Records of each, shape `(n_trials,)`.
        best: Position of the best trial.

    Returns:
        Position of the trial chosen; of those with equally few records the one with the smallest
        error, then the first.

    Raises:
        InvalidOption: If the lengths differ, a value is not finite, or `best` is no position.

    Examples:
        >>> one_standard_error([0.20, 0.22, 0.30], [0.03, 0.01, 0.01], [900, 400, 100], best=0)
        1
    """
    error, size = _like_long(errors=errors, records=records)
    spread = np.nan_to_num(np.asarray(standard_errors, dtype=np.float64), nan=0.0)
    error, spread = _like_long(errors=error, standard_errors=spread)
    if not 0 <= best < len(error):
        raise InvalidOption(f"best={best!r} is no position of {len(error)} trials.")
    order = np.lexsort((error, size))
    within = error[order] <= error[best] + spread[best]
    return int(order[np.argmax(within)])


def _finite(what: str, values: ArrayLike) -> Vector:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise InvalidOption(
            f"{what} must be a list of one finite number or more, not {array.tolist()}."
        )
    return array


def _like_long(**given: ArrayLike) -> tuple[Vector, Vector]:
    (one, first), (other, second) = (
        (name, np.asarray(values, dtype=np.float64)) for name, values in given.items()
    )
    if first.ndim != 1 or first.shape != second.shape:
        raise InvalidOption(
            f"{one} and {other} have shapes {first.shape} and {second.shape}; "
            "each must be one number per trial."
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InvalidOption(f"{one} and {other} must be finite: leave unfinished trials out.")
    return first, second
