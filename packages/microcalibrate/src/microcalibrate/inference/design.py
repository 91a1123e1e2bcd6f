"""How a sample was drawn: strata, primary sampling units, finite populations.

A `SurveyDesign` is what users declare. Bound to the records it becomes a `BoundDesign`: one
`Stage` per stage of sampling, in whole numbers, checked once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from microcalibrate.columns import did_you_mean
from microcalibrate.errors import InvalidDesign, InvalidOption

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

LONELY_PSU = ("fail", "certainty", "adjust", "average")


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage of sampling: which unit each record is in, and of which stratum each unit is.

    Attributes:
        unit: Sampling unit of each record, shape `(n_records,)`, from 0.
        stratum: Stratum of each unit, shape `(n_units,)`, from 0.
        n_sampled: Units sampled in each stratum, shape `(n_strata,)`.
        population: Units that there are in each stratum, `(n_strata,)`; inf where units were
            drawn with replacement, or of very many.
        labels: Name of each stratum, for messages.
    """

    unit: Index
    stratum: Index
    n_sampled: Vector
    population: Vector
    labels: tuple[str, ...]

    @property
    def correction(self) -> Vector:
        """One minus the sampling fraction of each stratum: 0 is a stratum taken whole."""
        return np.asarray(1 - self.n_sampled / self.population)

    @property
    def lonely(self) -> Index:
        """Strata of which one unit was sampled, though there are more."""
        return np.flatnonzero((self.n_sampled == 1) & (self.correction > 1e-7))


@dataclass(frozen=True, eq=False)
class BoundDesign:
    """A design with the records that it is of.

    Attributes:
        stages: From the first stage of sampling to the last.
        lonely_psu: What a stratum of one sampled unit adds to a variance.
        is_given: False where nothing was declared, and records count as drawn on their own.
    """

    stages: tuple[Stage, ...]
    lonely_psu: str
    is_given: bool

    def degrees_of_freedom(self, weights: Vector) -> int:
        """Primary sampling units minus strata, of those that have a weight."""
        first = self.stages[0]
        units = np.unique(first.unit[weights != 0])
        return len(units) - len(np.unique(first.stratum[units]))


@dataclass(frozen=True, eq=False)
class SurveyDesign:
    """How the records were drawn, for standard errors.

    Args:
        strata: Column of the data, or labels, shape `(n_records,)`: units were drawn in each
            stratum on its own. None is one stratum.
        psu: Column or labels of the primary sampling units, the clusters drawn first. None: each
            record was drawn on its own. A sequence of columns names the units of several stages,
            from the largest; then `strata` and `fpc` may have one entry a stage too.
        fpc: Column or numbers for the finite population correction: how many units there are in
            the stratum, or, where all are at most 1, the sampling fraction. None: units were
            drawn with replacement, or of very many. A stratum that was taken whole, a certainty
            stratum, has a fraction of 1 and adds nothing to a variance.
        nest: Whether labels of units are unique within their stratum only, so that unit 1 of one
            stratum is not unit 1 of another.
        lonely_psu: What to do where a stratum has one sampled unit of many, whose variance cannot
            be estimated: "fail" says which; "certainty" counts it as taken whole; "adjust"
            counts its whole total, not its distance from a mean; "average" gives it the mean
            variance of the other strata. They are those of R's option `survey.lonely.psu`.

    Raises:
        InvalidOption: If an option is not known, or contradicts another one.

    Examples:
        >>> design = SurveyDesign(strata=["n", "n", "s", "s"], psu=[1, 2, 1, 2], nest=True)
        >>> design.bind(None, 4).degrees_of_freedom(np.ones(4))
        2
    """

    strata: Any = None
    psu: Any = None
    fpc: Any = None
    nest: bool = False
    lonely_psu: str = "fail"

    def __post_init__(self) -> None:
        """Check what can be checked without the records."""
        if self.lonely_psu not in LONELY_PSU:
            raise InvalidOption(
                f"lonely_psu={self.lonely_psu!r} is not known. Use one of {list(LONELY_PSU)}."
            )
        n_stages = max(1, len(_by_stage(self.psu)))
        for name, given in (("strata", self.strata), ("fpc", self.fpc)):
            if len(_by_stage(given)) > n_stages:
                raise InvalidOption(
                    f"{name} has {len(_by_stage(given))} stages, and psu has {n_stages}: name the "
                    "units of every stage in psu."
                )

    def bind(self, data: Any, n_records: int) -> BoundDesign:
        """The design of given records.

        Args:
            data: Table that the columns are of; None where all are arrays.
            n_records: How many records it must have.

        Returns:
            The design in whole numbers.

        Raises:
            InvalidDesign: If a column is missing, has gaps or another length, if units are not
                nested within strata, or more were sampled than there are.
        """
        units = [_labels(one, "psu", data, n_records) for one in _by_stage(self.psu)]
        strata = [_labels(one, "strata", data, n_records) for one in _by_stage(self.strata)]
        sizes = [_sizes(one, data, n_records) for one in _by_stage(self.fpc)]
        # Without a label, each record is a unit of its own, and needs no name.
        units = units or [(np.arange(n_records), ())]
        is_fraction = bool(sizes) and all(bool((size <= 1).all()) for size in sizes)
        stages: list[Stage] = []
        for number, (unit, names) in enumerate(units):
            within = stages[-1].unit if stages else np.zeros(n_records, dtype=np.intp)
            stratum, labels = (
                strata[number]
                if number < len(strata)
                else (np.zeros(n_records, dtype=np.intp), ("all records",))
            )
            stratum, labels = _joined(within, stratum, labels)
            unit = self._nested(unit, names, stratum, labels, nested=number > 0)
            size = sizes[number] if number < len(sizes) else None
            stages.append(_stage(unit, stratum, labels, size, is_fraction))
        given = (self.strata, self.psu, self.fpc)
        return BoundDesign(tuple(stages), self.lonely_psu, any(one is not None for one in given))

    def _nested(
        self,
        unit: Index,
        names: tuple[str, ...],
        stratum: Index,
        labels: tuple[str, ...],
        *,
        nested: bool,
    ) -> Index:
        """Units told apart by their stratum, if labels are unique within strata only."""
        pairs = np.unique(np.column_stack([unit, stratum]), axis=0)
        if names and len(pairs) > len(names) and not self.nest and not nested:
            twice = np.flatnonzero(np.bincount(pairs[:, 0]) > 1)[0]
            places = [labels[one] for one in pairs[pairs[:, 0] == twice, 1][:2]]
            raise InvalidDesign(
                f'psu "{names[twice]}" occurs in stratum "{places[0]}" and in "{places[1]}". If '
                "these are different units with the same label, set nest=True; if not, mend the "
                "strata: a unit lies in one stratum."
            )
        return np.unique(stratum * (unit.max() + 1) + unit, return_inverse=True)[1].astype(np.intp)


