"""What a study varies, and where: the price of records always, other options where asked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from microcalibrate.errors import InvalidOption
from microcalibrate.selection.drawing import SAMPLED_GATES, SELECTIONS

Range: TypeAlias = tuple[float, float]

# More values than this are a mistake: each costs a dense solve per fold.
MOST_VALUES = 50
KAPPA = 1.0
LISTED = ("closeness", "max_weight_ratio", "selection")


@dataclass(frozen=True)
class Choice:
    """The options of one trial.

    Attributes:
        l0_lambda: Price of records.
        kappa: Price of concentrated weights.
        closeness: Price of distance in the dense solve.
        max_weight_ratio: Greatest calibrated over design weight; None is no bound.
        selection: How records are chosen.
    """

    l0_lambda: float
    kappa: float
    closeness: float
    max_weight_ratio: float | None
    selection: str


@dataclass(frozen=True)
class SearchSpace:
    """Ranges and values that trials choose from; make one with `SearchSpace.checked`.

    Attributes:
        lambda_range: Least and greatest price of records, searched in log.
        kappa: A number, or a range that is searched in log.
        closeness: Values to choose from.
        max_weight_ratio: Values to choose from; None is no bound.
        selection: Ways to choose from.
    """

    lambda_range: Range
    kappa: float | Range
    closeness: tuple[float, ...]
    max_weight_ratio: tuple[float | None, ...]
    selection: tuple[str, ...]

    @classmethod
    def checked(
        cls,
        lambda_min: float = 1e-4,
        lambda_max: float = 1e-1,
        *,
        kappa: float | Iterable[float] | None = None,
        closeness: float | Iterable[float] = 1e-4,
        max_weight_ratio: float | Iterable[float | None] | None = None,
        selection: str | Iterable[str] = "closed_form",
    ) -> SearchSpace:
        """Check ranges and values.

        Args:
            lambda_min: Least price of records, positive.
            lambda_max: Greatest, above that.
            kappa: A number not below 0; a (low, high) range, searched in log; None is 1.
            closeness: One value, or a sequence to choose from.
            max_weight_ratio: One value, or a sequence to choose from.
            selection: One name, or a sequence to choose from.

        Raises:
            InvalidOption: If a range is empty, or a value is out of its range.

        Examples:
            >>> SearchSpace.checked(1e-3, 1.0, kappa=(0.1, 10)).kappa
            (0.1, 10.0)
        """
        low = _positive("lambda_min", lambda_min)
        high = _positive("lambda_max", lambda_max)
        if low >= high:
            raise InvalidOption(
                f"lambda_min={low:g} must be below lambda_max={high:g}: prices are searched "
                "between them."
            )
        prices = [_positive("closeness", value) for value in _values("closeness", closeness)]
        bounds = [
            None if value is None or value == math.inf else _positive("max_weight_ratio", value)
            for value in _values("max_weight_ratio", max_weight_ratio)
        ]
        ways = [str(name) for name in _values("selection", selection)]
        known = [*SELECTIONS, SAMPLED_GATES]
        if unknown := [name for name in ways if name not in known]:
            raise InvalidOption(f"selection={unknown[0]!r} is not known. Use some of {known}.")
        return cls(
            (low, high),
            _checked_kappa(kappa),
            _each_once("closeness", prices),
            _each_once("max_weight_ratio", bounds),
            _each_once("selection", ways),
        )

    @property
    def dense_solves(self) -> int:
        """How many dense solves a fold may need: one per closeness and bound."""
        return len(self.closeness) * len(self.max_weight_ratio)

    def suggested(self, trial: Any) -> Choice:
        """Options that the sampler of an Optuna trial suggests, and the fixed ones."""
        low, high = self.lambda_range
        price = trial.suggest_float("l0_lambda", low, high, log=True)
        kappa = self.kappa
        if isinstance(kappa, tuple):
            kappa = trial.suggest_float("kappa", *kappa, log=True)
        # A few values instead of a range: trials that choose the same one share its dense solves.
        chosen = {
            name: trial.suggest_categorical(name, values) if len(values) > 1 else values[0]
            for name in LISTED
            if (values := getattr(self, name))
        }
        return Choice(l0_lambda=price, kappa=kappa, **chosen)

    def as_plain(self) -> dict[str, Any]:
        """Fixed values as they are, searched ones as lists."""
        low, high = self.lambda_range
        searched = {
            name: list(values) if len(values := getattr(self, name)) > 1 else values[0]
            for name in LISTED
        }
        kappa = list(self.kappa) if isinstance(self.kappa, tuple) else self.kappa
        return {"lambda_min": low, "lambda_max": high, "kappa": kappa, **searched}


def _checked_kappa(kappa: Any) -> float | Range:
    if kappa is None:
        return KAPPA
    if _is_number(kappa):
        if not kappa >= 0:
            raise InvalidOption(f"kappa={kappa!r} must be finite and not negative.")
        return float(kappa)
    try:
        low, high = kappa
    except (TypeError, ValueError) as error:
        raise InvalidOption(
            f"kappa={kappa!r} must be a number, or a (low, high) range to search."
        ) from error
    low, high = _positive("low end of kappa", low), _positive("high end of kappa", high)
    if low >= high:
        raise InvalidOption(f"kappa=({low:g}, {high:g}) is no range: give (low, high).")
    return low, high


def _values(name: str, given: Any) -> list[Any]:
    """One value or several, as a list."""
    if given is None or isinstance(given, str) or _is_number(given):
        return [given]
    try:
        values = list(given)
    except TypeError as error:
        raise InvalidOption(f"{name}={given!r} must be one value, or a list of values.") from error
    if not 1 <= len(values) <= MOST_VALUES:
        raise InvalidOption(
            f"{name} has {len(values)} values to choose from; give 1 to {MOST_VALUES}. A list is "
            "what trials choose from, not one value per record."
        )
    return values


def _each_once(name: str, values: list[Any]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise InvalidOption(f"{name}={values} has a value twice.")
    return tuple(values)


def _is_number(value: Any) -> bool:
    real = isinstance(value, (int, float, np.integer, np.floating))
    return real and not isinstance(value, bool) and not math.isnan(value)


def _positive(name: str, value: Any) -> float:
    if not _is_number(value) or not 0 < value < math.inf:
        raise InvalidOption(f"{name}={value!r} must be a positive number.")
    return float(value)
