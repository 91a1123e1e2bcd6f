"""Exactly k of the highest scores under wishes: must-keep items, groups, and quotas of strata.

Pure NumPy, like `l0.selection`. Of all sets that satisfy the wishes, the one with the highest sum
of scores is taken: without wishes these are the k highest scores. With logits as scores it is the
most likely set of active gates, as the log-odds of independent gates add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeAlias, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l0.errors import InvalidCount, InvalidSetting, ShapeMismatch, UnreachableCount
from l0.selection.draws import Indices, Rng, finite_vector
from l0.selection.knapsack import best_of_total

Quota: TypeAlias = int | tuple[int, int]
Quotas: TypeAlias = Quota | Mapping[Any, Quota] | Literal["proportional"]
Mask: TypeAlias = NDArray[np.bool_]


class Wishes(TypedDict, total=False):
    """What a selection must satisfy beside its count; every entry may be left out.

    Attributes:
        keep: Positions of items that are selected in any case.
        groups: A label for each item; items of one label are taken or left together.
        strata: A label for each item; a group lies in one stratum.
        quotas: How many to take of each stratum: a mapping from its label to a count or to a pair
            (fewest, most), strata that are not named being free; or one count or pair for all
            strata, so that `(0, 1)` means at most one of each; or `"proportional"` to their sizes.
        count: Whether k and quotas count `"items"` or `"groups"`; items if left out.
    """

    keep: ArrayLike | None
    groups: ArrayLike | None
    strata: ArrayLike | None
    quotas: Quotas | None
    count: Literal["items", "groups"]


def constrained_top_k(
    scores: ArrayLike, k: int, *, rng: Rng = 0, **wishes: Unpack[Wishes]
) -> Indices:
    """Positions of the k items with the highest sum of scores among all sets that obey the wishes.

    Without groups of several items this is found by rank; with them, by a table over the reachable
    counts, in time proportional to groups times k. Ties are broken evenly over the data.

    Args:
        scores: Any finite scores, shape `(n_items,)`: logits, probabilities, sizes.
        k: How many to select, in items or in groups (`count`).
        rng: Generator or seed, used only to break ties.
        **wishes: Must-keep items, groups and quotas, as in `Wishes`.

    Returns:
        Positions, ascending: exactly `k` of them, or those of exactly `k` groups.

    Raises:
        UnreachableCount: If no set that obeys the wishes has `k` items. Its `below` and `above`
            are the nearest counts that can be reached.
        InvalidCount: If a quota asks for more than its stratum has, or `keep` for more than `k`
            or than a quota.
        InvalidSetting: If `keep` names an item twice or one that does not exist, a quota an unknown
            stratum, or a group lies in two strata.
        ShapeMismatch: If there is not one label for each item.

    Examples:
        >>> scores = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
        >>> constrained_top_k(scores, 3, keep=[5]).tolist()
        [0, 1, 5]
        >>> constrained_top_k(scores, 3, strata=list("aaabbb"), quotas={"b": 2}).tolist()
        [0, 3, 4]
        >>> constrained_top_k(scores, 2, strata=list("aabbcc"), quotas=(0, 1)).tolist()
        [0, 2]
        >>> constrained_top_k(scores, 3, groups=list("aabbbc")).tolist()
        [0, 1, 5]
    """
    values = finite_vector(scores, "score")
    bundles = Bundles.of(values.size, **wishes)
    return bundles.items(bundles.best(bundles.total(values), k, rng=rng))


def path(
    scores: ArrayLike, ks: Iterable[int], *, rng: Rng = 0, **wishes: Unpack[Wishes]
) -> dict[int, Indices]:
    """Nested selections: each smaller one is chosen within the next larger one.

    The largest is `constrained_top_k`. Without groups of several items, so is each of the others,
    up to ties.

    Args:
        scores: As in `constrained_top_k`.
        ks: Counts, in any order.
        rng: Generator or seed, used only to break ties.
        **wishes: As in `constrained_top_k`. Proportional quotas are worked out for each count.

    Returns:
        Positions for each count, in the order of `ks`.

    Raises:
        L0Error: As in `constrained_top_k`, for any of the counts.

    Examples:
        >>> {k: chosen.tolist() for k, chosen in path([0.1, 0.9, 0.5, 0.7], [1, 2, 3]).items()}
        {1: [1], 2: [1, 3], 3: [1, 2, 3]}
    """
    values = finite_vector(scores, "score")
    bundles = Bundles.of(values.size, **wishes)
    wanted = list(ks)
    worth = bundles.total(values)
    among = np.ones(bundles.size.size, dtype=np.bool_)
    chosen: dict[int, Indices] = {}
    for k in sorted(set(wanted), reverse=True):
        best = bundles.best(worth, k, among=among, rng=rng)
        among = np.zeros_like(among)
        among[best] = True
        chosen[k] = bundles.items(best)
    return {k: chosen[k] for k in wanted}


def apportion(sizes: ArrayLike, k: int) -> Indices:
    """Shares of k seats in proportion to sizes, in whole numbers that sum to exactly k.

    The method of Sainte-Laguë (1910), with divisors 1, 3, 5, …: no share falls when k grows, so
    that proportional selections can be nested, and none is larger than its size while k is at
    most the sum of the sizes. Ties go to the first.

    Args:
        sizes: Whole numbers, at least 0, shape `(n_strata,)`.
        k: Number of seats, from 0 to the sum of the sizes.

    Returns:
        Seats, shape `(n_strata,)`.

    Raises:
        InvalidCount: If `k` is out of that range.

    Examples:
        >>> apportion([53, 24, 23], 10).tolist()
        [6, 2, 2]
    """
    size = np.asarray(sizes, dtype=np.int64)
    total = int(size.sum())
    if not 0 <= k <= total:
        raise InvalidCount(f"{k} of {total} items are to be shared out. Ask for 0 to {total}.")
    # Rounded shares of so few seats that they cannot sum to more than k: these are certain.
    seats = np.maximum(np.ceil(size * (k - size.size / 2) / max(total, 1) - 0.5), 0)
    seats = seats.astype(np.int64)
    for _ in range(k - int(seats.sum())):
        seats[np.argmax(size / (2 * seats + 1))] += 1
    return seats


@dataclass(frozen=True)
class Bundles:
    """What can be taken or left as one, under checked wishes: groups, or single items.

    Attributes:
        of_item: Unit of each item, shape `(n_items,)`.
        size: What each bundle counts, shape `(n_bundles,)`.
        stratum: Number of each bundle's stratum, shape `(n_bundles,)`.
        keep: Bundles that are taken in any case.
        strata: Labels of the strata.
        quotas: As in `Wishes`.
    """

    of_item: Indices
    size: Indices
    stratum: Indices
    keep: Mask
    strata: list[Any]
    quotas: Quotas | None

    @classmethod
    def of(
        cls,
        n_items: int,
        *,
        keep: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        strata: ArrayLike | None = None,
        quotas: Quotas | None = None,
        count: str = "items",
    ) -> Self:
        """Bundles of `n_items` items under the wishes, which are checked here and then trusted."""
        if count not in ("items", "groups") or (count == "groups" and groups is None):
            raise InvalidSetting(
                f"`count` is {count!r}, but must be 'items', or 'groups' together with `groups`."
            )
        if (strata is None) != (quotas is None):
            raise InvalidSetting("`strata` and `quotas` are wishes only together. Give both.")
        of_item = np.arange(n_items)
        stratum_of_item, labels = np.zeros(n_items, dtype=np.int64), ["all"]
        if groups is not None:
            of_item, _ = _codes(groups, n_items, "groups")
        if strata is not None:
            stratum_of_item, labels = _codes(strata, n_items, "strata")
        n_bundles = int(of_item.max(initial=-1)) + 1
        stratum = np.zeros(n_bundles, dtype=np.int64)
        stratum[of_item] = stratum_of_item
        astray = np.flatnonzero(stratum[of_item] != stratum_of_item)
        if astray.size:
            raise InvalidSetting(
                f"the group of item {astray[0]} lies in more than one stratum. Make the strata "
                "coarser, or split the group."
            )
        kept = np.zeros(n_bundles, dtype=np.bool_)
        kept[of_item[_positions(keep, n_items)]] = True
        if isinstance(quotas, Mapping):
            for label in quotas:
                if label not in labels:
                    raise InvalidSetting(
                        f"there is a quota for stratum {label!r}, but no item has that label. "
                        f"Strata are {', '.join(map(repr, labels[:8]))}."
                    )
        elif isinstance(quotas, str) and quotas != "proportional":
            raise InvalidSetting(f"`quotas` is {quotas!r}; the only word for it is 'proportional'.")
        ones = np.ones(n_bundles, dtype=np.int64)
        size = ones if count == "groups" else np.bincount(of_item, minlength=n_bundles)
        return cls(of_item, size, stratum, kept, labels, quotas)

    def total(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the items' values in each bundle."""
        sums = np.bincount(self.of_item, weights=values, minlength=self.size.size)
        return sums.astype(np.float64)  # without items, they would be whole numbers

    def items(self, chosen: Indices) -> Indices:
        """Positions of the items of the chosen bundles, ascending."""
        mask = np.zeros(self.size.size, dtype=np.bool_)
        mask[chosen] = True
        return np.flatnonzero(mask[self.of_item])

    def bounds(self, k: int) -> tuple[Indices, Indices]:
        """Fewest and most to take of each stratum when `k` are taken in all."""
        holds = np.bincount(self.stratum, weights=self.size, minlength=len(self.strata))
        holds = holds.astype(np.int64)
        if isinstance(self.quotas, str):
            shares = apportion(holds, k)
            return shares, shares
        low, high = np.zeros_like(holds), holds.copy()
        given = self.quotas
        for code, label in enumerate(self.strata):
            quota = given.get(label) if isinstance(given, Mapping) else given
            if quota is None:
                continue
            fewest, most = (quota, quota) if isinstance(quota, int | np.integer) else quota
            if not 0 <= fewest <= most or fewest > holds[code]:
                raise InvalidCount(
                    f"the quota of stratum {label!r} is {quota}, and it has {holds[code]}. "
                    f"Ask for 0 to {holds[code]}, the fewest before the most."
                )
            low[code], high[code] = fewest, min(most, holds[code])
        return low, high

    def parts(self, bundles: Indices) -> list[Indices]:
        """The given bundles of each stratum."""
        home = self.stratum[bundles]
        return [bundles[home == code] for code in range(len(self.strata))]

    def divided(self, k: int, n_first: int) -> tuple[Self, Indices]:
        """Quotas of a first part of `k`, and how many of each stratum are left to the second part.

        Both parts have the strata in proportion. Strata without a quota are made one.

        Raises:
            InvalidSetting: If a quota has two ends, or bundles differ in size, so that the second
                part would not have a known number of each stratum.
            InvalidCount: If the quotas do not leave exactly `k`.
        """
        low, high = self.bounds(k)
        holds = np.bincount(self.stratum, weights=self.size, minlength=low.size).astype(np.int64)
        free = (low == 0) & (high == holds)
        loose = np.flatnonzero(~free & (low != high))
        if loose.size or (self.size > 1).any():
            what = f"stratum {self.strata[loose[0]]!r} has a range" if loose.size else "groups do"
            raise InvalidSetting(
                f"of a part that is drawn at random {what} not fix the number. Give exact quotas, "
                "and `count='groups'` with groups."
            )
        number = np.where(free, 0, np.cumsum(~free))
        totals = np.bincount(number, weights=np.where(free, 0, low)).astype(np.int64)
        totals[0] = k - totals.sum()
        if not 0 <= totals[0] <= holds[free].sum():
            raise InvalidCount(
                f"quotas take {k - totals[0]} of {k}, and {holds[free].sum()} items have no quota. "
                "Change the count, or a quota."
            )
        first = apportion(totals, n_first)
        labels = [
            ("no quota",),  # no label of the data
            *(label for label, is_free in zip(self.strata, free, strict=True) if not is_free),
        ]
        parts = replace(
            self,
            stratum=number[self.stratum],
            strata=labels,
            quotas=dict(zip(labels, first.tolist(), strict=True)),
        )
        return parts, totals - first

    def best(
        self, worth: NDArray[np.float64], k: int, *, among: Mask | None = None, rng: Rng = 0
    ) -> Indices:
        """Bundles of the highest total worth that count exactly `k`: `constrained_top_k`."""
        total = int(self.size.sum())
        if not 0 <= k <= total:
            raise InvalidCount(f"{k} of {total} are asked for. Ask for 0 to {total}.")
        low, high = self.bounds(k)
        spent = np.bincount(self.stratum[self.keep], self.size[self.keep], len(self.strata))
        spent = spent.astype(np.int64)
        over = np.flatnonzero(spent > high)
        if over.size or spent.sum() > k:
            where = f"stratum {self.strata[over[0]]!r}" if over.size else "all"
            most = high[over[0]] if over.size else k
            raise InvalidCount(
                f"`keep` takes {spent[over[0]] if over.size else spent.sum()} in {where}, where at "
                f"most {most} are to be taken. Keep fewer, or ask for more."
            )
        free = ~self.keep if among is None else among & ~self.keep
        rest = np.flatnonzero(free)
        parts = [np.flatnonzero(self.stratum[rest] == code) for code in range(len(self.strata))]
        bounds = np.maximum(low - spent, 0), high - spent
        more, reached = best_of_total(
            worth[rest], self.size[rest], parts, bounds, k - int(spent.sum()), rng
        )
        if more is None:
            below, above = (None if r is None else r + int(spent.sum()) for r in reached)
            nearest = " or ".join(str(r) for r in (below, above) if r is not None)
            raise UnreachableCount(
                f"no selection that obeys the wishes has {k}. "
                + (f"Ask for {nearest}, or loosen a quota." if nearest else "Loosen a quota."),
                below=below,
                above=above,
            )
        return np.sort(np.concatenate([np.flatnonzero(self.keep), rest[more]]))


