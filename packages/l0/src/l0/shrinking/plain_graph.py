"""A flat graph as a readable network: plain `torch.nn` layers under their original names."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from l0.multihead import MultiheadAttention
from l0.shrinking.flat_graph import FlatGraph
from l0.shrinking.plain_layers import Layer, plain_layer

aten = torch.ops.aten


def as_modules(flat: FlatGraph, original: nn.Module) -> fx.GraphModule:
    """A network of plain layers that computes what a flat graph computes.

    Where all parameters of an operation belong to one module of the original, the operation
    becomes a plain layer of `torch.nn` under that module's name. All other operations are called
    as functions, and read their parameters by name. A parameter that was used twice is still one.
    Dropout and batch norm are layers, so they follow `train()` and `eval()`, also where the
    original called them as functions, and so does the dropout inside `nn.MultiheadAttention`.

    Args:
        flat: The operations, with tensors that may be smaller than the original's. It is used up.
        original: The module that was exported; names and settings are read from it.

    Returns:
        A `GraphModule` in the training mode of the original, with copies of the tensors. Tensors
        that `forward` makes itself (`torch.arange`, …) are made on the device of the export.

    Examples:
        >>> from l0.shrinking.flat_graph import flat_graph
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Dropout(0.1)).eval()
        >>> program = torch.export.export(net, (torch.ones(4, 2),))
        >>> small = as_modules(flat_graph(program, net), net)
        >>> list(dict(small.named_children()))
        ['0', '2']
    """
    _carry_attention_dropout(flat.graph, original)
    tensors = {name: _own(tensor) for name, tensor in flat.tensors.items()}
    root = nn.Module()
    placed = _placed(flat, original)
    for name in sorted(placed, key=lambda name: name.count(".")):
        _put(root, name, _built(placed[name], name, tensors, original))
    for name, calls in placed.items():
        for node in calls.nodes:
            _call(flat, node, name)
    for node in reversed(flat.graph.nodes):
        if not node.users and node.op in ("get_attr", "call_function") and not node.is_impure():
            flat.graph.erase_node(node)
    for node in list(flat.graph.nodes):
        node.meta = {}
        if node.op == "get_attr":
            _put_tensor(root, node.target, tensors[node.target], node.target not in flat.transient)
            _first_user(flat.graph, node).prepend(node)
    flat.graph.lint()
    small = fx.GraphModule(root, flat.graph, class_name=f"Small{type(original).__name__}")
    for node in flat.graph.nodes:
        if node.op == "get_attr" and node.target in flat.transient:
            # Copied into the graph's module, a buffer has become part of `state_dict`.
            owner, _, role = node.target.rpartition(".")
            small.get_submodule(owner)._non_persistent_buffers_set.add(role)
    small.train(original.training)
    return small


@dataclass
class _Calls:
    """A layer, and the nodes that call it."""

    layer: Layer
    nodes: list[fx.Node] = field(default_factory=list)


def _placed(flat: FlatGraph, original: nn.Module) -> dict[str, _Calls]:
    """Layers by name. A call that needs the same name for something else stays a function."""
    placed: dict[str, _Calls] = {}
    taken = {name for name, _ in original.named_modules()} | flat.tensors.keys()
    for node in flat.graph.nodes:
        layer = _layer_of(flat, node)
        if layer is None:
            continue
        name = _name_of(node, layer, original)
        if name is None:
            if layer.tensors:
                continue
            owner = owner_of(node)
            name = _fresh(f"{owner}." * bool(owner) + layer.kind.__name__.lower(), taken)
            taken.add(name)
        module = _module(original, name)
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.momentum is None:
            layer.settings["momentum"] = None  # A cumulative average: not seen in evaluation.
        calls = placed.setdefault(name, _Calls(layer))
        if _same(calls.layer, layer):
            calls.nodes.append(node)
    by_layers = {node for calls in placed.values() for node in calls.nodes}
    read_elsewhere = {
        node.target
        for node in flat.graph.nodes
        if node.op == "get_attr" and not by_layers.issuperset(node.users)
    }
    # A bias that others read but the layer does not add would be added, were it in the layer.
    return {
        name: calls
        for name, calls in placed.items()
        if calls.layer.settings.get("bias", True) or f"{name}.bias" not in read_elsewhere
    }


def _layer_of(flat: FlatGraph, node: fx.Node) -> Layer | None:
    return plain_layer(node, lambda read: tuple(flat.tensors[str(read.target)].shape))


def _same(left: Layer, right: Layer) -> bool:
    def reads(layer: Layer) -> dict[str, Any]:
        return {role: node.target for role, node in layer.tensors.items()}

    return (left.kind, left.settings, reads(left)) == (right.kind, right.settings, reads(right))


def _name_of(node: fx.Node, layer: Layer, original: nn.Module) -> str | None:
    """The module of the original that has all tensors of a layer under their usual names."""
    owner = owner_of(node)
    if not layer.tensors:
        is_it = isinstance(_module(original, owner), nn.modules.dropout._DropoutNd | nn.LayerNorm)
        return owner if is_it else None
    weight = str(next(iter(layer.tensors.values())).target)
    for name in (owner, weight.rpartition(".")[0]):
        fits = (
            _is(original, f"{name}.{role}", str(read.target))
            for role, read in layer.tensors.items()
        )
        if name and all(fits):
            return name
    return None


def owner_of(node: fx.Node) -> str:
    """Name of the module whose `forward` called an operation; empty for the whole network."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    # The second call of a module is written `name@1`.
    return re.sub(r"@\d+", "", stack[-1][0]) if stack else ""


