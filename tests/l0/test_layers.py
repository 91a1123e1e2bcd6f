"""Gated layers equal plain layers with gated weights; shut units are silent."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from l0 import InvalidSetting, L0Conv2d, L0Linear, compute_l0_penalty
from l0.layers import PlainForm

LINEARS = {
    kind: lambda kind=kind: L0Linear(6, 4, gate=kind) for kind in ("input", "output", "weight")
}
CONVOLUTIONS = {
    f"{kind}, groups {groups}": lambda kind=kind, groups=groups: L0Conv2d(
        6,
        6,
        (3, 2),
        stride=2,
        padding=1,
        dilation=2,
        groups=groups,
        padding_mode="circular",
        gate=kind,
    )
    for kind in ("channel", "input", "weight")
    for groups in (1, 2, 6)
}
LAYERS = LINEARS | CONVOLUTIONS


def data_for(layer):
    shape = (5, 6) if isinstance(layer, nn.Linear) else (5, 6, 9, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def open_gates(layer, logit=50.0):
    with torch.no_grad():
        layer.gate.log_alpha.fill_(logit)
    return layer


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_open_gates_leave_the_plain_layer(name, training):
    layer = open_gates(LAYERS[name]()).train(training)
    data = data_for(layer)
    plain = nn.Linear.forward if isinstance(layer, nn.Linear) else nn.Conv2d.forward
    assert_close(layer(data), plain(layer, data))


@pytest.mark.parametrize("name", [name for name in LAYERS if "input" in name])
def test_a_shut_input_is_not_seen(name):
    layer = open_gates(LAYERS[name]()).eval()
    with torch.no_grad():
        layer.gate.log_alpha[4] = -50.0
    data = data_for(layer)
    before = layer(data)
    data[:, 4] += 100.0
    assert_close(layer(data), before, rtol=0, atol=0)
    data[:, 3] += 100.0
    assert not torch.allclose(layer(data), before)


@pytest.mark.parametrize("name", [name for name in LAYERS if "channel" in name or name == "output"])
def test_a_shut_output_is_silent_and_the_others_are_as_before(name):
    layer = open_gates(LAYERS[name]()).eval()
    data = data_for(layer)
    before = layer(data)
    with torch.no_grad():
        layer.gate.log_alpha[2] = -50.0
    after = layer(data)
    assert after[:, 2].count_nonzero() == 0
    kept = [unit for unit in range(after.shape[1]) if unit != 2]
    assert_close(after[:, kept], before[:, kept])


@pytest.mark.parametrize("name", LAYERS)
def test_each_gated_parameter_is_counted_once(name):
    """With all gates open, the penalty is the number of gated parameters."""
    layer = open_gates(LAYERS[name]())
    gated = sum(parameter.numel() for parameter, _ in layer.gated_parameters())
    assert compute_l0_penalty(layer).item() == gated
    assert gated in {layer.weight.numel(), layer.weight.numel() + layer.bias.numel()}
    for parameter, prob in layer.gated_parameters():
        assert prob.shape == parameter.shape


@pytest.mark.parametrize("name", LAYERS)
def test_one_draw_serves_a_whole_pass(name):
    layer = LAYERS[name]()
    calls = []
    layer.gate.register_forward_hook(lambda *_: calls.append(1))
    layer(data_for(layer)).sum().backward()
    assert len(calls) == 1
    assert layer.weight.grad.count_nonzero() > 0


def test_a_draw_switches_weight_and_bias_together():
    layer = L0Linear(3, 200, gate="output", init_mean=0.5, seed=0)
    output = layer(torch.zeros(1, 3))[0]
    assert (output == 0).sum() > 50
    assert (output != 0).sum() > 50


@pytest.mark.parametrize("name", ["input", "channel, groups 2"])
def test_state_survives_a_file_without_pickled_classes(name):
    layer, other = LAYERS[name]().eval(), LAYERS[name]().eval()
    layer.gate.set_temperature(0.1)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_close(other(data_for(layer)), layer(data_for(layer)), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["input", "output", "weight", "channel, groups 2"])
def test_layers_run_compiled_in_mixed_precision_and_low_precision(name):
    layer = open_gates(LAYERS[name]())
    data = data_for(layer)
    expected = layer(data)
    assert_close(torch.compile(layer, backend="eager", fullgraph=True)(data), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(layer(data).float(), expected, rtol=0.05, atol=0.05)
    assert_close(layer.bfloat16()(data.bfloat16()).float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", LAYERS)
def test_the_plain_layer_gives_the_outputs_of_evaluation_mode(name):
    layer = LAYERS[name]()
    with torch.no_grad():
        logits = layer.gate.log_alpha
        logits.copy_(torch.linspace(-3, 3, logits.numel()).view_as(logits))
    before = torch.get_rng_state()
    plain = layer.eval().plain()
    assert torch.equal(before, torch.get_rng_state())
    assert isinstance(layer, PlainForm)
    assert type(plain) in {nn.Linear, nn.Conv2d}
    assert {name for name, _ in plain.named_parameters()} == {"weight", "bias"}
    assert_close(plain(data_for(layer)), layer(data_for(layer)), rtol=0, atol=0)
    assert 0 < (plain.weight == 0).sum() < plain.weight.numel()
    assert not plain.training
    with torch.no_grad():
        plain.weight += 1.0
    assert not torch.equal(layer.plain().weight, plain.weight)


@pytest.mark.parametrize(
    "make",
    [
        lambda: L0Linear(6, 4, bias=False, dtype=torch.bfloat16),
        lambda: L0Conv2d(6, 6, 1, bias=False, dtype=torch.float64),
    ],
)
def test_the_plain_layer_has_the_type_and_the_bias_of_its_origin(make):
    layer = make()
    plain = layer.plain()
    assert plain.bias is None
    assert plain.weight.dtype == layer.weight.dtype
    assert plain.weight.requires_grad
    assert plain.training


PER_EXAMPLE = {
    "input": lambda **more: L0Linear(6, 4, gate="input", seed=0, **more),
    "output": lambda **more: L0Linear(6, 4, gate="output", seed=0, **more),
} | {
    f"{kind}, groups {groups}": lambda kind=kind, groups=groups, **more: L0Conv2d(
        6, 6, 3, padding=1, groups=groups, padding_mode="reflect", gate=kind, seed=0, **more
    )
    for kind in ("channel", "input")
    for groups in (1, 2, 6)
}


@pytest.mark.parametrize("name", PER_EXAMPLE)
def test_an_example_alone_gets_the_same_from_gates_on_weights_and_on_activations(name):
    torch.manual_seed(0)
    each, once = (
        PER_EXAMPLE[name](per_example=per_example, init_mean=0.6) for per_example in (True, False)
    )
    once.load_state_dict(each.state_dict())
    data = data_for(each)
    assert_close(each(data[:1]), once(data[:1]))
    assert_close(each(data[0]), once(data[0]))
    assert_close(each.eval()(data), once.eval()(data), rtol=0, atol=0)


@pytest.mark.parametrize("name", PER_EXAMPLE)
def test_each_example_has_gates_of_its_own(name):
    layer = PER_EXAMPLE[name](per_example=True, init_mean=0.5)
    alike = data_for(layer)[:1].repeat(200, *[1] * (data_for(layer).ndim - 1))
    outputs = layer(alike)
    assert len(torch.unique(outputs.flatten(1), dim=0)) > 20
    assert layer(alike[:0]).shape == (0, *outputs.shape[1:])


def test_tokens_of_an_example_share_their_gates():
    layer = L0Linear(6, 4, gate="output", seed=0, per_example=True, init_mean=0.5)
    outputs = layer(torch.ones(50, 3, 6))
    assert torch.equal(outputs[:, 0], outputs[:, 2])
    assert len(torch.unique(outputs[:, 0], dim=0)) > 10


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, "same"])
def test_open_convolutions_equal_plain_ones_for_every_padding(padding_mode, padding):
    torch.manual_seed(0)
    settings = {"padding": padding, "padding_mode": padding_mode, "dilation": 2, "groups": 2}
    plain = nn.Conv2d(4, 6, 3, **settings)
    gated = open_gates(L0Conv2d(4, 6, 3, **settings))
    gated.load_state_dict({**gated.state_dict(), **plain.state_dict()})
    data = torch.randn(2, 4, 9, 8)
    assert_close(gated(data), plain(data))


def test_copies_of_a_layer_draw_the_same_gates():
    layer = L0Linear(20, 3, seed=0)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(torch.ones(1, 20)), layer(torch.ones(1, 20)))
    twin.gate.settle(torch.zeros(20))
    assert not layer.gate.settled


def test_single_weights_cannot_be_drawn_for_each_example():
    with pytest.raises(InvalidSetting, match="draw once per pass"):
        L0Linear(2, 2, gate="weight", per_example=True)


def test_unknown_gates_are_refused():
    with pytest.raises(InvalidSetting, match="input, output, channel, weight"):
        L0Linear(2, 2, gate="row")


@pytest.mark.parametrize("kind", ["input", "output", "weight"])
def test_settling_keeps_the_function_of_the_open_gates(kind):
    torch.manual_seed(0)
    layer = L0Linear(6, 5, gate=kind).eval()
    logits = layer.gate.log_alpha
    logits.data.copy_(torch.linspace(-2, 2, logits.numel()).view_as(logits))
    x, mask = torch.randn(3, 6), layer.gate.median() > 0
    expected = layer(x)
    layer.settle(mask)

    assert 0 < mask.sum() < mask.numel()
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.train()(x), expected)
