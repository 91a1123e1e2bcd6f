"""Train a gated network down to a size, and end with exactly that size.

A budget is a constraint on the expected size, not a price: with s the expected share of the
network that is left and t the share that is wanted, training seeks

    min over weights and gates, max over m >= 0, of    loss + m * (s - t).

The multiplier m rises while the network is too large, and returns to 0 once it is small enough
(Gallego-Posada et al. 2022, "Controlled Sparsity via Constrained Optimization",
https://arxiv.org/abs/2208.04425). In the end a projection settles the gates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from l0.errors import InvalidCount, InvalidSetting
from l0.projection import MAX_EVALUATIONS, Outcome, Projection, nearest_below
from l0.schedule import Schedule, Shape
from l0.sized_gates import Order, Part, SizedGates, chances, part_of_set, sized_gates, whole
from l0.sizes import METRICS, Metric

Wish: TypeAlias = float | Mapping[str, float]
"""A number for the whole model, or for each set of gates that a pattern names."""

# Note [Steps of a multiplier]: with e = log(s / t), a multiplier m changes by
#
#     dual_lr * max(1, highest m so far) * (e + LOOKAHEAD * (e now - e a step ago)).
#
# Logarithms of sizes and steps in proportion to m make the same settings good for limits of half
# and of a hundredth of a network, and for losses of any scale; a restart loses m, but not its
# scale. Logits move slowly, so m would rise for as long as they are on their way, and then shut
# far too many gates. So what counts is not e, but what it will be LOOKAHEAD steps later at the
# pace of this step: the derivative term of a controller (compare nuPI: Sohrabi et al. 2024,
# https://arxiv.org/abs/2406.04558).
DUAL_LR = 0.02
LOOKAHEAD = 100


class Budget(nn.Module):
    """A limit on the size of a gated network, met in expectation by training and then exactly.

    Add `loss()` to the loss, call `step()` after each step of the optimiser, and `project()` in
    the end. The model is not a part of the budget: give both to a checkpoint. A loaded state has
    multipliers, steps and limits of the run that it continues.

    Sizes of a network made by `convert` know that a unit takes its row and its column along. In
    a network built out of gated layers, each gate switches its own parameters, and multiplications
    are not known. A limit for single sets counts what their gates switch while all others are
    open; sets without a limit are settled as evaluation mode has them.

    Args:
        model: A network with gates. Gates that are added later are not seen.
        density: Share of `metric` that may stay, in `(0, 1]`. Give exactly one of the four: a
            number for the whole model, or one for each set of gates in a mapping with names of
            layers or patterns as in `fnmatch`: `count={"fc1": 219, "fc*": 100}`.
        count: Gates that may stay open.
        params: Parameters that may stay. Those without gates count too, except in a mapping.
        macs: Multiplications for one example that may stay; in the same way.
        metric: What `density` is a share of: `"params"` (if not given), `"macs"` or `"count"`.
        warmup_steps: Over how many steps the limit goes from the dense network to the budget.
        schedule: How it goes there: the shape of a `Schedule`, such as `"linear"` or `"cubic"`.
        dual_lr: How fast multipliers change. The default is meant for networks, limits and
            losses of any scale: see Note [Steps of a multiplier].
        restart: Whether a multiplier returns to 0 as soon as its limit is met. Without it, gates
            go on shutting until the multiplier has fallen as slowly as it has risen.
        min_open: Gates that stay open in each set at least.

    Raises:
        InvalidSetting: If not exactly one limit is given, or a setting is out of range, or a
            pattern names no set of gates, or two name the same one.
        InvalidCount: If a limit is above the size of the network, or below what can be reached.

    Examples:
        >>> from l0.layers import L0Linear
        >>> net = nn.Sequential(L0Linear(20, 10), nn.ReLU(), L0Linear(10, 2))
        >>> budget = Budget(net, count=12)
        >>> optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     loss = net(torch.ones(8, 20)).square().mean() + budget.loss()
        ...     loss.backward()
        ...     optimizer.step()
        ...     budget.step()
        >>> projection = budget.project()
        >>> projection.reached, projection.exact
        (12, True)
    """

    asked: Tensor
    multipliers: Tensor
    peaks: Tensor
    last_log: Tensor
    n_steps: Tensor
    warmup_steps: Tensor
    dual_lr: Tensor
    projected: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        density: Wish | None = None,
        count: Wish | None = None,
        params: Wish | None = None,
        macs: Wish | None = None,
        metric: Metric | None = None,
        warmup_steps: int = 0,
        schedule: str | Shape = "linear",
        dual_lr: float = DUAL_LR,
        restart: bool = True,
        min_open: int = 1,
    ) -> None:
        super().__init__()
        wishes = {"density": density, "count": count, "params": params, "macs": macs}
        given = {name: wish for name, wish in wishes.items() if wish is not None}
        if len(given) != 1:
            raise InvalidSetting(
                f"{' and '.join(given) or 'no limit'} given. Give exactly one of "
                f"{', '.join(wishes)}."
            )
        ((kind, wish),) = given.items()
        self.metric = _metric_of(kind, metric)
        for name, number in {"warmup_steps": warmup_steps, "min_open": min_open}.items():
            if not (number >= 0 and number == int(number)):
                raise InvalidSetting(f"`{name}` is {number}; give a whole number, 0 or more.")
        if not 0 < dual_lr < math.inf:
            raise InvalidSetting(f"`dual_lr` is {dual_lr}, but must be positive and finite.")
        _ = Schedule(1.0, 0.5, warmup_steps, schedule)  # It checks the shape.
        self.schedule, self.restart, self.min_open = schedule, bool(restart), int(min_open)
        # In a tuple, so that the model does not become a part of this module.
        self._row: tuple[SizedGates] = (sized_gates(model),)
        self._parts, limits = self._constrain(wish, kind == "density")
        device = self._gates.gates[0].log_alpha.device

        def buffer(name: str, values: Sequence[float] | float, dtype: torch.dtype) -> None:
            self.register_buffer(name, torch.tensor(values, dtype=dtype, device=device))

        buffer("asked", limits, torch.int64)
        buffer("multipliers", [0.0] * len(limits), torch.float64)
        buffer("peaks", [1.0] * len(limits), torch.float64)
        buffer("last_log", [math.nan] * len(limits), torch.float64)
        buffer("n_steps", 0, torch.int64)
        buffer("warmup_steps", warmup_steps, torch.int64)
        buffer("dual_lr", dual_lr, torch.float64)
        buffer("projected", False, torch.bool)
        self._seen: Tensor | None = None
        self._row_now: Tensor | None = None
        self._arrived = False

    def loss(self) -> Tensor:
        """What to add to the loss: the multipliers times what is above the limits.

        Returns:
            A scalar, differentiable in the logits; 0 once the gates are settled.
        """
        first = self._gates.gates[0].log_alpha
        dtype = torch.promote_types(first.dtype, torch.float32)
        if self.projected:
            return torch.zeros((), dtype=dtype, device=first.device)
        excess = self._excess()
        self._seen = excess.detach()
        return (self.multipliers.to(excess.device) * excess).sum().to(dtype)

    @torch.no_grad()
    def step(self) -> None:
        """Go on by a step: raise or restart the multipliers, and move on along the schedule.

        Takes the sizes that the last `loss()` has seen. Does nothing once the gates are settled.
        """
        if self.projected:
            return
        excess = (self._excess() if self._seen is None else self._seen).to(self.multipliers.device)
        self._seen = None
        # A size that rounds to zero has no logarithm.
        share = (1 + excess / self._target_row().to(excess.device)).clamp(min=1e-6)
        excess_log = share.log()
        before = torch.where(self.last_log.isnan(), excess_log, self.last_log)
        ahead = excess_log + LOOKAHEAD * (excess_log - before)
        self.last_log.copy_(excess_log)
        self.multipliers.add_(self.dual_lr * self.peaks * ahead).clamp_(min=0.0)
        self.peaks.copy_(torch.maximum(self.peaks, self.multipliers))
        if self.restart:
            self.multipliers.masked_fill_(excess <= 0, 0.0)
        self.n_steps.add_(1)
        if not self._arrived:
            self._row_now = None

    def targets(self) -> dict[str, float]:
        """Share of the dense size that each constraint allows at this step of the schedule."""
        return dict(zip((part.name for part in self._parts), self._targets(), strict=True))

    @torch.no_grad()
    def expected(self) -> dict[str, float]:
        """Expected share of the dense size that is left now, for each constraint."""
        row = chances(self._gates)
        return {part.name: part.size(row).item() / part.total for part in self._parts}

    @torch.no_grad()
    def project(self, *, max_evaluations: int = MAX_EVALUATIONS) -> Projection:
        """Settle all gates so that the size that is left is the budget, or the nearest below it.

        In each set the gates with the highest logits stay; how many, a search decides, from what
        one threshold on the chance to be open would leave. The values of gates that stay open go
        into the weights; gates that belong to no weight become 1. After that only weights can be
        trained.

        Args:
            max_evaluations: About how many sizes to work out for a limit. With 0 the gates above
                one threshold stay, whose size is somewhat below the limit.

        Returns:
            What was asked, what was reached and what was kept.

        Raises:
            InvalidCount: If a limit cannot be reached any more, as the gates that come first in
                their sets switch more than others.
        """
        order, now = Order(self._gates, self.min_open), chances(self._gates)
        counts = np.clip(order.active, order.lower, order.upper)
        proven = []
        for part, asked in zip(self._parts, self.asked.tolist(), strict=True):
            choice = nearest_below(
                order.sizes_of(part),
                asked,
                [order.scores[place] for place in part.sets],
                order.lower[part.sets],
                order.upper[part.sets],
                max_evaluations,
            )
            counts[part.sets] = choice.counts
            proven.append(choice.proven)
        mask = order.mask(counts)
        outcomes = {
            part.name: Outcome(
                asked, round(part.size(mask.double()).item()), part.size(now).item(), is_proven
            )
            for part, asked, is_proven in zip(self._parts, self.asked.tolist(), proven, strict=True)
        }
        self._gates.settle(mask)
        self.multipliers.zero_()
        self.projected.fill_(True)
        kept = zip(counts.tolist(), map(len, order.scores), strict=True)
        return Projection(self.metric, outcomes, dict(zip(self._gates.names, kept, strict=True)))

    def extra_repr(self) -> str:
        """Settings, for `print(budget)`."""
        limits = dict(zip((part.name for part in self._parts), self.asked.tolist(), strict=True))
        return f"{self.metric}={limits}, warmup_steps={int(self.warmup_steps)}"

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._row_now = self._seen = None

    @property
    def _gates(self) -> SizedGates:
        return self._row[0]

    def _targets(self) -> list[float]:
        """Share of the dense size that each constraint allows now."""
        n_steps, length = int(self.n_steps), int(self.warmup_steps)
        return [
            Schedule(1.0, asked / part.total, length, self.schedule).at(n_steps)
            for asked, part in zip(self.asked.tolist(), self._parts, strict=True)
        ]

    def _excess(self) -> Tensor:
        """Expected share above the allowed one, for each constraint."""
        row = chances(self._gates)
        shares = torch.stack([part.size(row) / part.total for part in self._parts])
        return shares - self._target_row().to(shares.device)

    def _target_row(self) -> Tensor:
        """The same as `_targets`, worked out once for each step, and once for all at the end."""
        if self._row_now is None:
            self._row_now = self.multipliers.new_tensor(self._targets())
            self._arrived = bool(self.n_steps >= self.warmup_steps)
        return self._row_now

    def _constrain(self, wish: Wish, is_share: bool) -> tuple[list[Part], list[int]]:
        """What a wish limits, and the limits."""
        order = Order(self._gates, self.min_open)
        if isinstance(wish, Mapping):
            pairs = [
                (part_of_set(self._gates, place, self.metric), number)
                for place, number in _matched(wish, self._gates.names)
            ]
        else:
            pairs = [(whole(self._gates, self.metric), wish)]
        limits = [self._limit(part, number, is_share, order) for part, number in pairs]
        return [part for part, _ in pairs], limits

    def _limit(self, part: Part, number: float, is_share: bool, order: Order) -> int:
        """A limit as a whole number, checked against what can be reached."""
        what = f"`density` of {part.name!r}" if is_share else f"{self.metric} of {part.name!r}"
        if not (isinstance(number, Real) and math.isfinite(number)):
            raise InvalidSetting(f"{what} is {number!r}; give a number.")
        if is_share and not 0 < number <= 1:
            raise InvalidSetting(f"{what} is {number}, but a share is above 0 and at most 1.")
        if not is_share and not (number > 0 and number == int(number)):
            raise InvalidSetting(f"{what} is {number}; give a whole number above 0.")
        # 0.3 * 10 is a little less than 3.
        limit = math.floor(round(number * part.total, 6)) if is_share else int(number)
        lowest, highest = order.reachable(part)
        lowest = max(lowest, 1)
        if not lowest <= limit <= round(part.total):
            open_gates = (
                "each gate shut" if self.min_open == 0 else f"{self.min_open} open in each set"
            )
            raise InvalidCount(
                f"a limit of {limit} {self.metric} for {part.name!r} is not between {lowest}, what "
                f"is left with {open_gates}, and {highest}, the size with all gates open. Take a "
                "limit in between, lower `min_open`, or gate more layers."
            )
        return limit


def _metric_of(kind: str, metric: Metric | None) -> Metric:
    if kind == "density":
        found: Metric = "params" if metric is None else metric
        if found not in METRICS:
            raise InvalidSetting(
                f"no metric is named {metric!r}. Take one of {', '.join(METRICS)}."
            )
        return found
    (own,) = (one for one in METRICS if one == kind)
    if metric not in (None, own):
        raise InvalidSetting(
            f"`metric` is {metric!r}, but `{kind}` counts {kind}. Leave `metric` to `density`."
        )
    return own


def _matched(wish: Mapping[str, float], names: Sequence[str]) -> list[tuple[int, float]]:
    """Places of the sets that the patterns of a wish name, each with its number."""
    if not wish:
        raise InvalidSetting("the mapping of limits is empty. Name sets of gates: {'conv*': 20}.")
    found: dict[int, str] = {}
    for pattern in wish:
        # The part before ":" is the layer; gates of a second kind in it have ":kind" behind.
        mine = [
            place
            for place, name in enumerate(names)
            if fnmatchcase(name, pattern) or fnmatchcase(name.partition(":")[0], pattern)
        ]
        if not mine:
            raise InvalidSetting(
                f"{pattern!r} names none of the sets of gates: {', '.join(names)}."
            )
        for place in mine:
            if place in found:
                raise InvalidSetting(
                    f"{found[place]!r} and {pattern!r} both name {names[place]!r}. Give each set "
                    "of gates one limit."
                )
            found[place] = pattern
    return [(place, wish[pattern]) for place, pattern in sorted(found.items())]
