"""The Hard Concrete distribution: formulas against integrals, samples and derivatives."""

import copy
import io

import mpmath
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import integrate, special

from l0 import HardConcrete, InvalidProbabilities, InvalidSetting, ShapeMismatch, hard_concrete

LOG_ALPHAS = [-20.0, -6.0, -1.5, 0.0, 0.3, 4.0, 20.0]
TEMPERATURES = [0.05, 0.25, 2 / 3, 2.0]
LIMITS = [(-0.1, 1.1), (-0.5, 1.2), (-0.01, 1.01)]


def tail(t, log_alpha, temperature, limits):
    """P(z > t), from the definition of the gate by its noise: the reference of these tests."""
    lower, upper = limits
    return special.expit(log_alpha - temperature * special.logit((t - lower) / (upper - lower)))


def double(value):
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("log_alpha", LOG_ALPHAS)
def test_moments_are_integrals_of_the_tail(log_alpha, temperature, limits):
    """E[z] and E[z**2] are the integrals of P(z > t) and 2 t P(z > t) over [0, 1]."""
    arguments = (log_alpha, temperature, limits)
    first, _ = integrate.quad(tail, 0, 1, arguments, epsabs=1e-12, epsrel=1e-12)
    second, _ = integrate.quad(lambda t: 2 * t * tail(t, *arguments), 0, 1, epsabs=1e-12)

    assert_allclose(
        hard_concrete.mean(double(log_alpha), temperature, limits).item(), first, atol=1e-9
    )
    assert_allclose(
        hard_concrete.variance(double(log_alpha), temperature, limits).item(),
        second - first**2,
        atol=1e-8,
    )


@pytest.mark.parametrize("log_alpha", [-20, 12, 20])
def test_small_variances_keep_their_digits(log_alpha):
    """Thirty digits by mpmath: the relative error stays small where the variance is 1e-9."""
    with mpmath.workdps(30):
        logit_tail = lambda t: log_alpha - mpmath.log((t + 0.1) / (1.1 - t)) / 4  # noqa: E731 - local
        chance = lambda t: 1 / (1 + mpmath.exp(-logit_tail(t)))  # noqa: E731 - local
        first = mpmath.quad(chance, [0, 0.5, 1])
        exact = mpmath.quad(lambda t: 2 * t * chance(t), [0, 0.5, 1]) - first**2
    assert_allclose(
        hard_concrete.variance(double(float(log_alpha)), 0.25).item(), float(exact), rtol=1e-8
    )


def test_known_value_of_the_paper_settings():
    """At log_alpha 0, temperature 2/3 and limits -0.1 and 1.1, P(z > 0) is 11**(2/3) to 1."""
    assert_allclose(hard_concrete.prob_active(double(0.0)).item(), 0.8318, atol=5e-5)
    assert_allclose(hard_concrete.prob_one(double(0.0)).item(), 1 - 0.8318, atol=5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.25, 2 / 3])
@pytest.mark.parametrize("log_alpha", [-3.0, 0.0, 2.0])
def test_samples_have_the_stated_distribution(log_alpha, temperature, dtype):
    """Shares of zeros and ones, mean, variance and median of 200,000 draws, within 5 sigma."""
    n_draws = 200_000
    logits = torch.full((n_draws,), log_alpha, dtype=dtype)
    z = hard_concrete.sample(logits, temperature, generator=torch.Generator().manual_seed(1))
    one = double(log_alpha)
    facts = {
        hard_concrete.prob_active: (z > 0).double().mean(),
        hard_concrete.prob_one: (z == 1).double().mean(),
        hard_concrete.mean: z.double().mean(),
        hard_concrete.variance: z.double().var(),
    }
    for formula, observed in facts.items():
        assert abs(formula(one, temperature) - observed) < 5 * 0.5 / n_draws**0.5, formula
    assert abs(hard_concrete.median(one, temperature) - z.median()) < 0.02


@given(prob=st.floats(1e-5, 1 - 1e-5), temperature=st.floats(0.05, 2), lower=st.floats(-1, -0.01))
def test_logit_for_a_probability_inverts_the_probability(prob, temperature, lower):
    logit = hard_concrete.log_alpha_for(double(prob), temperature, (lower, 1.1))
    assert_allclose(
        hard_concrete.prob_active(logit, temperature, (lower, 1.1)).item(), prob, rtol=1e-9
    )


