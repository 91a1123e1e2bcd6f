"""Choose how many gates of each set stay open, so that a size is met exactly.

The gates of a set stay in a fixed order, so a choice is one count for each set, and the size can
only grow with each count. The search starts where one threshold on all gates would end, and then
goes through other counts, those first that change the fewest and least certain gates.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from l0.errors import InvalidCount

Counts: TypeAlias = NDArray[np.int64]
"""Open gates of each set, shape `(n_sets,)`; or one row for each choice."""

SizesOf: TypeAlias = Callable[[Counts], Counts]
"""Sizes of choices: counts of shape `(n_choices, n_sets)` to whole numbers `(n_choices,)`."""

MAX_EVALUATIONS = 20_000
# A call for many sizes costs little more than a call for one, as long as they fit in the cache.
_BATCH_GROWTH, _LARGEST_BATCH = 16, 1024
_SECTIONS = 9


@dataclass(frozen=True)
class Outcome:
    """How one constraint ended.

    Attributes:
        asked: The largest size that was allowed.
        reached: The size that is left.
        expected_before: The expected size before the gates were settled.
        proven: Whether no other numbers of open gates come nearer to `asked` from below, with
            the gates of each set in the order of their logits.
    """

    asked: int
    reached: int
    expected_before: float
    proven: bool

    @property
    def exact(self) -> bool:
        """Whether the size that is left is the one that was asked for."""
        return self.reached == self.asked


@dataclass(frozen=True)
class Projection:
    """How the gates of a model were settled.

    Attributes:
        metric: What was counted: `"params"`, `"macs"` or `"count"`.
        outcomes: How each constraint ended: under `"model"`, or the names of sets of gates.
        kept: Open gates and all gates of each set, under its name.
    """

    metric: str
    outcomes: Mapping[str, Outcome]
    kept: Mapping[str, tuple[int, int]]

    @property
    def asked(self) -> int:
        """The largest size that was allowed, all constraints together."""
        return sum(outcome.asked for outcome in self.outcomes.values())

    @property
    def reached(self) -> int:
        """The size that is left, all constraints together."""
        return sum(outcome.reached for outcome in self.outcomes.values())

    @property
    def expected_before(self) -> float:
        """The expected size before the gates were settled, all constraints together."""
        return sum(outcome.expected_before for outcome in self.outcomes.values())

    @property
    def exact(self) -> bool:
        """Whether each constraint has exactly the size that was asked for."""
        return all(outcome.exact for outcome in self.outcomes.values())

    @property
    def proven(self) -> bool:
        """Whether each constraint is known to be as near to its size as it can be."""
        return all(outcome.proven for outcome in self.outcomes.values())


@dataclass(frozen=True)
class Choice:
    """How many gates of each set stay open.

    Attributes:
        counts: Open gates of each set, shape `(n_sets,)`.
        size: The size with these counts.
        proven: Whether no other counts have a size that is nearer and not above the budget.
        n_evaluations: How many sizes were worked out.
    """

    counts: Counts
    size: int
    proven: bool
    n_evaluations: int


def nearest_below(
    sizes_of: SizesOf,
    budget: int,
    scores: Sequence[NDArray[np.float64]],
    lower: Counts,
    upper: Counts,
    max_evaluations: int = MAX_EVALUATIONS,
) -> Choice:
    """The counts whose size is the budget, or as near below it as can be found.

    Args:
        sizes_of: Sizes of choices; must not shrink when a count grows.
        budget: The largest size that is allowed.
        scores: For each set the preference for each of its gates, descending. They are compared
            across sets, so they should be of one kind: logits of the chance to be open.
        lower: Smallest allowed counts, shape `(n_sets,)`.
        upper: Largest allowed counts, shape `(n_sets,)`.
        max_evaluations: About how many sizes to work out before the best so far is taken.

    Returns:
        The choice. Of several with the same size, one that changes little.

    Raises:
        InvalidCount: If the size is above the budget even with the smallest counts.

    Examples:
        >>> def parameters(counts):  # of a layer with counts[0] columns and counts[1] rows
        ...     return counts[:, 0] * counts[:, 1]
        >>> scores = [np.array([3.0, 2.0, 1.0]), np.array([5.0, 4.0, 0.0])]
        >>> choice = nearest_below(parameters, 5, scores, np.array([1, 1]), np.array([3, 3]))
        >>> choice.counts.tolist(), choice.size, choice.proven
        ([2, 2], 4, True)
    """
    search = _Search(sizes_of, budget, lower, upper)
    (smallest,) = search.sizes(lower[None])
    if smallest > budget:
        raise InvalidCount(f"{budget} is below the smallest size that can be reached, {smallest}.")
    start, threshold = _threshold_counts(search, scores)
    rings = [
        _Ring(score, low, high, middle, threshold)
        for score, low, high, middle in zip(scores, lower, upper, start, strict=True)
    ]
    pivot, exhaustive = _pivot(search, start, max_evaluations)
    others = [place for place in range(start.size) if place != pivot]
    rows = _by_cost([rings[place] for place in others])
    n_rows = 1
    finished = search.best_size == budget
    while not finished and (exhaustive or search.n_evaluations < max_evaluations):
        batch = list(islice(rows, n_rows))
        finished = not batch
        if batch:
            counts = np.repeat(start[None], len(batch), axis=0)
            counts[:, others] = [[*row] for row in batch]
            _along(search, counts, pivot, rings)
            finished = search.best_size == budget
        n_rows = min(_BATCH_GROWTH * n_rows, _LARGEST_BATCH)
    return Choice(search.best, search.best_size, finished, search.n_evaluations)


@dataclass
class _Search:
    """The sizes that were worked out so far, and the best choice among them."""

    sizes_of: SizesOf
    budget: int
    lower: Counts
    upper: Counts
    n_evaluations: int = 0
    best: Counts = field(default_factory=lambda: np.empty(0, np.int64))
    best_size: int = -1
    best_cost: float = math.inf

    def sizes(self, counts: Counts) -> Counts:
        self.n_evaluations += len(counts)
        return self.sizes_of(counts)

    def offer(self, counts: Counts, size: int, cost: float) -> None:
        """Keep a choice if it is nearer to the budget, or as near at a lower cost."""
        if (size, -cost) > (self.best_size, -self.best_cost):
            self.best, self.best_size, self.best_cost = counts.copy(), size, cost


class _Ring:
    """The counts of one set, those first that change least, and what each of them costs.

    The cost of a count is how far the logits of the gates that change are from the threshold.
    """

    def __init__(
        self, scores: NDArray[np.float64], lowest: int, highest: int, start: int, threshold: float
    ) -> None:
        distance = np.abs(scores[lowest:highest] - threshold)
        middle = start - lowest
        fewer = np.cumsum(distance[:middle][::-1])[::-1]
        more = np.cumsum(distance[middle:])
        self.lowest = lowest
        self.cost = np.concatenate([fewer, [0.0], more])
        steps = np.abs(np.arange(lowest, highest + 1) - start)
        self.order = np.lexsort((steps, self.cost))

    def __len__(self) -> int:
        return self.cost.size

    def cost_at(self, place: int) -> float:
        return float(self.cost[self.order[place]])

    def count_at(self, place: int) -> int:
        return self.lowest + int(self.order[place])


def _threshold_counts(
    search: _Search, scores: Sequence[NDArray[np.float64]]
) -> tuple[Counts, float]:
    """Counts of the largest set of gates above one threshold that is within the budget."""
    free = [
        score[low:high] for score, low, high in zip(scores, search.lower, search.upper, strict=True)
    ]
    n_free = [score.size for score in free]
    set_index = np.repeat(np.arange(len(free)), n_free)
    values = np.concatenate(free)
    # Gates with equal scores come evenly from all sets: an untrained network shrinks in shape.
    depth = np.concatenate([(np.arange(n) + 0.5) / max(n, 1) for n in n_free])
    order = np.lexsort((set_index, depth, -values))

    def counts_of(n_open: int) -> Counts:
        return search.lower + np.bincount(set_index[order[:n_open]], minlength=len(free))

    low, high = 0, values.size
    while low < high:
        # Never `low`, and never nothing between it and `high`.
        trials = np.unique(np.linspace(low, high, _SECTIONS + 1).astype(np.int64)[1:])
        found = search.sizes(np.stack([counts_of(int(trial)) for trial in trials]))
        n_within = np.count_nonzero(found <= search.budget)
        low, high = (
            int(trials[n_within - 1]) if n_within else low,
            int(trials[n_within]) - 1 if n_within < trials.size else high,
        )
    start = counts_of(low)
    search.offer(start, int(search.sizes(start[None])[0]), 0.0)
    threshold = float(values[order[min(low, values.size - 1)]]) if values.size else 0.0
    return start, threshold


def _pivot(search: _Search, start: Counts, max_evaluations: int) -> tuple[int, bool]:
    """The set whose count is found by bisection, and whether all other counts can be tried."""
    widths = search.upper - search.lower + 1
    longest = int(np.argmax(widths))
    n_rows = math.prod(int(width) for width in np.delete(widths, longest))
    if n_rows * (math.ceil(math.log2(widths[longest])) + 1) <= max_evaluations:
        return longest, True
    # Else the one with the smallest steps, which come nearest to the budget.
    movable = np.flatnonzero(widths > 1)
    up = start[movable] < search.upper[movable]
    neighbours = np.repeat(start[None], movable.size, axis=0)
    neighbours[np.arange(movable.size), movable] += np.where(up, 1, -1)
    steps = np.abs(search.sizes(neighbours) - search.sizes(start[None])).astype(np.float64)
    steps[steps == 0] = math.inf
    return int(movable[np.argmin(steps)]), False


def _by_cost(rings: Sequence[_Ring]) -> Iterator[tuple[int, ...]]:
    """All combinations of counts in the order of their summed cost."""
    first = (0,) * len(rings)
    heap = [(0.0, 0, first)]
    while heap:
        cost, n_steps, places = heapq.heappop(heap)
        yield tuple(ring.count_at(place) for ring, place in zip(rings, places, strict=True))
        # Each combination is reached once: from the one with its last non-zero place lower by 1.
        last = max((i for i, place in enumerate(places) if place), default=0)
        for i in range(last, len(rings)):
            ring, place = rings[i], places[i]
            if place + 1 < len(ring):
                more = cost + ring.cost_at(place + 1) - ring.cost_at(place)
                onward = (*places[:i], place + 1, *places[i + 1 :])
                heapq.heappush(heap, (more, n_steps + 1, onward))


def _along(search: _Search, counts: Counts, pivot: int, rings: Sequence[_Ring]) -> None:
    """For each row of counts find the largest count of the pivot within the budget."""

    def sizes(rows: Counts, at: Counts) -> Counts:
        chosen = counts[rows]
        chosen[:, pivot] = at
        return search.sizes(chosen)

    rows = np.arange(len(counts))
    low = np.full(len(counts), search.lower[pivot])
    high = np.full(len(counts), search.upper[pivot])
    reached = sizes(rows, low)
    while True:
        rows = np.flatnonzero((reached < search.budget) & (low < high))
        if not rows.size:
            break
        middle = (low[rows] + high[rows] + 1) // 2
        found = sizes(rows, middle)
        within = found <= search.budget
        low[rows[within]], reached[rows[within]] = middle[within], found[within]
        high[rows[~within]] = middle[~within] - 1
    counts[:, pivot] = low
    for row in np.flatnonzero(reached <= search.budget):
        places = counts[row] - search.lower
        cost = sum(float(ring.cost[place]) for ring, place in zip(rings, places, strict=True))
        search.offer(counts[row], int(reached[row]), cost)
