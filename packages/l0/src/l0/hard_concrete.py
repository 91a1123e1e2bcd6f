"""Hard Concrete gates: random numbers in [0, 1] that are exactly 0 or exactly 1 at times.

The only home of the formulas. With `s(t) = logit((t - lower) / (upper - lower))`, a gate z has

    P(z > t) = sigmoid(log_alpha - temperature * s(t)),        0 <= t < 1,

and everything else follows from this tail. Source: Louizos, Welling and Kingma (2018),
"Learning Sparse Neural Networks through L0 Regularization", https://arxiv.org/abs/1712.01312.

The functions take `log_alpha` of any shape and floating type, a `temperature` and `limits` as in
`prob_active`; they work item by item and return the same shape in at least float32, as float16
and bfloat16 blur noise and small probabilities. They trust settings; `HardConcrete` checks them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from l0 import selection
from l0.errors import InvalidProbabilities, InvalidSetting, ShapeMismatch

Limits: TypeAlias = tuple[float, float]
Real: TypeAlias = float | Tensor

TEMPERATURE = 2 / 3
LIMITS: Limits = (-0.1, 1.1)
INIT_MEAN = 0.9
PROB_MARGIN = 1e-6

# Gauss-Legendre on [-1, 1]. See Note [Quadrature along the logit].
_NODES, _NODE_WEIGHTS = (array.tolist() for array in np.polynomial.legendre.leggauss(32))


def prob_active(
    log_alpha: Tensor, temperature: Real = TEMPERATURE, limits: Limits = LIMITS
) -> Tensor:
    """Chance that a gate is not zero, `P(z > 0)`: the term of the L0 penalty.

    Louizos et al. 2018, equation 12.

    Args:
        log_alpha: Logits, any shape.
        temperature: Positive; the lower, the closer the gates to 0 and 1.
        limits: Where the stretched gate begins and ends; below 0 and above 1.

    Returns:
        Probabilities in `[0, 1]`, shape of `log_alpha`.

    Examples:
        >>> prob_active(torch.tensor(0.0))
        tensor(0.8318)
    """
    return torch.sigmoid(_wide(log_alpha) - temperature * _logit_at(0.0, limits))


def prob_one(log_alpha: Tensor, temperature: Real = TEMPERATURE, limits: Limits = LIMITS) -> Tensor:
    """Chance that a gate is exactly 1: fully open.

    Returns:
        Probabilities in `[0, 1]`, shape of `log_alpha`.

    Examples:
        >>> prob_one(torch.tensor(0.0))
        tensor(0.1682)
    """
    return torch.sigmoid(_wide(log_alpha) - temperature * _logit_at(1.0, limits))


def log_alpha_for(prob: Tensor, temperature: Real = TEMPERATURE, limits: Limits = LIMITS) -> Tensor:
    """The logit at which a gate is active with probability `prob`: the inverse of `prob_active`.

    Args:
        prob: Probabilities in `[0, 1]`. Those closer than 1e-6 to 0 or 1 are moved to that
            distance, where the logit is finite and training can still change it.
        temperature: As in `prob_active`.
        limits: As in `prob_active`.

    Returns:
        Logits, shape of `prob`.

    Raises:
        InvalidProbabilities: If a probability is not in `[0, 1]`.

    Examples:
        >>> prob_active(log_alpha_for(torch.tensor(0.999), 0.25), 0.25)
        tensor(0.9990)
    """
    wide = _wide(prob)
    if not bool(((wide >= 0) & (wide <= 1)).all()):
        raise InvalidProbabilities(
            "`init_mean`, the chance to be active, is not in [0, 1]. Give a share, not percent."
        )
    inner = wide.clamp(PROB_MARGIN, 1 - PROB_MARGIN)
    return torch.logit(inner) + temperature * _logit_at(0.0, limits)


def sample(
    log_alpha: Tensor,
    temperature: Real = TEMPERATURE,
    limits: Limits = LIMITS,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One random gate per logit, differentiable in `log_alpha` wherever it is not 0 or 1.

    Louizos et al. 2018, equations 10 and 11.

    Args:
        log_alpha: Logits, any shape.
        temperature: As in `prob_active`.
        limits: As in `prob_active`.
        generator: Where the randomness comes from; PyTorch's global generator if None. The
            noise is drawn on the generator's device, so a seed means the same noise anywhere.

    Returns:
        Gates in `[0, 1]`, shape of `log_alpha`.

    Examples:
        >>> z = sample(torch.zeros(100_000), generator=torch.Generator().manual_seed(0))
        >>> round((z > 0).float().mean().item(), 2)
        0.83
    """
    wide = _wide(log_alpha)
    return _stretched(wide + _logistic_noise(wide, generator), temperature, limits)


