"""Fresh ids for generated records: unique, new, and of the type that the table has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.errors import InvalidSurvey

if TYPE_CHECKING:
    from microcalibrate.regularise.survey import Survey

LARGEST_EXACT = {"f2": 2**11, "f4": 2**24, "f8": 2**53}
"""Up to here a float of that type holds every whole number."""


class Identifiers:
    """Ids that no record of a survey has, and that are given out once.

    Numbers go on from the largest one; where the type has no room above it, the smallest unused
    ones are taken. Text is `mc<round>-` and a number in nine digits, so that ids sort as they
    were given out.

    Examples:
        >>> from microcalibrate.datasets import load_cps_households
        >>> survey = load_cps_households()
        >>> fresh = Identifiers.of(survey).fresh("household", 2)
        >>> set(fresh) & set(survey.unit_ids)
        set()
    """

    def __init__(self, used: dict[str, pd.Series[Any]], limits: dict[str, int]) -> None:
        """Keep the ids in use and the largest number for each entity."""
        self._used = {name: set(stored.to_numpy(dtype=object)) for name, stored in used.items()}
        self._dtypes = {name: stored.dtype for name, stored in used.items()}
        self._is_text = {
            name: pd.api.types.infer_dtype(stored) == "string" for name, stored in used.items()
        }
        self._limits = limits

    @classmethod
    def of(cls, survey: Survey) -> Identifiers:
        """Ids that are new to a survey, and fit into its id columns and the links to them."""
        used, limits = {}, {}
        for entity in survey.schema.entities:
            used[entity.name] = survey.tables[entity.name][entity.id_column]
            stored = [used[entity.name].dtype] + [
                survey.tables[other.name][link.name].dtype
                for other in survey.schema.entities
                for link in other.of_kind("link")
                if link.to == entity.name
            ]
            limits[entity.name] = min(map(_largest, stored))
        return cls(used, limits)

    def fresh(self, entity: str, n: int, *, round: int = 1) -> npt.NDArray[Any]:
        """Ids that were never used and never given out.

        Args:
            entity: Entity that they are for.
            n: How many.
            round: Number of the round of generation; it is part of ids that are text.

        Returns:
            The ids in ascending order, shape `(n,)`, of the type of the id column (objects where
            that is text).

        Raises:
            InvalidSurvey: If the type of the column has no room for so many.
        """
        used = self._used[entity]
        if self._is_text[entity]:
            ids: Any = self._texts(used, n, round)
        else:
            ids = self._numbers(entity, used, n)
        used.update(ids)
        if self._is_text[entity]:
            return np.array(ids, dtype=object)
        dtype = self._dtypes[entity]
        plain: Any = getattr(dtype, "numpy_dtype", dtype)
        return np.array(ids, dtype=plain)

    def _texts(self, used: set[Any], n: int, round: int) -> list[str]:
        stem, start = f"mc{round}-", 1
        while f"{stem}{start:09d}" in used:
            start *= 2
        # Between the last power of two and its half lies the first free number of a full run.
        low, high = start // 2, start
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if f"{stem}{middle:09d}" in used else (low, middle)
        ids = [f"{stem}{number:09d}" for number in range(high, high + n)]
        if used.isdisjoint(ids):
            return ids
        free = (f"{stem}{number:09d}" for number in range(1, 10**9))
        return [text for text, _ in zip((t for t in free if t not in used), range(n), strict=False)]

    def _numbers(self, entity: str, used: set[Any], n: int) -> npt.NDArray[np.int64]:
        limit = self._limits[entity]
        taken = np.fromiter((int(number) for number in used), dtype=np.int64, count=len(used))
        start = max(int(taken.max(initial=0)), 0) + 1
        if start + n - 1 <= limit:
            return np.arange(start, start + n, dtype=np.int64)
        # As many candidates as there are ids in use and wanted must have enough free ones.
        candidates = np.arange(1, min(limit, len(taken) + n) + 1, dtype=np.int64)
        free = np.setdiff1d(candidates, taken)[:n]
        if len(free) < n:
            raise InvalidSurvey(
                f"the ids of {entity!r} are of type {self._dtypes[entity]}, which has no room for "
                f"{n} more. Store them, and the links to them, in a wider type."
            )
        return free


def _largest(dtype: Any) -> int:
    plain = getattr(dtype, "numpy_dtype", dtype)
    if getattr(plain, "kind", "O") in "iu":
        return min(int(np.iinfo(plain).max), 2**63 - 1)
    if getattr(plain, "kind", "O") == "f":
        return LARGEST_EXACT.get(plain.str[1:], 2**53)
    return 2**63 - 1
