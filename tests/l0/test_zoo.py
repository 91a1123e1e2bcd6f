"""Networks of the usual kinds, with random gates: what is left of them gives the same outputs."""

import io
import logging
import warnings
from copy import deepcopy
from functools import cache

import onnxruntime
import pytest
import torch
from torch.utils import _pytree as pytree

from l0.conversion import convert
from l0.shrinking.materialization import materialize
from l0.shrinking.spec import load_spec, save_spec

from .zoo import ZOO

DENSITIES = (0.3, 0.7)

# Recurrent layers set a list of their weights when they are called; the export tells so.
pytestmark = pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights")


@cache
def gated_and_small(name, density):
    architecture = ZOO[name]
    args, kwargs = architecture.example()
    gated = convert(
        architecture.network(), architecture.gates, example_inputs=args, example_kwargs=kwargs
    )
    generator = torch.Generator().manual_seed(3)
    for _, gate in gated.named_gates():
        shape = gate.log_alpha.shape
        is_open = torch.rand(shape, generator=generator) < density
        is_open.view(-1)[0], is_open.view(-1)[-1] = True, False
        # Open gates between 0.6 and 1, so that their values have to be multiplied in.
        logits = torch.rand(shape, generator=generator) + 0.2
        gate.log_alpha.data.copy_(torch.where(is_open, logits, -9.0))
    return gated.eval(), materialize(gated, args, example_kwargs=kwargs)


def assert_same(given, wanted, tolerance=1e-5):
    """Equal relative to the largest value of each output."""
    given, wanted = pytree.tree_leaves_with_path(given), pytree.tree_leaves_with_path(wanted)
    assert [path for path, _ in given] == [path for path, _ in wanted]
    for (_, one), (_, other) in zip(given, wanted, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= tolerance * other.abs().max()


def n_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("name", ZOO)
def test_the_smaller_network_gives_the_same(name, density):
    gated, small = gated_and_small(name, density)
    args, kwargs = ZOO[name].example(n=3, seed=1)

    assert_same(small(*args, **kwargs), gated(*args, **kwargs))
    assert n_parameters(small) < n_parameters(gated.module)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("name", ZOO)
def test_the_size_is_the_one_that_was_counted(name, density):
    gated, small = gated_and_small(name, density)

    assert n_parameters(small) == gated.hard_size("params")


@pytest.mark.parametrize("name", ZOO)
def test_the_original_is_left_as_it_was(name):
    network = ZOO[name].network().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    args, kwargs = ZOO[name].example()
    same = materialize(network, args, example_kwargs=kwargs)

    assert n_parameters(same) == n_parameters(network)
    assert all(part.training for part in network.modules())
    assert same.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
    assert not {id(p) for p in same.parameters()} & {id(p) for p in network.parameters()}


@pytest.mark.parametrize("name", ZOO)
def test_zeros_anywhere_are_enough(name):
    """Rows, columns, biases and single weights of zeros, without any gates."""
    network = ZOO[name].network(seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            for axis, share in enumerate((0.3, 0.3)[: parameter.ndim]):
                gone = torch.rand(parameter.shape[axis], generator=generator) < share
                parameter.index_fill_(axis, gone.nonzero()[:, 0], 0.0)
            parameter *= torch.rand(parameter.shape, generator=generator) < 0.9
    # Of one example every value is the same: that proves no constant.
    args, kwargs = ZOO[name].example(n=1)
    small = materialize(network, args, example_kwargs=kwargs)
    args, kwargs = ZOO[name].example(n=3, seed=1)

    assert_same(small(*args, **kwargs), network(*args, **kwargs))
    assert n_parameters(small) < n_parameters(network)


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_that_is_left_can_be_trained(name):
    small = deepcopy(gated_and_small(name, DENSITIES[1])[1]).train()
    args, kwargs = ZOO[name].example(n=6, seed=2)
    outputs = pytree.tree_leaves(small(*args, **kwargs))
    sum(output.square().sum() for output in outputs).backward()

    for key, parameter in small.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", ZOO)
def test_torch_export_agrees(name):
    gated, small = gated_and_small(name, DENSITIES[1])
    args, kwargs = ZOO[name].example(n=5, seed=4)

    assert_same(exported(name).module()(*args, **kwargs), gated(*args, **kwargs))
    assert_same(small(*args, **kwargs), gated(*args, **kwargs))


@cache
def exported(name):
    _, small = gated_and_small(name, DENSITIES[1])
    args, kwargs = ZOO[name].example()
    inputs = [node.target for node in small.graph.nodes if node.op == "placeholder"]
    any_number = {name: {0: torch.export.Dim.AUTO} for name in inputs}
    return torch.export.export(small, args, kwargs, dynamic_shapes=any_number)


@pytest.mark.parametrize("name", ZOO)
def test_onnx_runtime_agrees(name):
    gated, _ = gated_and_small(name, DENSITIES[1])
    args, kwargs = ZOO[name].example()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What the exporter uses is not what is tested here.
        program = torch.onnx.export(
            exported(name), args, kwargs=kwargs, dynamo=True, verbose=False, optimize=False
        )
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    args, kwargs = ZOO[name].example(n=5, seed=4)
    tensors = [*args, *kwargs.values()]
    names = [each.name for each in session.get_inputs()]
    outputs = session.run(None, {k: v.numpy() for k, v in zip(names, tensors, strict=True)})
    wanted = pytree.tree_leaves(gated(*args, **kwargs))

    assert_same([torch.from_numpy(output) for output in outputs], wanted)


@pytest.mark.parametrize("name", ZOO)
def test_the_saved_network_is_the_same_network(name, tmp_path):
    _, small = gated_and_small(name, DENSITIES[1])
    args, kwargs = ZOO[name].example(n=5, seed=4)
    save_spec(small, tmp_path)
    again = load_spec(tmp_path)

    assert again.code == small.code
    assert str(again) == str(small)
    for one, other in zip(
        pytree.tree_leaves(again(*args, **kwargs)),
        pytree.tree_leaves(small(*args, **kwargs)),
        strict=True,
    ):
        assert torch.equal(one, other)
    assert list(again.state_dict()) == list(small.state_dict())