@given(log_alpha=st.floats(-10, 10), temperature=st.floats(0.05, 2))
def test_median_gate_is_open_exactly_when_more_likely_than_not(log_alpha, temperature):
    prob = hard_concrete.prob_active(double(log_alpha), temperature).item()
    if abs(prob - 0.5) > 1e-9:
        assert (hard_concrete.median(double(log_alpha), temperature).item() > 0) == (prob > 0.5)


@given(log_alpha=st.floats(-15, 15), temperature=st.floats(0.05, 2))
def test_moments_mirror_when_the_logit_changes_sign(log_alpha, temperature):
    """With symmetric limits, 1 - z has the distribution of z with the opposite logit."""
    one, other = double(log_alpha), double(-log_alpha)
    assert_allclose(
        hard_concrete.mean(one, temperature), 1 - hard_concrete.mean(other, temperature), atol=1e-14
    )
    assert_allclose(
        hard_concrete.variance(one, temperature),
        hard_concrete.variance(other, temperature),
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", ["mean", "variance", "prob_active", "prob_one"])
def test_formulas_have_the_derivatives_that_autograd_gives(name):
    logits = torch.linspace(-5, 5, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: getattr(hard_concrete, name)(x, 0.4), logits)


def test_samples_are_differentiable_in_the_logits():
    logits = torch.linspace(-1, 1, 9, dtype=torch.float64, requires_grad=True)
    draw = lambda x: hard_concrete.sample(x, generator=torch.Generator().manual_seed(3))  # noqa: E731 - local
    assert torch.autograd.gradcheck(draw, logits)
    (gradient,) = torch.autograd.grad(draw(logits).sum(), logits)
    assert gradient.count_nonzero() > 0


def test_initial_probabilities_may_differ_by_item():
    prob = np.array([[0.1, 0.5], [0.9, 0.999]])
    gate = HardConcrete(2, 2, init_mean=prob, dtype=torch.float64)
    assert_allclose(gate.prob_active().detach(), prob, rtol=1e-12)


@pytest.mark.parametrize(
    "gate",
    [HardConcrete(6), HardConcrete(n_items=6), HardConcrete(2, 3), HardConcrete((2, 3))],
    ids=str,
)
def test_shapes_can_be_given_in_each_way(gate):
    assert gate().numel() == 6
    assert gate().shape == gate.log_alpha.shape


def test_draws_in_training_and_medians_in_evaluation():
    gate = HardConcrete(50, seed=0)
    assert not torch.equal(gate(), gate())
    gate.eval()
    assert torch.equal(gate(), gate())
    assert torch.equal(gate(), gate.median())


@pytest.mark.parametrize("source", ["seed", "generator"])
def test_seeded_gates_repeat_and_leave_the_global_generator_alone(source):
    def make():
        given = 7 if source == "seed" else torch.Generator().manual_seed(7)
        return HardConcrete(50, **{source: given})

    before = torch.get_rng_state()
    first, second = make()(), make()()
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_copies_draw_the_same_gates():
    gate = HardConcrete(50, seed=0)
    assert torch.equal(copy.deepcopy(gate)(), gate())


def test_state_survives_a_file_without_pickled_classes():
    gate = HardConcrete(50, temperature=0.3, init_mean=0.7).eval()
    gate.set_temperature(0.11)
    file = io.BytesIO()
    torch.save(gate.state_dict(), file)
    file.seek(0)
    other = HardConcrete(50).eval()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(), gate())
    assert other.temperature == gate.temperature


def test_compiled_gates_are_not_compiled_again_when_the_temperature_changes():
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    gate = HardConcrete(10, init_mean=0.8)
    compiled = torch.compile(
        lambda: (gate(), gate.mean(), gate.variance()), backend=counter, fullgraph=True
    )
    for temperature in np.geomspace(1, 0.1, 10):
        gate.set_temperature(float(temperature))
        assert_allclose(compiled()[1].detach(), gate.mean().detach(), rtol=1e-6)
    assert counter.frame_count == 1


