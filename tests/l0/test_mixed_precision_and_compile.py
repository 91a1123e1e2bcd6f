"""Gated layers in mixed and low precision, and compiled whole: the same gates, compiled once."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.testing import assert_close

from l0 import HardConcrete, L0Conv2d, L0Linear, compute_l0l2_penalty, hard_concrete
from l0.attention import L0MultiheadAttention


class Attention(L0MultiheadAttention):
    """Self-attention that is called with one tensor, as the other layers are."""

    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


LAYERS = {
    "linear": (lambda **more: L0Linear(6, 4, **more), (3, 6)),
    "convolution": (lambda **more: L0Conv2d(2, 4, 3, groups=2, **more), (3, 2, 5, 5)),
    "attention": (lambda **more: Attention(8, 2, batch_first=True, **more), (3, 5, 8)),
}


def layer_and_data(name, **settings):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    return make(**settings), torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_compiled_layers_draw_the_same_gates_and_are_compiled_once(name, seed, per_example):
    """Whole graphs, forward and backward, over a cooling temperature; own generators included."""
    layer, data = layer_and_data(name, seed=seed, per_example=per_example, init_mean=0.6)
    twin = copy.deepcopy(layer)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, backend=counter, fullgraph=True)
    for temperature in (1.0, 0.7, 0.5, 0.3):
        for one in (layer, twin):
            one.gate.set_temperature(temperature)
            one.zero_grad()
        torch.manual_seed(5)
        output = compiled(data)
        (output**2).sum().backward()
        torch.manual_seed(5)
        expected = twin(data)
        (expected**2).sum().backward()
        assert_close(output, expected)
        assert_close(layer.gate.log_alpha.grad, twin.gate.log_alpha.grad)
    assert counter.frame_count == 1


def test_a_compiled_model_draws_from_the_generator_that_it_has():
    gate = HardConcrete(20, seed=0)
    compiled = torch.compile(gate, backend="aot_eager", fullgraph=True)
    assert not torch.equal(compiled(), compiled())
    gate.generator = torch.Generator().manual_seed(7)
    drawn = [compiled() for _ in range(2)]
    gate.generator.manual_seed(7)
    assert_close([gate() for _ in range(2)], drawn)
    two = nn.ModuleList([HardConcrete(20, seed=1), HardConcrete(20, seed=2)])
    expected = [copy.deepcopy(one)() for one in two]
    drawn = torch.compile(lambda: [one() for one in two], backend="aot_eager", fullgraph=True)()
    assert_close(drawn, expected)


def test_draws_of_one_generator_in_one_graph_are_not_merged():
    gate = HardConcrete(20, seed=1)
    twin = copy.deepcopy(gate)
    compiled = torch.compile(lambda: (gate(), gate()), backend="aot_eager", fullgraph=True)
    found, expected = compiled(), (twin(), twin())
    assert_close(found, expected)
    assert not torch.equal(*found)
    weights = torch.arange(20.0)
    for first, second in (found, expected):
        (weights * first * second).sum().backward()
    assert_close(gate.log_alpha.grad, twin.log_alpha.grad)


def test_the_compiler_is_not_loaded_before_it_is_used():
    check = "import sys, l0.layers, l0.training; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_generator_as_argument_serves_a_compiled_function():
    generator = torch.Generator().manual_seed(2)
    draw = torch.compile(hard_concrete.sample, backend="eager", fullgraph=True)
    found = draw(torch.zeros(9), generator=generator)
    expected = hard_concrete.sample(torch.zeros(9), generator=generator.manual_seed(2))
    assert_close(found, expected)


@pytest.mark.parametrize("name", LAYERS)
def test_penalties_compile_as_whole_graphs(name):
    layer, _ = layer_and_data(name)
    penalty = lambda: compute_l0l2_penalty(layer, 1e-2, 1e-3)  # noqa: E731 - local
    assert_close(torch.compile(penalty, backend="aot_eager", fullgraph=True)(), penalty())


@pytest.mark.parametrize("settle", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_mixed_precision_rounds_the_layer_and_not_the_gates(name, settle):
    layer, data = layer_and_data(name, seed=0)
    if settle:
        layer.gate.settle(torch.arange(layer.gate.log_alpha.numel()) % 2 == 0)
    twin = copy.deepcopy(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(data)
        penalty = compute_l0l2_penalty(layer, 1e-2, 1e-3)
    assert_close(output.float(), twin(data), rtol=0.05, atol=0.05)
    assert_close(penalty, compute_l0l2_penalty(twin, 1e-2, 1e-3), rtol=0, atol=0)
    (output.float().sum() + penalty).backward()
    assert layer.gate.log_alpha.grad.isfinite().all()
    assert layer.gate.log_alpha.grad.dtype == torch.float32
    assert_close(layer.gate(), twin.gate(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LAYERS)
def test_low_precision_layers_train_and_take_their_median_gates_along(name, dtype):
    layer, data = layer_and_data(name, seed=0)
    expected = layer.eval()(data)
    low = layer.to(dtype).train()
    assert low.gate().dtype == dtype
    assert low.gate.temperature.dtype == torch.float32
    output = low(data.to(dtype))
    assert output.dtype == dtype
    (output.float().sum() + compute_l0l2_penalty(low, 1e-2, 1e-3)).backward()
    assert all(parameter.grad.isfinite().all() for parameter in low.parameters())
    output = low.eval()(data.to(dtype))
    assert_close(output.float(), expected, rtol=0.05, atol=0.05)
    plain = low.plain()
    plain_output = (
        plain(*[data.to(dtype)] * 3, need_weights=False)[0]
        if name == "attention"
        else plain(data.to(dtype))
    )
    assert_close(plain_output, output)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_exported_in_evaluation_mode(name):
    layer, data = layer_and_data(name)
    exported = torch.export.export(layer.eval(), (data,)).module()
    assert_close(exported(data), layer(data))