def _codes(labels: ArrayLike, n_items: int, name: str) -> tuple[Indices, list[Any]]:
    """The number of each item's label, and the labels in order of first use."""
    values = np.asarray(labels)
    if values.shape != (n_items,):
        raise ShapeMismatch(
            f"`{name}` has shape {values.shape}. Give one label for each of {n_items} items."
        )
    number: dict[Any, int] = {}
    codes = [number.setdefault(label, len(number)) for label in values.tolist()]
    return np.array(codes, dtype=np.int64), list(number)


def _positions(keep: ArrayLike | None, n_items: int) -> Indices:
    wanted = np.asarray([] if keep is None else keep)
    if wanted.size == 0:
        return np.empty(0, dtype=np.int64)
    if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
        raise InvalidSetting(
            "`keep` has positions: whole numbers. `np.flatnonzero(mask)` has them."
        )
    if wanted.min() < 0 or wanted.max() >= n_items:
        raise InvalidSetting(
            f"`keep` has position {wanted.max() if wanted.min() >= 0 else wanted.min()}, but items "
            f"are numbered from 0 to {n_items - 1}."
        )
    values, times = np.unique(wanted, return_counts=True)
    if times.max() > 1:
        raise InvalidSetting(f"`keep` has position {values[times.argmax()]} twice. Name it once.")
    return values.astype(np.int64)
