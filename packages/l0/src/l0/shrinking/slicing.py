"""Take units out of a flat graph: smaller tensors, and operations with the sizes that are left."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from l0.shrinking.dead_units import Plan
from l0.shrinking.flat_graph import FlatGraph
from l0.shrinking.plain_layers import arguments
from l0.shrinking.reduced_layers import reduced_layer_norm
from l0.tracing import Trace

aten = torch.ops.aten

Mask: TypeAlias = NDArray[np.bool_]


def shrink(flat: FlatGraph, trace: Trace, plan: Plan) -> None:
    """Take out what a plan does not keep, in place; the graph computes the same as before.

    Args:
        flat: The network; its tensors are replaced by smaller ones, not changed.
        trace: Its units.
        plan: What stays.

    Examples:
        >>> from l0.shrinking.constants import find_constants
        >>> from l0.shrinking.dead_units import make_plan
        >>> from l0.shrinking.flat_graph import flat_graph
        >>> from l0.tracing import trace
        >>> net, x = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).eval(), torch.ones(2, 2)
        >>> _ = net[1].weight.data[:, 1].zero_()
        >>> found = trace(net, [x])
        >>> flat = flat_graph(found.program, net)
        >>> shrink(flat, found, make_plan(flat, found, find_constants(flat, {"input": x})))
        >>> {name: tuple(tensor.shape) for name, tensor in flat.tensors.items()}
        {'0.weight': (2, 2), '0.bias': (2,), '1.weight': (1, 2), '1.bias': (1,)}
    """
    cuts = _Cuts(flat, trace, plan)
    nodes = list(flat.graph.nodes)
    for node in nodes:
        if node.op == "get_attr" and cuts.first_name(node) in plan.offsets:
            _add_offset(cuts, node)
    for name, axes in cuts.of_tensors.items():
        for axis, stays in enumerate(axes):
            if stays is not None:
                flat.tensors[name] = _taken(flat.tensors[name], axis, stays)
    for node in nodes:
        rule = _RULES.get(_name(node)) if node.op == "call_function" else None
        if rule is not None:
            rule(cuts, node)
    for node in nodes:
        if node.op == "get_attr" and cuts.first_name(node) in plan.columns:
            _select_columns(cuts, node)


class _Cuts:
    """What stays along each axis of the tensors and values of a network."""

    def __init__(self, flat: FlatGraph, trace: Trace, plan: Plan) -> None:
        self.flat, self.trace, self.plan = flat, trace, plan
        self.of_tensors: dict[str, list[Mask | None]] = {}
        for name in flat.tensors:
            first = trace.first_names[name]
            axes = [self._stays(labels) for labels in trace.parameters[first]]
            if first in plan.columns:
                column_axis = trace.weights[first].column_axis
                assert column_axis is not None
                axes[column_axis] = plan.columns[first]
            self.of_tensors[name] = axes

    def first_name(self, node: fx.Node) -> str:
        """The first name of the tensor that a node reads."""
        return self.trace.first_names.get(str(node.target), "")

    def of_value(self, node: fx.Node) -> list[Mask | None]:
        """For each axis of a value, what stays; None if all does."""
        axes = self.trace.values.get(node.name)
        return [] if axes is None or isinstance(axes, list) else list(map(self._stays, axes))

    def of_parts(self, node: fx.Node) -> list[list[Mask | None]]:
        """The same for an operation with several outputs."""
        parts = self.trace.values.get(node.name)
        assert isinstance(parts, list)
        return [list(map(self._stays, axes)) for axes in parts]

    def _stays(self, labels: NDArray[np.int64] | None) -> Mask | None:
        if labels is None:
            return None
        stays = (labels < 0) | self.plan.alive[labels]
        return None if stays.all() else stays


def _name(node: fx.Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return "" if schema is None else schema.name.partition("::")[2].removesuffix("_")


def _set(node: fx.Node, **changed: Any) -> None:
    """Change arguments of a call by name."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    args, kwargs = list(node.args), dict(node.kwargs)
    given = arguments(node)
    for place, argument in enumerate(schema):
        if argument.name not in changed:
            continue
        if argument.kwarg_only or argument.name in kwargs:
            kwargs[argument.name] = changed[argument.name]
            continue
        args += [given[missing.name] for missing in schema[len(args) : place + 1]]
        args[place] = changed[argument.name]
    node.args, node.kwargs = tuple(args), kwargs


