"""Which units of a network nothing reads, and which are constant and can be read without them.

A unit is alive if it must stay (the model returns it, an unknown operation reads it), or if a
weight reads it with a column that is not zero on the rows of units that are alive. All others
are dead. A constant that a weight reads adds the same to every output: it goes into the bias,
exactly, and the weight then reads it no longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from l0.shrinking.constants import Values
from l0.shrinking.flat_graph import FlatGraph
from l0.shrinking.plain_layers import arguments
from l0.tracing import Axes, Trace

# How far apart, relative to their size, two values of one constant may be by rounding.
_ROUNDING = 1e-6

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """What stays in a network.

    Attributes:
        alive: Which units stay, shape `(n_units,)`.
        columns: For weights that read only a part of what stays: which of their columns do,
            shape `(n_columns,)`, counted before anything is taken out.
        offsets: For weights that read constants no longer: what those added to each output,
            shape `(n_rows,)`, counted before anything is taken out.
    """

    alive: Mask
    columns: Mapping[str, Mask]
    offsets: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Reader:
    """A call of a linear layer or convolution, and the axis of its input that it reads."""

    node: fx.Node
    axis: int

    @property
    def input(self) -> str:
        source = self.node.args[0]
        assert isinstance(source, fx.Node)
        return source.name

    @property
    def bias(self) -> fx.Node | None:
        bias: fx.Node | None = arguments(self.node)["bias"]
        return bias

    @property
    def is_seamless(self) -> bool:
        """Whether each output is computed from a whole window: nothing is padded with zeros."""
        call = arguments(self.node)
        padding = call.get("padding", 0)
        parts = padding if isinstance(padding, list | tuple) else [padding]
        return "output_padding" not in call and all(part in (0, "valid") for part in parts)


def make_plan(flat: FlatGraph, trace: Trace, values: Mapping[str, Values]) -> Plan:
    """Find out what can be taken out of a network without a change in what it returns.

    Args:
        flat: The network.
        trace: Its units.
        values: Its values for an example, from `find_constants`.

    Returns:
        What stays. Where all units along an axis of a parameter could go, one stays, because
        layers without inputs or outputs are not supported everywhere.

    Examples:
        >>> from torch import nn
        >>> from l0.shrinking.constants import find_constants
        >>> from l0.shrinking.flat_graph import flat_graph
        >>> from l0.tracing import trace
        >>> net, x = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).eval(), torch.ones(2, 2)
        >>> _ = net[1].weight.data[:, 1].zero_()
        >>> found = trace(net, [x])
        >>> flat = flat_graph(found.program, net)
        >>> make_plan(flat, found, find_constants(flat, {"input": x})).alive
        array([ True, False,  True,  True])
    """
    readers = _readers(flat, trace)
    constants = {
        name: _constants_read(uses, values) for name, uses in readers.items() if uses is not None
    }
    reads: dict[str, Mask] = {}
    for name in readers:
        weight = trace.weights[name]
        used = _entries_used(_tensor(flat, trace, name), weight.row_axis, weight.column_axis)
        reads[name] = used
    skipped = {name: _absorbed(constants[name], readers[name]) for name in constants}
    alive = _must_stay(flat, trace, values)
    while True:
        before = alive.copy()
        for name, used in reads.items():
            rows, columns = _axes(trace, name)
            live = used[_stays(rows, alive, len(used))]
            read: Mask = live.any(0) & ~skipped.get(name, np.zeros(1, bool))
            _revive(alive, columns, read)
        if np.array_equal(before, alive):
            _keep_one(trace, alive)
            if np.array_equal(before, alive):
                break
    selected, offsets = {}, {}
    for name in constants:
        rows, columns = _axes(trace, name)
        used = np.any(reads[name][_stays(rows, alive, len(reads[name]))], axis=0)
        stays = _stays(columns, alive, used.size)
        read = stays & used if (stays & used).any() else _first(stays)
        if (stays & ~read).any():
            selected[name] = read
        gone = ~stays & skipped[name] & used
        if gone.any():
            offsets[name] = _offset(flat, trace, name, constants[name], gone)
    return Plan(alive, selected, offsets)


def _first(mask: Mask) -> Mask:
    only = np.zeros_like(mask)
    only[mask.argmax()] = True
    return only


def _axes(trace: Trace, name: str) -> tuple[Any, Any]:
    """Labels of the rows and of the columns of a weight; None where they are no units."""
    weight, axes = trace.weights[name], trace.parameters[name]
    assert weight.column_axis is not None
    apart = weight.row_axis not in (None, weight.column_axis)
    rows = axes[weight.row_axis] if apart else None  # type: ignore[index]  # it is not None
    return rows, axes[weight.column_axis]


def _stays(labels: Any, alive: Mask, size: int) -> Mask:
    if labels is None:
        return np.ones(size, bool)
    stays: Mask = (labels < 0) | alive[labels]
    return stays


def _revive(alive: Mask, labels: Any, read: Mask) -> None:
    if labels is not None:
        alive[labels[read & (labels >= 0)]] = True


def _keep_one(trace: Trace, alive: Mask) -> None:
    for axes in trace.parameters.values():
        for labels in axes:
            if labels is not None and labels.size and not _stays(labels, alive, 0).any():
                alive[labels[0]] = True


def _tensor(flat: FlatGraph, trace: Trace, name: str) -> Tensor:
    """A parameter by the first of its names; the graph may know it by another."""
    own = next(other for other in flat.tensors if trace.first_names.get(other) == name)
    return flat.tensors[own].detach()


def _entries_used(weight: Tensor, row_axis: int | None, column_axis: int | None) -> Mask:
    """Which rows read which columns, shape `(n_rows, n_columns)`; one row if none is known."""
    assert column_axis is not None
    used = (weight != 0).movedim(column_axis, -1)
    if row_axis is None or row_axis == column_axis:
        return used.reshape(-1, used.shape[-1]).any(0, keepdim=True).cpu().numpy()
    rows = row_axis - (row_axis > column_axis)
    used = used.movedim(rows, 0)
    return used.reshape(len(used), -1, used.shape[-1]).any(1).cpu().numpy()


def _readers(flat: FlatGraph, trace: Trace) -> dict[str, list[_Reader] | None]:
    """The calls that read each weight with columns; None if others read it as well."""
    found: dict[str, list[_Reader] | None] = {}
    for node in flat.graph.nodes:
        if node.op != "get_attr":
            continue
        name = trace.first_names[str(node.target)]
        weight = trace.weights.get(name)
        if weight is None or weight.column_axis is None:
            continue
        uses = [_reader(user, node) for user in node.users]
        before = found.get(name, [])
        known = None not in uses and before is not None
        found[name] = [*before, *uses] if known else None  # type: ignore[list-item, misc]
    return found


def _reader(node: fx.Node, weight: fx.Node) -> _Reader | None:
    call = arguments(node)
    name = node.target._schema.name if call else ""  # type: ignore[union-attr]
    if (
        call.get("weight") is not weight
        or call.get("input") is weight
        or call.get("bias") is weight
    ):
        return None
    if name == "aten::linear":
        return _Reader(node, -1)
    if name.startswith("aten::conv") and call["groups"] == 1:
        n_axes = int(name.rstrip("d")[-1])
        return _Reader(node, -1 - n_axes)
    return None


@dataclass(frozen=True)
class _Constants:
    """Which columns of a weight read constants, and which: shape `(n_columns,)` each."""

    is_constant: Mask
    value: Tensor


def _constants_read(uses: list[_Reader], values: Mapping[str, Values]) -> _Constants:
    constants = [_along(values[use.input], use.axis) for use in uses]
    first = constants[0]
    is_constant = first.is_constant
    for use, other in zip(uses, constants, strict=True):
        same = torch.isclose(other.value, first.value, rtol=_ROUNDING, atol=0).cpu().numpy()
        zero = (other.value == 0).cpu().numpy()
        is_constant = is_constant & other.is_constant & same & (zero | use.is_seamless)
    return _Constants(is_constant, first.value)


def _along(values: Values, axis: int) -> _Constants:
    """Where a tensor is one constant along an axis, whatever the position on all other axes."""
    value, varies = (
        part.movedim(axis, -1).reshape(-1, part.shape[axis])
        for part in (values.value, values.varies)
    )
    low, high = value.amin(0), value.amax(0)
    one = torch.isclose(low, high, rtol=_ROUNDING, atol=0) & ~varies.any(0)
    return _Constants(one.cpu().numpy(), (low + high) / 2)


def _absorbed(constants: _Constants, uses: list[_Reader] | None) -> Mask:
    """Columns whose constants can go into the bias; zeros need none."""
    assert uses is not None
    biases = {use.bias for use in uses}
    own = {use.node for use in uses}
    has_own_bias = len(biases) == 1 and all(
        bias is None or (bias.op == "get_attr" and own.issuperset(bias.users)) for bias in biases
    )
    return constants.is_constant & (has_own_bias | (constants.value == 0).cpu().numpy())


def _offset(flat: FlatGraph, trace: Trace, name: str, constants: _Constants, gone: Mask) -> Tensor:
    weight = trace.weights[name]
    assert weight.column_axis is not None
    # On the processor, as not every device has double precision.
    tensor = _tensor(flat, trace, name).cpu().double().movedim(weight.column_axis, -1)
    columns = torch.from_numpy(gone)
    added = tensor[..., columns] * constants.value.cpu().double()[columns]
    return added.flatten(1).sum(1)  # Rows are first: there are none but rows, columns and kernel.


def _must_stay(flat: FlatGraph, trace: Trace, values: Mapping[str, Values]) -> Mask:
    alive = np.zeros(trace.n_units, bool)
    alive[list(trace.kept)] = True
    mixed = np.zeros(trace.n_units, bool)
    mixed[list(trace.normalised)] = True
    for node in flat.graph.nodes:
        call = arguments(node) if node.op == "call_function" else {}
        if not call:
            continue
        name = node.target._schema.name.partition("::")[2]
        source = node.args[0] if node.args else None
        labels = trace.values.get(source.name) if isinstance(source, fx.Node) else None
        if not isinstance(source, fx.Node) or labels is None or isinstance(labels, list):
            continue
        if name in ("layer_norm", "rms_norm") and labels[-1] is not None:
            constants = _along(values[source.name], -1)
            zero = constants.is_constant & (constants.value == 0).cpu().numpy()
            _revive(alive, labels[-1], ~zero & mixed[labels[-1]])
        _revive_selected(alive, name, call, labels)
    return alive


def _revive_selected(alive: Mask, name: str, call: Mapping[str, Any], labels: Axes) -> None:
    """Units that an operation picks by their position, or moves by a number of positions."""
    if name in ("roll", "channel_shuffle", "pixel_unshuffle"):
        for along in labels:
            if along is not None:
                _revive(alive, along, np.ones(along.size, bool))
    if name in ("select", "slice", "unbind"):
        along = labels[call["dim"]]
        if along is None:
            return
        picked = np.zeros(along.size, bool)
        if name == "select" and isinstance(call["index"], int):
            picked[call["index"]] = True
        elif name != "slice" or call["step"] != 1:
            picked[:] = True
        _revive(alive, along, picked)
