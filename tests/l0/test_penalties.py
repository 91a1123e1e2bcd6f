"""Penalties as expectations: against their definition, and against draws."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose

from l0 import (
    HardConcrete,
    InvalidSetting,
    L0Conv2d,
    L0Linear,
    SampleGate,
    ShapeMismatch,
    compute_l0_penalty,
    compute_l0l2_penalty,
    compute_l2_penalty,
    expected_quadratic_loss,
    get_sparsity_stats,
    hard_concrete,
)

RNG = np.random.default_rng(0)
DESIGN = RNG.normal(size=(30, 8)) * (RNG.random((30, 8)) < 0.5)
TARGET = RNG.normal(size=30)
DESIGNS = {
    "numpy": DESIGN,
    "torch": torch.tensor(DESIGN),
    "scipy csr_array": sp.csr_array(DESIGN),
    "scipy csc_matrix": sp.csc_matrix(DESIGN),
    "scipy coo with duplicates": sp.coo_array(
        (
            np.concatenate([0.25 * DESIGN.ravel(), 0.75 * DESIGN.ravel()]),
            (np.tile(np.repeat(np.arange(30), 8), 2), np.tile(np.arange(8), 60)),
        ),
        shape=(30, 8),
    ),
    "torch coo": torch.tensor(DESIGN).to_sparse(),
}


def make_gate():
    return HardConcrete(8, init_mean=np.linspace(0.2, 0.95, 8), dtype=torch.float64, seed=0)


def make_weights():
    return torch.linspace(-1, 2, 8, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("kind", DESIGNS)
def test_expected_loss_and_gradients_are_the_same_for_every_kind_of_design(kind):
    def loss_and_gradients(design):
        gate, weights = make_gate(), make_weights()
        loss = expected_quadratic_loss(design, TARGET, weights, gate)
        return loss, *torch.autograd.grad(loss, [weights, gate.log_alpha])

    for found, expected in zip(
        loss_and_gradients(DESIGNS[kind]), loss_and_gradients(DESIGN), strict=True
    ):
        assert_allclose(found.detach(), expected.detach(), rtol=1e-12)


def test_expected_loss_is_the_mean_over_draws():
    gate, weights = make_gate(), make_weights().detach()
    logits = gate.log_alpha.detach().expand(200_000, 8)
    z = hard_concrete.sample(logits, generator=torch.Generator().manual_seed(0))
    draws = ((torch.tensor(TARGET) - (z * weights) @ torch.tensor(DESIGN).T) ** 2).sum(1)
    expected = expected_quadratic_loss(DESIGN, TARGET, weights, gate).item()
    assert abs(draws.mean() - expected) < 4 * draws.std() / 200_000**0.5


def test_expected_loss_has_the_derivatives_that_autograd_gives():
    class Moments:
        def __init__(self, log_alpha):
            self.mean = lambda: hard_concrete.mean(log_alpha)
            self.variance = lambda: hard_concrete.variance(log_alpha)

    def loss(weights, log_alpha):
        return expected_quadratic_loss(DESIGN, TARGET, weights, Moments(log_alpha))

    logits = make_gate().log_alpha.detach().requires_grad_()
    assert torch.autograd.gradcheck(loss, (make_weights(), logits))


def test_expected_loss_takes_the_gates_of_a_data_set_and_half_precision_regions():
    gate, weights = SampleGate(8, 3), make_weights().float()
    plain = expected_quadratic_loss(DESIGN, TARGET, weights, gate)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert expected_quadratic_loss(DESIGN, TARGET, weights, gate) == plain


@pytest.mark.parametrize(
    ("design", "target", "n_weights"),
    [(DESIGN.T, TARGET, 8), (DESIGN, TARGET[:-1], 8), (DESIGN, TARGET, 7), (TARGET, TARGET, 8)],
)
def test_shapes_that_do_not_fit_are_refused(design, target, n_weights):
    with pytest.raises(ShapeMismatch, match="do not fit"):
        expected_quadratic_loss(design, target, torch.ones(n_weights), make_gate())


def test_penalties_add_up_with_their_prices():
    model = torch.nn.Sequential(L0Linear(5, 4), torch.nn.ReLU(), L0Linear(4, 2))
    l0, l2 = compute_l0_penalty(model), compute_l2_penalty(model)
    assert_allclose(
        compute_l0l2_penalty(model, l0_lambda=0.5, l2_lambda=0.25).item(),
        (0.5 * l0 + 0.25 * l2).item(),
        rtol=1e-6,
    )
    with pytest.raises(InvalidSetting, match="at least 0"):
        compute_l0l2_penalty(model, l0_lambda=-1.0)


def test_penalties_are_means_over_draws_of_the_gated_parameters():
    """A count of parameters that are not zero, and their squares counted when active."""
    layer = L0Conv2d(4, 6, 3, groups=2, gate="channel", init_mean=0.6, seed=0)
    parameters = torch.cat([layer.weight.flatten(1), layer.bias[:, None]], dim=1).detach()
    active = torch.stack([layer.gate() > 0 for _ in range(20_000)]).float().mean(0)[:, None]
    assert_allclose(
        compute_l0_penalty(layer).item(), (active * torch.ones_like(parameters)).sum(), rtol=0.01
    )
    assert_allclose(compute_l2_penalty(layer).item(), (active * parameters**2).sum(), rtol=0.01)


def prices_model():
    return torch.nn.ModuleDict(
        {
            "conv1": L0Conv2d(1, 2, 3, init_mean=0.5),  # 2 gates of 10
            "conv2": L0Conv2d(2, 3, 3, init_mean=0.5),  # 3 gates of 19
            "gates": torch.nn.ModuleDict({"body/fc1": HardConcrete(4, init_mean=0.5)}),
        }
    )


@pytest.mark.parametrize(
    ("factors", "unit", "expected"),
    [
        ({}, "parameter", 10 + 28.5 + 2),
        ({}, "gate", 1 + 1.5 + 2),
        ({"conv1": 0.1}, "parameter", 1 + 28.5 + 2),
        ({"conv*": 0.0}, "parameter", 2),
        ({"conv1.gate": 2.0, "conv*": 0.0}, "gate", 2 + 2),
        ({"conv*": 0.0, "conv1.gate": 2.0}, "gate", 2),
        ({"body.fc*": 3.0, "conv*": 0.0}, "gate", 6),
        ({"fc1": 3.0, "*": 0.0}, "gate", 6),
        ({"gates.body.fc1": 3.0, "*": 0.0}, "gate", 6),
    ],
)
def test_gates_have_prices_of_their_own(factors, unit, expected):
    found = compute_l0_penalty(prices_model(), factors=factors, unit=unit).item()
    assert_allclose(found, expected, rtol=1e-6)


def test_factors_are_part_of_both_penalties_and_mistakes_are_refused():
    model = prices_model()
    assert_allclose(
        compute_l0l2_penalty(model, 0.1, 0.2, factors={"conv1": 0.5}).item(),
        (0.1 * (5 + 28.5 + 2) + 0.2 * compute_l2_penalty(model)).item(),
        rtol=1e-6,
    )
    for factors in ({"fc2": 1.0}, {"conv": 1.0}, {"onv1": 1.0}):
        with pytest.raises(InvalidSetting, match=r"no gates are named.*conv1.gate"):
            compute_l0_penalty(model, factors=factors)
    with pytest.raises(InvalidSetting, match="at least 0"):
        compute_l0_penalty(model, factors={"conv1": -1.0})
    with pytest.raises(InvalidSetting, match='"parameter" or "gate"'):
        compute_l0_penalty(model, unit="weight")


def test_the_l2_penalty_closes_gates_unless_they_are_detached():
    layer = L0Linear(3, 2)
    for detach_gates in (False, True):
        layer.zero_grad()
        compute_l0l2_penalty(layer, l2_lambda=1.0, detach_gates=detach_gates).backward()
        assert layer.weight.grad.count_nonzero() == 6
        assert layer.gate.log_alpha.grad.count_nonzero() == (0 if detach_gates else 3)
    assert compute_l2_penalty(layer) == compute_l2_penalty(layer, detach_gates=True)


def test_a_model_without_gates_costs_nothing():
    model = torch.nn.Linear(3, 2)
    assert compute_l0l2_penalty(model, l0_lambda=1.0, l2_lambda=1.0) == 0
    assert get_sparsity_stats(model) == {}


def test_statistics_count_as_the_gates_do():
    model = torch.nn.ModuleDict({"layer": L0Linear(4, 3), "gate": HardConcrete(4)})
    with torch.no_grad():
        model["gate"].log_alpha.copy_(torch.tensor([-9.0, -9.0, 9.0, 9.0]))
    stats = get_sparsity_stats(model)
    assert set(stats) == {"layer.gate", "gate"}
    assert stats["gate"].n_active == int((model["gate"].eval()() > 0).sum()) == 2
    assert stats["gate"].sparsity_fraction == 0.5
    assert_allclose(stats["gate"].expected_active, 2, atol=1e-2)
    assert stats["layer.gate"].n_parameters == 12
    total = sum(entry.expected_parameters for entry in stats.values())
    assert_allclose(total, compute_l0_penalty(model).item(), rtol=1e-6)