def test_mixed_precision_leaves_the_formulas_alone():
    gate = HardConcrete(100, init_mean=0.3)
    expected = gate.mean(), gate.variance(), gate.prob_active()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for mixed, plain in zip(
            (gate.mean(), gate.variance(), gate.prob_active()), expected, strict=True
        ):
            assert torch.equal(mixed, plain)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_gates_move_to_a_device_with_their_generator_left_behind(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    gate = HardConcrete(50, seed=0)
    expected = copy.deepcopy(gate)().detach()
    moved = gate.to(device)()
    assert moved.device.type == device
    assert_allclose(moved.detach().cpu(), expected, rtol=1e-5)


ALL_FORMULAS = ["__call__", "median", "mean", "prob_active", "variance"]


def settled_gate(**settings):
    gate = HardConcrete(4, **settings)
    gate.settle([True, False, True, False])
    return gate


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.01, 2 / 3, 5.0])
@pytest.mark.parametrize("training", [True, False])
def test_settled_gates_are_exactly_open_or_shut_with_gradients_of_zero(
    training, temperature, dtype
):
    gate = settled_gate(temperature=temperature, limits=(-0.03, 1.4), dtype=dtype).train(training)
    for name in ALL_FORMULAS:
        found = getattr(gate, name)()
        expected = [0, 0, 0, 0] if name == "variance" else [1, 0, 1, 0]
        assert found.tolist() == expected, name
        (gradient,) = torch.autograd.grad(found.sum(), gate.log_alpha)
        assert gradient.tolist() == [0, 0, 0, 0], name
    assert hard_concrete.prob_one(gate.log_alpha).tolist() == [1, 0, 1, 0]
    assert gate.penalty() == 2


