"""Gated layers equal plain layers with gated weights; shut units are silent."""

import io

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from l0 import InvalidSetting, L0Conv2d, L0Linear, compute_l0_penalty

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


def test_unknown_gates_are_refused():
    with pytest.raises(InvalidSetting, match="input, output, channel, weight"):
        L0Linear(2, 2, gate="row")