def median(log_alpha: Tensor, temperature: Real = TEMPERATURE, limits: Limits = LIMITS) -> Tensor:
    """The median gate: above zero exactly when `P(z > 0) > 1/2`. The gate outside training.

    This is a sample whose noise is at its median, zero. (The test-time gate in equation 13 of
    Louizos et al. leaves the temperature out, and is neither mean nor median.)

    Returns:
        Gates in `[0, 1]`, shape of `log_alpha`.

    Examples:
        >>> median(torch.tensor([-3.0, 0.0, 3.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    return _stretched(_wide(log_alpha), temperature, limits)


def mean(log_alpha: Tensor, temperature: Real = TEMPERATURE, limits: Limits = LIMITS) -> Tensor:
    """Expected gate, `E[z] = integral of P(z > t) over [0, 1]`; its gradient is never zero.

    Accurate to 1e-8 in float64 for temperatures up to 2 and limits 0.01 or more beyond 0 and 1.

    Returns:
        Means in `[0, 1]`, shape of `log_alpha`.

    Examples:
        >>> mean(torch.tensor([-4.0, 0.0, 4.0]))
        tensor([0.0236, 0.5000, 0.9764])
    """
    wide = _wide(log_alpha)
    nodes, gates, weights = _quadrature(wide, limits)
    # Note [Quadrature along the logit]: dt = (upper - t)(t - lower) / (upper - lower) ds, and
    # along s the tail is a plain sigmoid. Its poles are pi / temperature away from the real axis,
    # whatever log_alpha is, so 32 nodes serve all gates. Sums, not matrix products: automatic
    # mixed precision would round a product to half precision.
    lower, upper = limits
    lengths = weights * (upper - gates) * (gates - lower) / (upper - lower)
    return (torch.sigmoid(wide.unsqueeze(-1) - temperature * nodes) * lengths).sum(-1)


def variance(log_alpha: Tensor, temperature: Real = TEMPERATURE, limits: Limits = LIMITS) -> Tensor:
    """Variance of a gate, with its full relative accuracy however small it is.

    Three terms, none negative: the gates that are 0, those that are 1, and those in between.
    (`E[z**2] - E[z]**2` would lose its digits where nearly every gate is 1.) Accurate as `mean`.

    Returns:
        Variances in `[0, 1/4]`, shape of `log_alpha`.

    Examples:
        >>> variance(torch.tensor([-4.0, 0.0, 4.0]))
        tensor([0.0136, 0.1480, 0.0136])
    """
    wide = _wide(log_alpha)
    nodes, gates, weights = _quadrature(wide, limits)
    expected = mean(wide, temperature, limits)
    logits = wide.unsqueeze(-1) - temperature * nodes
    # The density of s(z); the gates between 0 and 1.
    density = temperature * torch.sigmoid(logits) * torch.sigmoid(-logits)
    between = (density * weights * (gates - expected.unsqueeze(-1)) ** 2).sum(-1)
    prob_zero = torch.sigmoid(temperature * _logit_at(0.0, limits) - wide)
    at_one = prob_one(wide, temperature, limits) * (1 - expected) ** 2
    return between + prob_zero * expected**2 + at_one


class HardConcrete(nn.Module):
    """A Hard Concrete gate for each of many items, with logits that can be trained.

    Calling it gives the gates: a random draw in training mode, the median gate (always the
    same) in evaluation mode. The temperature is a buffer, so `state_dict` keeps it. Without
    `generator` or `seed` the noise comes from PyTorch's global generator; with one of them, the
    global generator is neither read nor changed.

    Args:
        *shape: Number of items, or the sizes of several dimensions, also as one tuple.
        n_items: Number of items, as a keyword instead of `shape`.
        temperature: Positive. Lower: gates closer to 0 and 1, and fewer of them with a gradient.
        init_mean: `P(gate > 0)` at the start, in `[0, 1]`: one number for all items or an array of
            the gates' shape. Values within 1e-6 of 0 or 1 are moved to that distance.
        limits: Where the stretched gate begins and ends; below 0 and above 1.
        group_size: Number of parameters that each gate switches; penalties count it.
        generator: Source of the noise in training mode.
        seed: Makes a generator; give one of the two.
        device: Where the logits live.
        dtype: Floating type of the logits and of the gates.

    Raises:
        InvalidSetting: If the temperature is not positive, or the limits do not straddle
            `[0, 1]`, or both `generator` and `seed` are given.
        InvalidProbabilities: If `init_mean` is not in `[0, 1]`.
        ShapeMismatch: If the shape is missing, given twice, or has a negative size.

    Examples:
        >>> gates = HardConcrete(n_items=1000, temperature=0.25, init_mean=0.999, seed=0)
        >>> round(gates.penalty().item(), 2)
        999.0
        >>> gates().shape
        torch.Size([1000])
    """

    temperature: Tensor

    def __init__(
        self,
        *shape: int | Sequence[int],
        n_items: int | None = None,
        temperature: float = TEMPERATURE,
        init_mean: ArrayLike | Tensor = INIT_MEAN,
        limits: Limits = LIMITS,
        group_size: int = 1,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = _as_shape(shape, n_items)
        self.limits = _checked_limits(limits)
        self.group_size = group_size
        if generator is not None and seed is not None:
            raise InvalidSetting("`generator` and `seed` are both given. Give one of the two.")
        self.generator = generator if seed is None else torch.Generator().manual_seed(seed)

        start = torch.as_tensor(init_mean, dtype=torch.float64)
        if start.ndim and start.shape != sizes:
            raise ShapeMismatch(
                f"`init_mean` is {tuple(start.shape)}; give one number, or one for each gate."
            )
        logits = log_alpha_for(start, _checked_temperature(temperature), self.limits)
        self.log_alpha = nn.Parameter(torch.empty(sizes, device=device, dtype=dtype).copy_(logits))
        self.register_buffer("temperature", _wide(self.log_alpha).new_tensor(temperature))

    def forward(self) -> Tensor:
        """Gates in `[0, 1]`: a draw in training mode, the median gate in evaluation mode."""
        if self.training:
            z = sample(self.log_alpha, self.temperature, self.limits, generator=self.generator)
        else:
            z = self.median()
        return z.to(self.log_alpha.dtype)

    def prob_active(self) -> Tensor:
        """Chance of each gate not to be zero."""
        return prob_active(self.log_alpha, self.temperature, self.limits)

    def mean(self) -> Tensor:
        """Expected value of each gate."""
        return mean(self.log_alpha, self.temperature, self.limits)

    def variance(self) -> Tensor:
        """Variance of each gate."""
        return variance(self.log_alpha, self.temperature, self.limits)

    def median(self) -> Tensor:
        """Median of each gate: what a call returns in evaluation mode."""
        return median(self.log_alpha, self.temperature, self.limits)

    def penalty(self) -> Tensor:
        """Expected number of gates that are not zero; differentiable."""
        return self.prob_active().sum()

    def select(self, k: int, seed: selection.Rng = 0) -> selection.Indices:
        """Exactly k items: those most likely to be active, ties broken evenly over the items.

        Args:
            k: How many items to return.
            seed: Generator or seed, used only to break a tie.

        Returns:
            Positions among the flattened gates, ascending.

        Raises:
            InvalidCount: If there are fewer than `k` gates.

        Examples:
            >>> HardConcrete(4, init_mean=[0.1, 0.9, 0.5, 0.7]).select(k=2).tolist()
            [1, 3]
        """
        # By the logit: the probabilities of all large logits are rounded to 1, and would tie.
        logits = self.log_alpha.detach().flatten().to("cpu", torch.float64)
        return selection.top_k(logits.numpy(), k, seed)

    @torch.no_grad()
    def set_temperature(self, temperature: float) -> None:
        """Change the temperature of all gates; a compiled model is not compiled again."""
        self.temperature.fill_(_checked_temperature(temperature))

    @torch.no_grad()
    def constrain_parameters(self, lowest: float = -20.0, highest: float = 20.0) -> None:
        """Bring the logits back into a range, in place; call it after an optimiser's step.

        The forward pass never clamps them: that would stop their gradient. Narrower ranges,
        such as +-4.6 in Louizos et al., keep gates easier to turn.
        """
        self.log_alpha.clamp_(lowest, highest)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        temperature = self.temperature
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # as PyTorch has it
        if self.temperature.dtype != temperature.dtype:  # `.half()` would round 2/3.
            self.temperature = temperature.to(self.temperature.device)
        return self

    def extra_repr(self) -> str:
        """Settings, for `print(model)`."""
        return (
            f"{tuple(self.log_alpha.shape)}, temperature={self.temperature}, limits={self.limits}"
        )


def _wide(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _logit_at(gate: float, limits: Limits) -> float:
    return math.log((gate - limits[0]) / (limits[1] - gate))


def _logistic_noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    uniform = torch.rand(like.shape, generator=generator, dtype=like.dtype, device=device)
    # Note [Noise away from 0 and 1]: `rand` can return 0, and some devices 1, whose logits are
    # infinite. They are moved by half a step of the random numbers, which are 2**-24 (float32)
    # apart: no probability larger than that changes. In half precision the step would be 2**-11
    # or coarser and gates that are seldom active would never be drawn, hence float32 at least.
    eps = torch.finfo(like.dtype).eps
    return torch.logit(uniform.clamp(eps / 4, 1 - eps / 2)).to(like.device)


def _stretched(logits: Tensor, temperature: Real, limits: Limits) -> Tensor:
    lower, upper = limits
    return (torch.sigmoid(logits / temperature) * (upper - lower) + lower).clamp(0, 1)


def _quadrature(like: Tensor, limits: Limits) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes `s`, the gates `t` there, and weights in `ds`, each of shape `(n_nodes,)`."""
    lower, upper = limits
    first, last = _logit_at(0.0, limits), _logit_at(1.0, limits)
    half = (last - first) / 2
    nodes = like.new_tensor(_NODES) * half + (first + last) / 2
    gates = torch.sigmoid(nodes) * (upper - lower) + lower
    return nodes, gates, like.new_tensor(_NODE_WEIGHTS) * half


def _as_shape(shape: tuple[int | Sequence[int], ...], n_items: int | None) -> torch.Size:
    given = [np.atleast_1d(part) for part in (*shape, n_items) if part is not None]
    sizes = np.concatenate(given).astype(int).tolist() if given else []
    if not sizes or min(sizes) < 0 or (shape and n_items is not None):
        raise ShapeMismatch(
            "give the number of gates once, 0 or more: `HardConcrete(100)`, `HardConcrete(20, 5)`."
        )
    return torch.Size(sizes)


def _checked_temperature(temperature: float) -> float:
    if not (math.isfinite(temperature) and temperature > 0):
        raise InvalidSetting(
            f"temperature is {temperature:g}, but must be positive and finite; 0.1 to 1 is usual."
        )
    return float(temperature)


def _checked_limits(limits: Limits) -> Limits:
    lower, upper = (float(limit) for limit in limits)
    if not (math.isfinite(lower) and lower < 0 and math.isfinite(upper) and upper > 1):
        raise InvalidSetting(
            f"limits {lower:g} and {upper:g} must begin below 0 and end above 1, as {LIMITS} do."
        )
    return lower, upper