def _like(old: Tensor, new: Tensor) -> Tensor:
    """The new values as what the old ones were: parameter or buffer."""
    if isinstance(old, nn.Parameter):
        return nn.Parameter(new, requires_grad=old.requires_grad)
    return new


def _taken(tensor: Tensor, axis: int, stays: Mask) -> Tensor:
    positions = torch.from_numpy(np.flatnonzero(stays)).to(tensor.device)
    return _like(tensor, tensor.detach().index_select(axis, positions))


def _add_offset(cuts: _Cuts, weight: fx.Node) -> None:
    """Add what removed constants gave to the bias of a weight's layer; make one if it has none."""
    tensors, name = cuts.flat.tensors, str(weight.target)
    offset = cuts.plan.offsets[cuts.first_name(weight)]
    bias = arguments(next(iter(weight.users)))["bias"]
    if bias is not None:
        old = tensors[bias.target]
        tensors[bias.target] = _like(old, (old.detach().cpu().double() + offset).to(old))
        return
    made = name.removesuffix("weight") + "bias"
    tensors[made] = _like(tensors[name], offset.to(tensors[name]))
    cuts.of_tensors[made] = cuts.of_tensors[name][:1]
    with cuts.flat.graph.inserting_after(weight):
        bias = cuts.flat.graph.create_node("get_attr", made)
    for user in list(weight.users):
        _set(user, bias=bias)


def _select_columns(cuts: _Cuts, weight: fx.Node) -> None:
    """Hand a layer only the part of its input that it reads."""
    graph, first = cuts.flat.graph, cuts.first_name(weight)
    columns, column_axis = cuts.plan.columns[first], cuts.trace.weights[first].column_axis
    assert column_axis is not None
    there = cuts._stays(cuts.trace.parameters[first][column_axis])
    positions = np.flatnonzero(columns if there is None else columns[there])
    owner, _, role = str(weight.target).rpartition(".")
    name = f"{owner}." * bool(owner) + role.removesuffix("weight") + "input_positions"
    tensor = cuts.flat.tensors[str(weight.target)]
    cuts.flat.tensors[name] = torch.from_numpy(positions).to(tensor.device)
    with graph.inserting_after(weight):
        read = graph.create_node("get_attr", name)
    for user in list(weight.users):
        source = user.args[0]
        assert isinstance(source, fx.Node)
        axis = -1 if _name(user) == "linear" else 1 - tensor.ndim
        # The axis is counted from the end: an input may come without a batch.
        with graph.inserting_before(user):
            part = graph.call_function(aten.index_select.default, (source, axis, read))
        part.meta = {"val": source.meta["val"]}
        user.replace_input_with(source, part)


# Rules: how each operation is called when its operands have become smaller.