def _by_stage(given: Any) -> list[Any]:
    """One entry per stage: several columns, or the columns of an array of two dimensions."""
    if given is None:
        return []
    if isinstance(given, (str, bytes)) or not isinstance(given, (Sequence, np.ndarray)):
        return [given]
    if isinstance(given, np.ndarray) and given.ndim == 2:
        return list(given.T)
    if not isinstance(given, np.ndarray) and len(given) and isinstance(given, tuple):
        return list(given)
    return [given]


def _column(given: Any, what: str, data: Any, n_records: int) -> npt.NDArray[Any]:
    """The values of a column, or the array that was given."""
    if isinstance(given, str):
        names = [] if data is None else list(getattr(data, "columns", data))
        if given not in names:
            raise InvalidDesign(
                f'{what}="{given}" is no column of the data.{did_you_mean(given, map(str, names))}'
                if data is not None
                else f'{what}="{given}" names a column, and no data were given to take it from.'
            )
        given = data[given]
    values = given.to_numpy() if hasattr(given, "to_numpy") else np.asarray(given)
    if values.shape != (n_records,):
        raise InvalidDesign(
            f"{what} has shape {values.shape}, and there are {n_records} records: give one value "
            "per record."
        )
    return np.asarray(values)


def _labels(given: Any, what: str, data: Any, n_records: int) -> tuple[Index, tuple[str, ...]]:
    """Labels as whole numbers, and their names."""
    import pandas as pd

    values = _column(given, what, data, n_records)
    codes, names = pd.factorize(values)
    if (codes < 0).any():
        first = int(np.flatnonzero(codes < 0)[0])
        raise InvalidDesign(
            f"{what} is missing in {int((codes < 0).sum())} records, the first at {first}. Every "
            "record has a place in the design: fill these in."
        )
    return np.asarray(codes, dtype=np.intp), tuple(map(str, names))


def _sizes(given: Any, data: Any, n_records: int) -> Vector:
    try:
        if isinstance(given, (int, float, np.number)):
            sizes = np.full(n_records, float(given))
        else:
            sizes = np.asarray(_column(given, "fpc", data, n_records), dtype=np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidDesign):
            raise
        raise InvalidDesign(f"fpc does not hold numbers: {error}") from error
    if not (sizes > 0).all():
        first = int(np.flatnonzero(~(sizes > 0))[0])
        raise InvalidDesign(
            f"fpc is {sizes[first]:g} at record {first}: it must be a positive number of units, or "
            "a fraction of them."
        )
    return sizes


def _joined(outer: Index, inner: Index, names: tuple[str, ...]) -> tuple[Index, tuple[str, ...]]:
    """Labels within others, counted from 0, with the names of the inner ones."""
    pairs, codes = np.unique(outer * (inner.max() + 1) + inner, return_inverse=True)
    return codes.astype(np.intp), tuple(names[one] for one in pairs % (inner.max() + 1))


def _stage(
    unit: Index, stratum: Index, labels: tuple[str, ...], size: Vector | None, is_fraction: bool
) -> Stage:
    _, first = np.unique(unit, return_index=True)
    of_unit = stratum[first]
    n_sampled = np.bincount(of_unit).astype(np.float64)
    population = np.full(len(n_sampled), np.inf)
    if size is not None:
        low = np.full(len(n_sampled), np.inf)
        high = np.zeros(len(n_sampled))
        np.minimum.at(low, stratum, size)
        np.maximum.at(high, stratum, size)
        if (low != high).any():
            which = int(np.flatnonzero(low != high)[0])
            raise InvalidDesign(
                f'fpc is {low[which]:g} and {high[which]:g} within stratum "{labels[which]}": it '
                "must be one number in a stratum."
            )
        if not is_fraction and (low < 1).any():
            raise InvalidDesign(
                "fpc has numbers above 1 and below 1: give numbers of units throughout, or "
                "fractions throughout."
            )
        population = n_sampled / low if is_fraction else low
        if (population < n_sampled).any():
            which = int(np.flatnonzero(population < n_sampled)[0])
            raise InvalidDesign(
                f'fpc says that stratum "{labels[which]}" has {population[which]:g} units, and '
                f"{n_sampled[which]:g} were sampled. Mend fpc, or the strata."
            )
    return Stage(unit, of_unit, n_sampled, population, labels)