@pytest.mark.parametrize("optimiser", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_training_goes_on_around_settled_gates(optimiser):
    gate = HardConcrete(3)
    with torch.no_grad():
        gate.log_alpha.copy_(torch.tensor([torch.inf, -torch.inf, 0.0]))
    assert not gate.settled
    steps = optimiser(gate.parameters(), lr=0.1, weight_decay=0.0)
    for _ in range(3):
        steps.zero_grad()
        (gate() ** 2).sum().add(gate.mean().sum() + gate.penalty()).backward()
        steps.step()
        gate.constrain_parameters()
    assert gate.log_alpha[:2].tolist() == [torch.inf, -torch.inf]
    assert gate.log_alpha[2] < -0.05


def test_settling_is_known_selected_first_and_undone_by_new_logits():
    gate = settled_gate()
    assert gate.settled
    assert gate.select(2).tolist() == [0, 2]
    assert gate.select(3).size == 3
    with torch.no_grad():
        gate.log_alpha[1] = 1e30
    assert not gate.settled
    assert gate.select(3).tolist() == [0, 1, 2]
    gate.settle(torch.zeros(4))
    assert gate.eval()().tolist() == [0, 0, 0, 0]
    with pytest.raises(ShapeMismatch, match="one boolean for each gate"):
        gate.settle([True])


def test_draws_for_each_example_are_independent_and_have_the_stated_chances():
    gate = HardConcrete(2, 3, init_mean=0.3, seed=0)
    draws = gate((20_000,))
    assert draws.shape == (20_000, 2, 3)
    assert (abs((draws > 0).float().mean(0) - 0.3) < 5 * 0.46 / 20_000**0.5).all()
    assert len(torch.unique(draws[:, 0, 0])) > 1000
    medians = gate.eval()(sample_shape=(5, 7))
    assert medians.shape == (5, 7, 2, 3)
    assert torch.equal(medians[3, 2], gate.median())


def test_group_sizes_may_differ_by_gate():
    """The expected number of parameters is a sum over gates, whatever form the sizes have."""
    prob, sizes = torch.tensor([[0.2, 0.4], [0.6, 0.8]]), torch.tensor([[1, 10], [100, 1000]])
    gate = HardConcrete(2, 2, init_mean=prob, group_size=sizes)
    assert_allclose(gate.expected_parameters().item(), (prob * sizes).sum().item(), rtol=1e-6)
    assert gate.n_parameters == 1111
    by_row = HardConcrete(2, 2, init_mean=prob, group_size=sizes[:, :1])
    assert_allclose(by_row.expected_parameters().item(), 0.6 + 140, rtol=1e-6)
    assert by_row.n_parameters == 202
    by_row.group_size = 3
    assert (by_row.group_size, by_row.n_parameters) == (3, 12)
    by_row.group_size = torch.tensor(2.5)
    assert by_row.half().n_parameters == 10
    assert by_row.group_size.dtype == torch.float32


def test_the_state_of_a_generator_is_saved_and_the_stream_goes_on():
    gate = HardConcrete(5, seed=3)
    gate()
    state = copy.deepcopy(gate.state_dict())
    expected = [gate() for _ in range(3)]
    others = [HardConcrete(5, seed=8), HardConcrete(5)]
    for other in others:
        assert other.load_state_dict(state) == ([], [])
        assert all(torch.equal(other(), draw) for draw in expected)
    del state["generator_state"]
    before = others[0].generator.get_state()
    assert others[0].load_state_dict(state) == ([], [])
    assert torch.equal(others[0].generator.get_state(), before)
    assert "generator_state" not in HardConcrete(5).state_dict()
    with pytest.raises(RuntimeError, match="another kind of generator"):
        HardConcrete(5, seed=0).load_state_dict(
            {**state, "generator_state": torch.zeros(16, dtype=torch.uint8)}
        )


def test_states_are_plain_tensors_that_safetensors_can_save():
    gate = settled_gate(seed=3, group_size=torch.tensor([1, 2, 3, 4]))
    loaded = safetensors.torch.load(safetensors.torch.save(gate.state_dict()))
    other = HardConcrete(4, group_size=torch.ones(4, dtype=torch.int64))
    other.load_state_dict(loaded)
    assert other.settled
    assert other.n_parameters == 10
    for one in (gate, other):
        torch.nn.init.zeros_(one.log_alpha)
    assert torch.equal(other(), gate())


def test_a_state_fills_gates_that_were_made_without_memory():
    sizes = torch.tensor([1, 2, 3, 4])
    gate = HardConcrete(4, init_mean=[0.1, 0.4, 0.6, 0.9], temperature=0.3, group_size=sizes)
    empty = HardConcrete(4, group_size=sizes, device="meta").to_empty(device="cpu")
    empty.load_state_dict(gate.state_dict())
    assert torch.equal(empty.eval()(), gate.eval()())
    assert torch.equal(empty.expected_parameters(), gate.expected_parameters())


def test_select_returns_exactly_the_likeliest():
    gate = HardConcrete(5, init_mean=[0.2, 0.999, 0.1, 0.9999, 0.5])
    assert gate.select(k=2).tolist() == [1, 3]
    with torch.no_grad():
        gate.log_alpha.copy_(torch.tensor([40.0, 50.0, 41.0, 60.0, 42.0]))
    assert gate.select(k=2).tolist() == [1, 3]


def test_constraining_brings_the_logits_back():
    gate = HardConcrete(3)
    with torch.no_grad():
        gate.log_alpha.copy_(torch.tensor([-1e9, 1.0, 1e9]))
    gate.constrain_parameters()
    assert gate.log_alpha.tolist() == [-20.0, 1.0, 20.0]


@pytest.mark.parametrize(
    ("settings", "error", "way_out"),
    [
        ({"temperature": 0.0}, InvalidSetting, "positive"),
        ({"temperature": -1.0}, InvalidSetting, "positive"),
        ({"temperature": float("nan")}, InvalidSetting, "positive"),
        ({"limits": (0.0, 1.1)}, InvalidSetting, "begin below 0"),
        ({"limits": (-0.1, 1.0)}, InvalidSetting, "end above 1"),
        ({"init_mean": 1.5}, InvalidProbabilities, r"not in \[0, 1\]"),
        ({"init_mean": float("nan")}, InvalidProbabilities, r"not in \[0, 1\]"),
        ({"init_mean": [0.5, 0.5]}, ShapeMismatch, "one for each gate"),
        ({"n_items": 3}, ShapeMismatch, "once"),
        ({"seed": 0, "generator": torch.Generator()}, InvalidSetting, "one of the two"),
        ({"group_size": -1}, InvalidSetting, "0 or more"),
        ({"group_size": torch.tensor([1.0, torch.inf, 1.0])}, InvalidSetting, "0 or more"),
        ({"group_size": torch.ones(2)}, ShapeMismatch, "cannot be broadcast"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings, error, way_out):
    with pytest.raises(error, match=way_out) as caught:
        HardConcrete(3, **settings)
    assert isinstance(caught.value, ValueError)


def test_a_new_temperature_is_checked():
    with pytest.raises(InvalidSetting, match="positive"):
        HardConcrete(3).set_temperature(-0.1)