def _sizes(cuts: _Cuts, node: fx.Node) -> None:
    """Sizes of a view, hard-coded or computed."""
    call = arguments(node)
    key = next(name for name in ("size", "shape", "sizes") if name in call)
    axes = cuts.of_value(node)
    sizes = list(call[key])
    # `unflatten` names only the axes that it makes.
    first = call["dim"] % node.args[0].meta["val"].ndim if key == "sizes" else 0  # type: ignore[union-attr]
    for place, size in enumerate(sizes):
        stays = axes[first + place]
        if stays is None or (isinstance(size, int) and size == -1):
            continue
        if isinstance(size, int):
            sizes[place] = int(stays.sum())
            continue
        # A size that depends on the batch, such as batch times heads.
        with cuts.flat.graph.inserting_before(node):
            left = math.gcd(int(stays.sum()), stays.size)
            product = cuts.flat.graph.call_function(operator.mul, (size, int(stays.sum()) // left))
            sizes[place] = cuts.flat.graph.call_function(
                operator.floordiv, (product, stays.size // left)
            )
    _set(node, **{key: sizes})


def _split(cuts: _Cuts, node: fx.Node) -> None:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    axis = arguments(node).get("dim", 0) % source.meta["val"].ndim
    if cuts.of_value(source)[axis] is None:
        return
    sizes = [
        int(part.shape[axis]) if stays[axis] is None else int(stays[axis].sum())
        for part, stays in zip(node.meta["val"], cuts.of_parts(node), strict=True)
    ]
    node.target = aten.split_with_sizes.default
    node.args, node.kwargs = (source, sizes, axis), {}


def _slice(cuts: _Cuts, node: fx.Node) -> None:
    call = arguments(node)
    source = node.args[0]
    assert isinstance(source, fx.Node)
    stays = cuts.of_value(source)[call["dim"]]
    if stays is None:
        return
    if _name(node) == "select":
        _set(node, index=int(stays[: call["index"] % stays.size].sum()))
    elif _name(node) == "narrow":
        start = call["start"] % stays.size
        length = int(stays[start : start + call["length"]].sum())
        _set(node, start=int(stays[:start].sum()), length=length)
    else:
        start, end, _ = slice(call["start"], call["end"]).indices(stays.size)
        _set(node, start=int(stays[:start].sum()), end=int(stays[:end].sum()))


def _convolution(cuts: _Cuts, node: fx.Node) -> None:
    call = arguments(node)
    weight = call["weight"]
    if call["groups"] == 1 or weight.op != "get_attr":
        return
    old, new = weight.meta["val"].shape, cuts.flat.tensors[weight.target].shape
    # Whole groups go. The first axis has all groups: outputs, or inputs if transposed.
    _set(node, groups=call["groups"] * new[0] // old[0])


def _group_norm(cuts: _Cuts, node: fx.Node) -> None:
    stays = cuts.of_value(node)[1]
    if stays is not None:
        groups = arguments(node)["num_groups"]
        _set(node, num_groups=int(groups * stays.sum()) // stays.size)


def _layer_norm(cuts: _Cuts, node: fx.Node) -> None:
    call, source = arguments(node), node.args[0]
    assert isinstance(source, fx.Node)
    stays = cuts.of_value(source)[-1]
    if stays is None:
        return
    node.target = reduced_layer_norm
    sizes = [int(stays.sum())]
    node.args = (source, sizes, call["weight"], call["bias"], call["eps"], stays.size)
    node.kwargs = {}


def _rms_norm(cuts: _Cuts, node: fx.Node) -> None:
    """The removed entries are zero, so only the number that the mean divides by has to change."""
    call, source = arguments(node), node.args[0]
    assert isinstance(source, fx.Node)
    stays = cuts.of_value(source)[-1]
    if stays is None:
        return
    wider = stays.size / int(stays.sum())
    eps = torch.finfo(source.meta["val"].dtype).eps if call["eps"] is None else call["eps"]
    _set(node, normalized_shape=[int(stays.sum())], eps=eps * wider)
    weight = call["weight"]
    if weight is not None and all(_name(user) == "rms_norm" for user in weight.users):
        if next(iter(weight.users)) is node:  # Once, however many norms share it.
            old = cuts.flat.tensors[weight.target]
            cuts.flat.tensors[weight.target] = _like(old, old.detach() * math.sqrt(wider))
        return
    with cuts.flat.graph.inserting_after(node):
        scaled = cuts.flat.graph.call_function(aten.mul.Tensor, (node, math.sqrt(wider)))
    scaled.meta = {"val": node.meta["val"]}
    node.replace_all_uses_with(scaled, lambda user: user is not scaled)


def _recurrent(cuts: _Cuts, node: fx.Node) -> None:
    call = arguments(node)
    hidden = cuts.flat.tensors[call["params"][1].target].shape[1]
    starts = call["hx"] if isinstance(call["hx"], list | tuple) else [call["hx"]]
    for start in starts:
        if start.target is aten.zeros.default:
            _set(start, size=[*start.args[0][:-1], hidden])


_Rule: TypeAlias = Callable[[_Cuts, fx.Node], None]

_RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        name: rule
        for names, rule in (
            ("view reshape _unsafe_view expand broadcast_to unflatten", _sizes),
            ("split split_with_sizes chunk tensor_split", _split),
            ("slice narrow select", _slice),
            ("conv1d conv2d conv3d", _convolution),
            ("conv_transpose1d conv_transpose2d conv_transpose3d", _convolution),
            ("group_norm", _group_norm),
            ("layer_norm", _layer_norm),
            ("rms_norm", _rms_norm),
            ("lstm gru rnn_tanh rnn_relu", _recurrent),
        )
        for name in names.split()
    }
)
