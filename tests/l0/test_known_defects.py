"""Defects known from another implementation of L0 gates, each with the fact that excludes it."""

import inspect
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.testing import assert_close

import l0
from l0 import (
    FeatureGate,
    HardConcrete,
    HybridGate,
    L0Conv2d,
    L0Linear,
    SampleGate,
    TemperatureScheduler,
    compute_l0_penalty,
    compute_l2_penalty,
    expected_quadratic_loss,
    get_sparsity_stats,
    hard_concrete,
    update_temperatures,
)
from l0.errors import IneffectivePenalty
from l0.gradients import check_gradients
from l0.shrinking.materialization import materialize
from l0.training import param_groups


@pytest.mark.parametrize("temperature", [0.1, 0.25, 2 / 3, 1.5])
@pytest.mark.parametrize("init_mean", [0.001, 0.1, 0.5, 0.999])
def test_d01_init_mean_is_the_active_probability(init_mean, temperature):
    gate = HardConcrete(200_000, temperature=temperature, init_mean=init_mean, seed=0)
    assert_allclose(gate.prob_active()[:3].detach(), init_mean, rtol=1e-5)
    observed = (gate() > 0).double().mean()
    assert abs(observed - init_mean) < 5 * (init_mean * (1 - init_mean) / 200_000) ** 0.5


@pytest.mark.parametrize("training", [True, False])
def test_d02_target_samples_is_the_number_of_samples(training):
    gate = SampleGate(n_samples=10_000, target_samples=1000).train(training)
    assert_allclose(gate.penalty().item(), 1000, rtol=1e-4)
    assert gate.select_samples(np.zeros(10_000))[1].size == 1000


def test_d03_selection_in_training_is_not_a_lottery():
    gate = SampleGate(10_000, 1000, init_mean=np.linspace(0.01, 0.2, 10_000))
    draws = [gate.select_samples(np.zeros(10_000))[1] for _ in range(2)]
    assert np.array_equal(draws[0], draws[1])
    assert draws[0].min() == 9000