def _is(original: nn.Module, name: str, other: str) -> bool:
    """Whether two names stand for one tensor."""
    tensor = _tensor(original, name)
    return name == other or (tensor is not None and tensor is _tensor(original, other))


def _module(root: nn.Module, name: str) -> nn.Module | None:
    try:
        return root.get_submodule(name)
    except AttributeError:
        return None


def _tensor(root: nn.Module, name: str) -> Tensor | None:
    owner, _, role = name.rpartition(".")
    module = _module(root, owner)
    value = None if module is None else getattr(module, role, None)
    return value if isinstance(value, Tensor) else None


def _fresh(name: str, taken: set[str]) -> str:
    candidates = (f"{name}_{number}" if number else name for number in range(len(taken) + 1))
    return next(candidate for candidate in candidates if candidate not in taken)


def _carry_attention_dropout(graph: fx.Graph, original: nn.Module) -> None:
    """Put the dropout of `nn.MultiheadAttention` back, which evaluation leaves out.

    Where it is an argument of a fused attention, the node's `meta` has it already.
    """
    for node in list(graph.nodes):
        module = _module(original, owner_of(node)) if node.op == "call_function" else None
        if not isinstance(module, nn.MultiheadAttention | MultiheadAttention) or not module.dropout:
            continue
        if node.target is aten.softmax.int:
            with graph.inserting_after(node):
                dropout = graph.call_function(aten.dropout.default, (node, module.dropout, False))
            dropout.meta = dict(node.meta)
            node.replace_all_uses_with(dropout, lambda user, made=dropout: user is not made)


def _first_user(graph: fx.Graph, node: fx.Node) -> fx.Node:
    user: fx.Node = next(other for other in graph.nodes if other in node.users)
    return user


def _own(tensor: Tensor) -> Tensor:
    copy = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(copy, requires_grad=tensor.requires_grad)
    return copy


def _built(
    calls: _Calls, name: str, tensors: Mapping[str, Tensor], original: nn.Module
) -> nn.Module:
    layer = calls.layer
    with torch.device("meta"):  # Nothing is drawn at random for weights that are given below.
        module = layer.kind(**layer.settings)
    for role, read in layer.tensors.items():
        _set_tensor(module, role, tensors[str(read.target)])
    if "num_batches_tracked" in module._buffers:
        count = _tensor(original, f"{name}.num_batches_tracked")
        module.num_batches_tracked = torch.tensor(0) if count is None else count.clone()
    return module


def _call(flat: FlatGraph, node: fx.Node, name: str) -> None:
    """Call a layer instead of a function."""
    graph, layer = flat.graph, _layer_of(flat, node)
    assert layer is not None
    with graph.inserting_before(node):
        call = graph.create_node("call_module", name, layer.inputs)
    if issubclass(layer.kind, nn.LSTM):
        # The function gives (output, h, c), the layer gives (output, (h, c)).
        for user in list(node.users):
            position = user.args[1]
            assert isinstance(position, int)
            if position > 0:
                with graph.inserting_before(user):
                    states = graph.call_function(operator.getitem, (call, 1))
                user.args = (states, position - 1)
    node.replace_all_uses_with(call)
    graph.erase_node(node)


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    _container(root, owner).add_module(last, module)


def _container(root: nn.Module, name: str) -> nn.Module:
    for part in filter(None, name.split(".")):
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root


def _put_tensor(root: nn.Module, name: str, tensor: Tensor, persistent: bool) -> None:
    owner, _, role = name.rpartition(".")
    _set_tensor(_container(root, owner), role, tensor, persistent)


def _set_tensor(module: nn.Module, role: str, tensor: Tensor, persistent: bool = True) -> None:
    if isinstance(tensor, nn.Parameter):
        # By assignment: recurrent layers keep a list of their parameters up to date with it.
        setattr(module, role, tensor)
    else:
        module.register_buffer(role, tensor, persistent)
