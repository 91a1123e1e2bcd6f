"""Hard Concrete gates: random numbers in [0, 1] that are exactly 0 or exactly 1 at times.

The only home of the formulas. With `s(t) = logit((t - lower) / (upper - lower))`, a gate z has

    P(z > t) = sigmoid(log_alpha - temperature * s(t)),        0 <= t < 1,

and everything else follows from this tail. Source: Louizos, Welling and Kingma (2018),
"Learning Sparse Neural Networks through L0 Regularization", https://arxiv.org/abs/1712.01312.

The functions take `log_alpha` of any shape and floating type, a `temperature` and `limits` as in
`prob_active`; they work item by item and return the same shape in at least float32, as float16
and bfloat16 blur noise and small probabilities. They trust settings; `HardConcrete` checks them.

An infinite logit is a gate that is settled: +inf is open (exactly 1) and -inf is shut (exactly 0)
in every formula, with variance and gradients of exactly zero.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from l0.errors import InvalidProbabilities
from l0.noise import uniform

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
    return torch.sigmoid(widened(log_alpha) - temperature * _logit_at(0.0, limits))


def prob_one(log_alpha: Tensor, temperature: Real = TEMPERATURE, limits: Limits = LIMITS) -> Tensor:
    """Chance that a gate is exactly 1: fully open.

    Returns:
        Probabilities in `[0, 1]`, shape of `log_alpha`.

    Examples:
        >>> prob_one(torch.tensor(0.0))
        tensor(0.1682)
    """
    return torch.sigmoid(widened(log_alpha) - temperature * _logit_at(1.0, limits))


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
    wide = widened(prob)
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
    wide = widened(log_alpha)
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
    return _stretched(widened(log_alpha), temperature, limits)


def mean(log_alpha: Tensor, temperature: Real = TEMPERATURE, limits: Limits = LIMITS) -> Tensor:
    """Expected gate, `E[z] = integral of P(z > t) over [0, 1]`.

    Its gradient is never zero, unless the logit is infinite.

    Accurate to 1e-8 in float64 for temperatures up to 2 and limits 0.01 or more beyond 0 and 1.

    Returns:
        Means in `[0, 1]`, shape of `log_alpha`.

    Examples:
        >>> mean(torch.tensor([-4.0, 0.0, 4.0]))
        tensor([0.0236, 0.5000, 0.9764])
    """
    wide = widened(log_alpha)
    nodes, gates, weights = _quadrature(wide, limits)
    # Note [Quadrature along the logit]: dt = (upper - t)(t - lower) / (upper - lower) ds, and
    # along s the tail is a plain sigmoid. Its poles are pi / temperature away from the real axis,
    # whatever log_alpha is, so 32 nodes serve all gates. Sums, not matrix products: automatic
    # mixed precision would round a product to half precision.
    lower, upper = limits
    lengths = weights * (upper - gates) * (gates - lower) / (upper - lower)
    integral = (torch.sigmoid(wide.unsqueeze(-1) - temperature * nodes) * lengths).sum(-1)
    # The lengths sum to 1 up to the error of the quadrature; a settled gate is exact.
    return torch.where(wide.isinf(), (wide > 0).to(wide.dtype), integral)


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
    wide = widened(log_alpha)
    nodes, gates, weights = _quadrature(wide, limits)
    expected = mean(wide, temperature, limits)
    logits = wide.unsqueeze(-1) - temperature * nodes
    # The density of s(z); the gates between 0 and 1.
    density = temperature * torch.sigmoid(logits) * torch.sigmoid(-logits)
    between = (density * weights * (gates - expected.unsqueeze(-1)) ** 2).sum(-1)
    prob_zero = torch.sigmoid(temperature * _logit_at(0.0, limits) - wide)
    at_one = prob_one(wide, temperature, limits) * (1 - expected) ** 2
    # Every term is exactly zero at an infinite logit, since `expected` is exactly 0 or 1 there.
    return between + prob_zero * expected**2 + at_one


def widened(values: Tensor) -> Tensor:
    """The same values in float32, or in their own type if that has more digits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _logit_at(gate: float, limits: Limits) -> float:
    return math.log((gate - limits[0]) / (limits[1] - gate))


def _logistic_noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    # Note [Noise away from 0 and 1]: `rand` can return 0, and some devices 1, whose logits are
    # infinite. They are moved by half a step of the random numbers, which are 2**-24 (float32)
    # apart: no probability larger than that changes. In half precision the step would be 2**-11
    # or coarser and gates that are seldom active would never be drawn, hence float32 at least.
    eps = torch.finfo(like.dtype).eps
    inside = uniform(like, generator).clamp(eps / 4, 1 - eps / 2)
    return torch.logit(inside).to(like.device)


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