@pytest.mark.parametrize("gate", [SampleGate(40, 10), FeatureGate(40, 10)], ids=["rows", "columns"])
def test_d04_a_loss_on_selected_data_trains_the_gates(gate):
    select = gate.select_samples if isinstance(gate, SampleGate) else gate.select_features
    data = torch.randn(40, 40)
    optimiser = torch.optim.Adam(gate.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        selected, indices = select(data)
        loss = (selected**2).mean() + 1e-3 * gate.penalty()
        loss.backward()
        assert gate.log_alpha.grad[indices].count_nonzero() == 10
        optimiser.step()

    expected = data[indices] if isinstance(gate, SampleGate) else data[:, indices]
    assert torch.equal(selected, expected)
    assert not select(data.clone())[0].is_leaf
    gate.eval()
    assert not select(data)[0].requires_grad


@pytest.mark.parametrize("logit", [-9.0, 0.0, 9.0])
@pytest.mark.parametrize("training", [True, False])
def test_d05_max_features_is_neither_exceeded_nor_missed(logit, training):
    gate = FeatureGate(n_features=100, max_features=10).train(training)
    with torch.no_grad():
        gate.log_alpha.fill_(logit)
    assert gate.select_features(torch.zeros(2, 100))[0].shape == (2, 10)


@pytest.mark.parametrize("target", [3, 7, 100, 2000])
@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("logit", [-9.0, 9.0])
def test_d06_hybrid_counts_are_honoured(target, fraction, logit):
    gate = HybridGate(4000, fraction, 1 - fraction, target)
    with torch.no_grad():
        gate.log_alpha[:1000] = logit
    _, indices, types = gate.select(np.zeros(4000))
    assert np.unique(indices).size == target
    assert abs((types == "l0").sum() - fraction * target) <= 0.5


def test_d07_global_random_numbers_are_left_alone_and_small_targets_work():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - it must not change
    gate = HybridGate(50, 0.25, 0.75, 3, seed=0)
    gate(torch.ones(50))
    assert gate.select(torch.zeros(50), seed=1)[0].shape == (3,)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002 - it must not change


def test_d08_gates_anywhere_in_a_model_are_seen():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.samples = SampleGate(100, 20)
            self.inner = nn.ModuleDict({"columns": FeatureGate(10, 5)})

    assert_allclose(compute_l0_penalty(Model()).item(), 25, rtol=1e-5)
    assert len(get_sparsity_stats(Model())) == 2


def test_d09_the_l2_penalty_leaves_logits_alone():
    layer = L0Linear(20, 10, gate="weight")
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.gate.log_alpha.fill_(3.0)
    penalty = compute_l2_penalty(layer)
    assert penalty == 0
    penalty.backward()
    assert layer.gate.log_alpha.grad.count_nonzero() == 0
    assert compute_l2_penalty(HardConcrete(10)) == 0


def test_d10_the_l2_penalty_is_expected_over_gates_and_leaves_norms_alone():
    layer = L0Linear(4, 2, gate="input", init_mean=[0.1, 0.2, 0.3, 0.4])
    model = nn.Sequential(layer, nn.BatchNorm1d(2), nn.Linear(2, 2))
    expected = (layer.weight**2 * torch.tensor([0.1, 0.2, 0.3, 0.4])).sum()
    assert_allclose(compute_l2_penalty(model).item(), expected.item(), rtol=1e-6)
    assert compute_l2_penalty(nn.BatchNorm1d(7)) == 0


def test_d11_a_channel_counts_all_its_weights():
    layer = L0Conv2d(16, 32, 3, bias=False, init_mean=0.75)
    assert_allclose(compute_l0_penalty(layer).item(), 0.75 * 32 * 16 * 9, rtol=1e-5)
    assert_allclose(compute_l0_penalty(L0Conv2d(16, 32, 3, init_mean=0.75)).item(), 0.75 * 32 * 145)
    assert get_sparsity_stats(layer)["gate"].n_parameters == layer.weight.numel()


@pytest.mark.parametrize("training", [True, False])
def test_d12_a_shut_channel_is_silent_bias_and_all(training):
    layer = L0Conv2d(3, 4, 3).train(training)
    nn.init.constant_(layer.bias, 3.0)
    with torch.no_grad():
        layer.gate.log_alpha.fill_(-50.0)
    assert layer(torch.ones(1, 3, 5, 5)).count_nonzero() == 0


def test_d13_layers_take_what_plain_layers_take():
    settings = {"dilation": 2, "groups": 2, "padding_mode": "reflect", "padding": 1}
    layer = L0Conv2d(4, 6, 3, **settings, device="cpu", dtype=torch.float64)
    assert layer(torch.ones(1, 4, 7, 7, dtype=torch.float64)).dtype == torch.float64
    linear = L0Linear(4, 6, device="meta", dtype=torch.float16)
    assert (linear.weight.device.type, linear.gate.log_alpha.dtype) == ("meta", torch.float16)


@pytest.mark.parametrize("training", [True, False])
def test_d14_what_is_shut_is_gone_and_what_is_left_can_be_trained(training):
    """Fewer parameters, no gates, the mode of before, and nothing that could come back."""
    torch.manual_seed(0)
    model = nn.Sequential(
        L0Conv2d(2, 6, 3, gate="channel"),
        nn.ReLU(),
        nn.Flatten(),
        L0Linear(54, 7, gate="output"),
        nn.ReLU(),
        L0Linear(7, 3, gate="input"),
    )
    with torch.no_grad():
        # Open gates are not all 1: their values have to be in the weights.
        model[0].gate.log_alpha.copy_(torch.tensor([-9.0, 0.3, 9.0, -9.0, 0.1, -9.0]))
        model[3].gate.log_alpha.copy_(torch.tensor([9.0, 9.0, -9.0, 9.0, 0.2, -9.0, 9.0]))
        model[5].gate.log_alpha.copy_(torch.tensor([-9.0, 9.0, 9.0, 0.3, 9.0, 9.0, 9.0]))
    model.train(training)
    images = torch.randn(8, 2, 5, 5)
    small = materialize(model, (images,))
    assert {module.training for module in (*model.modules(), *small.modules())} == {training}
    assert not any(isinstance(module, HardConcrete) for module in small.modules())
    assert_close(small(images), model.eval()(images))
    kept = 3 * (2 * 9 + 1) + 4 * (27 + 1) + 3 * (4 + 1)
    assert sum(parameter.numel() for parameter in small.parameters()) == kept

    before = small(images).detach()
    optimiser = torch.optim.Adam(small.parameters(), lr=0.01)
    for _ in range(5):
        optimiser.zero_grad()
        (small(images) ** 2).mean().backward()
        optimiser.step()
    assert (small(images) ** 2).mean() < (before**2).mean()
    assert sum(parameter.count_nonzero() for parameter in small.parameters()) == kept


def test_d15_a_depthwise_layer_can_be_shrunk():
    depthwise = L0Conv2d(5, 5, 3, groups=5, gate="channel")
    depthwise.settle(torch.tensor([True, False, True, False, False]))
    model = nn.Sequential(nn.Conv2d(3, 5, 1), depthwise, nn.ReLU(), nn.Conv2d(5, 2, 1)).eval()
    x = torch.randn(2, 3, 6, 6)
    small = materialize(model, [x])
    assert small.get_submodule("1").out_channels == small.get_submodule("1").groups == 2
    assert small.get_submodule("0").out_channels == small.get_submodule("3").in_channels == 2
    assert_allclose(small(x).detach(), model(x).detach(), atol=1e-6)


def test_d16_a_depthwise_layer_has_all_penalties_and_shuts_with_its_bias():
    layer = L0Conv2d(5, 5, 3, groups=5, init_mean=0.5)
    assert_allclose(compute_l0_penalty(layer).item(), 0.5 * (5 * 9 + 5), rtol=1e-5)
    expected = 0.5 * ((layer.weight**2).sum() + (layer.bias**2).sum())
    assert_allclose(compute_l2_penalty(layer).item(), expected.item(), rtol=1e-5)
    with torch.no_grad():
        layer.gate.log_alpha[1] = -50.0
    assert layer.eval()(torch.ones(1, 5, 4, 4))[:, 1].count_nonzero() == 0


@pytest.mark.parametrize("init_mean", [0, 0.0, 1, 1.0])
def test_d17_the_ends_of_the_range_are_allowed(init_mean):
    gate = HardConcrete(5, init_mean=init_mean)
    assert gate.log_alpha.isfinite().all()
    assert_allclose(gate.prob_active().detach(), init_mean, atol=1.1e-6)
    assert SampleGate(7, 7).select_samples(np.zeros(7))[1].size == 7
    assert SampleGate(7, 0).select_samples(np.zeros(7))[1].size == 0
    assert HybridGate(7, 1.0, 0.0, 7).select(np.zeros(7))[2].tolist() == ["l0"] * 7


@pytest.mark.parametrize("logit", [-30.0, -20.5, 20.5, 30.0])
def test_d18_far_logits_keep_their_gradient(logit):
    gate = HardConcrete(1, dtype=torch.float64)
    with torch.no_grad():
        gate.log_alpha.fill_(logit)
    (gate.penalty() + gate.mean().sum()).backward()
    assert gate.log_alpha.grad.item() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_d19_low_precision_does_not_bias_the_gates(dtype):
    gate = HardConcrete(1_000_000, seed=0).to(dtype)
    with torch.no_grad():
        gate.log_alpha.fill_(-8.0)
    exact = hard_concrete.prob_active(torch.tensor(-8.0)).item()
    observed = (gate() > 0).double().mean().item()
    assert gate().dtype == dtype
    assert abs(observed - exact) < 5 * (exact / 1e6) ** 0.5
    assert_allclose(gate.penalty().item(), exact * 1e6, rtol=1e-4)


def test_d20_the_temperature_is_saved_and_loaded():
    gate, other = HardConcrete(9, temperature=0.2), HardConcrete(9)
    other.load_state_dict(gate.state_dict())
    assert other.temperature == gate.temperature
    assert torch.equal(other.eval()(), gate.eval()())


def test_d21_all_counts_of_active_gates_agree():
    gate = HardConcrete(1000, init_mean=np.linspace(0.001, 0.999, 1000)).eval()
    n_open = int((gate() > 0).sum())
    assert n_open == int((gate.prob_active() > 0.5).sum())
    assert n_open == get_sparsity_stats(gate)[""].n_active


def test_d22_the_gate_in_evaluation_is_the_median():
    gate = HardConcrete(300_001, temperature=0.5, init_mean=0.8, seed=0)
    drawn = gate().median()
    gate.eval()
    assert abs(gate()[0] - drawn) < 0.01
    assert abs(gate()[0] - gate.mean()[0]) > 0.02


def test_d23_expected_gates_feel_the_data_where_drawn_ones_do_not():
    gate = HardConcrete(1000, temperature=0.25, init_mean=0.999, seed=0)
    drawn = torch.autograd.grad(gate().sum(), gate.log_alpha)[0]
    expected = torch.autograd.grad(gate.mean().sum(), gate.log_alpha)[0]
    assert drawn.count_nonzero() < 50
    assert expected.count_nonzero() == 1000
    optimiser = torch.optim.Adam(gate.parameters())
    with pytest.warns(IneffectivePenalty, match="Raise the temperature"):
        check_gradients(gate, optimiser, data_loss=gate().sum(), penalty=gate.penalty())
    soft = HardConcrete(1000, init_mean=0.5, seed=0)
    optimiser = torch.optim.Adam(soft.parameters())
    check_gradients(soft, optimiser, data_loss=soft().sum(), penalty=soft.penalty())


@pytest.mark.parametrize(
    ("price", "settings", "closes", "warned"),
    [
        (1e-1, {}, True, False),
        (1e-3, {}, True, False),
        (1e-7, {}, False, True),
        (1e-7, {"eps": 1e-15}, True, False),
    ],
)
def test_d24_a_price_below_the_epsilon_of_adam_is_found_out(price, settings, closes, warned):
    gate = HardConcrete(1000, temperature=0.25, init_mean=0.999)
    optimiser = torch.optim.Adam(param_groups(gate, lr=0.1), **settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_gradients(
            gate, optimiser, data_loss=gate.mean().sum(), penalty=price * gate.penalty()
        )
    assert [entry.category for entry in caught] == [IneffectivePenalty] * warned
    for _ in range(100):
        optimiser.zero_grad()
        (price * gate.penalty()).backward()
        optimiser.step()
    assert (gate.penalty() < 100) == closes
    assert (gate.penalty() > 990) != closes


def test_d25_nothing_is_remembered_of_an_earlier_design():
    design, gate = sp.csr_array(np.eye(4)), HardConcrete(4, dtype=torch.float64)
    zero, ones = np.zeros(4), torch.ones(4, dtype=torch.float64)
    once = expected_quadratic_loss(design, zero, ones, gate).item()
    design.data *= 10
    assert_allclose(expected_quadratic_loss(design, zero, ones, gate).item(), 100 * once)


def test_d26_temperatures_sparse_arrays_double_precision_and_seeds_work():
    gate = SampleGate(4, 2, dtype=torch.float64, seed=3)
    assert update_temperatures(gate, 0.3) == 1
    assert gate.hard_concrete.temperature == 0.3
    weights = torch.ones(4, dtype=torch.float64)
    loss = expected_quadratic_loss(sp.csr_array(np.eye(4)), np.ones(4), weights, gate)
    assert loss.dtype == torch.float64
    twin = SampleGate(4, 2, dtype=torch.float64, seed=3)
    twin.hard_concrete.set_temperature(0.3)
    assert [torch.equal(gate(), twin()) for _ in range(3)] == [True] * 3


def test_d27_full_probabilities_and_ungated_weights_are_safe():
    gate = HardConcrete(3, init_mean=1.0)
    loss = expected_quadratic_loss(np.eye(3), -np.ones(3), torch.ones(3), gate)
    loss.backward()
    assert loss.isfinite()
    assert gate.log_alpha.grad.isfinite().all()
    layer = L0Linear(3, 2, gate="input")
    assert [parameter is layer.weight for parameter, _ in layer.gated_parameters()] == [True]


@pytest.mark.parametrize(
    ("callable_", "names"),
    [
        (HardConcrete, {"n_items", "temperature", "init_mean"}),
        (SampleGate, {"n_samples", "target_samples"}),
        (FeatureGate, {"n_features", "max_features"}),
        (HybridGate, {"n_items", "l0_fraction", "random_fraction", "target_items"}),
        (TemperatureScheduler, {"initial_temp", "final_temp", "total_epochs", "anneal_epochs"}),
        (l0.compute_l0l2_penalty, {"model", "l0_lambda", "l2_lambda"}),
    ],
)
def test_d28_documented_arguments_exist(callable_, names):
    assert names <= set(inspect.signature(callable_).parameters)
