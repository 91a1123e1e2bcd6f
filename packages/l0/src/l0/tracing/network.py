"""Follow a network's operations, and find the units that can be taken out of it as a whole."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from l0.tracing.exporting import (
    example_of,
    export,
    first_names,
    named_arguments,
    shape_of,
    tensors_of,
)
from l0.tracing.labels import NO_UNIT, Labels, Shape, compressed, none_of, varying_axes
from l0.tracing.rules import rule_for
from l0.tracing.walk import Call, Value, View, Walk, operation

Vector: TypeAlias = NDArray[np.int64]
Axes: TypeAlias = "tuple[Vector | None, ...]"
"""For each axis of a tensor, the unit of each index (-1: none), or None where no unit varies."""


@dataclass(frozen=True)
class Weight:
    """A parameter that a linear operation multiplies by.

    Attributes:
        name: Of the parameter.
        row_axis: The axis along which it makes its output; None if no axis has all outputs.
        column_axis: The axis along which it reads its input; None in grouped convolutions, which
            pass units on, and in embeddings.
        multiplications: How often each of its entries is multiplied for one example.
    """

    name: str
    row_axis: int | None
    column_axis: int | None
    multiplications: float


@dataclass(frozen=True)
class Product:
    """A product of activations without a weight, as in attention.

    Attributes:
        units: The unit of each of its equal parts, shape `(n_parts,)`; -1 where there is none.
        multiplications: Of the whole, for one example.
    """

    units: Vector
    multiplications: float


@dataclass(frozen=True)
class Units:
    """The units of a network, and how its parameters make and read them.

    Attributes:
        n_units: How many units there are; their labels are `0 .. n_units - 1`.
        parameters: Labels of each parameter and buffer, axis by axis, under the first of its names.
        first_names: For every name of a parameter or buffer, its first: tied weights have several.
        weights: The parameters that linear operations multiply by, by name.
        products: Products of activations, which cost multiplications but have no weight.
        normalised: Units that a layer norm mixes: they can be taken out where they are zero.
        kept: Units that must stay, and why.
        heads: For each attention, the names of the modules around it, from outside in, and the
            unit of each head.
    """

    n_units: int
    parameters: Mapping[str, Axes]
    first_names: Mapping[str, str]
    weights: Mapping[str, Weight]
    products: tuple[Product, ...]
    normalised: frozenset[int]
    kept: Mapping[int, str]
    heads: tuple[tuple[tuple[str, ...], Vector], ...]


@dataclass(frozen=True)
class Trace(Units):
    """The units of a network along its operations.

    Attributes:
        program: The exported network in evaluation mode; its first axis is dynamic.
        values: Labels of each node of `program.graph` that is a tensor, axis by axis; a list of
            them for a node with several outputs.
    """

    program: torch.export.ExportedProgram
    values: Mapping[str, Axes | list[Axes]]

    def units(self) -> Units:
        """The units alone, without the program: what a gated model keeps."""
        return Units(**{field.name: getattr(self, field.name) for field in fields(Units)})


def trace(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> Trace:
    """Find the units of a module.

    Args:
        module: As in `export`.
        args: As in `export`.
        kwargs: As in `export`.

    Returns:
        The units, tied where they are inseparable.

    Raises:
        CannotTrace: If the module cannot be followed.

    Examples:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> trace(net, [torch.zeros(2, 4)]).parameters["2.weight"]
        (array([3, 4]), array([0, 1, 2]))
    """
    program = export(module, args, kwargs)
    names = first_names(module, program)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors_of(program).items()}
    example = next(
        (leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)), None
    )
    n_examples = max(example.shape[0], 2) if example is not None and example.ndim else 1
    walk = Walk(shapes, n_examples)
    nodes = _visit(walk, program, names)
    units = _make_rectangular(walk, nodes)
    return _as_trace(program, walk, nodes, names, units)


def _visit(
    walk: Walk, program: torch.export.ExportedProgram, names: Mapping[str, str]
) -> dict[str, Value | list[Value]]:
    """The value of each node, in the order of the graph."""
    signature = program.graph_signature
    lifted = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    values: dict[str, Value | list[Value]] = {}

    def value_of(argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            return (
                values[argument.name]
                if argument.name in values
                else example_of(argument.meta["val"])
            )
        if isinstance(argument, list | tuple):
            return [value_of(part) for part in argument]
        return argument

    for node in program.graph.nodes:
        if node.op == "output":
            for leaf in pytree.tree_leaves(node.args):
                if isinstance(leaf, torch.fx.Node) and leaf.name in values:
                    reached = values[leaf.name]
                    assert isinstance(reached, Value)
                    walk.ties.keep(walk.units_of(reached), "the model returns it")
            continue
        outputs = node.meta.get("val")
        shapes = [
            shape_of(part) for part in pytree.tree_leaves(outputs) if isinstance(part, Tensor)
        ]
        if not shapes:
            continue
        if node.op == "placeholder":
            name = lifted.get(node.target)
            view = None if name is None else _whole(names[name], shapes[0])
            values[node.name] = Value(shapes[0], none_of(shapes[0]), view)
        elif node.target is operator.getitem:
            values[node.name] = values[node.args[0].name][node.args[1]]  # type: ignore[index]
        else:
            args = tuple(value_of(argument) for argument in node.args)
            kwargs = {name: value_of(argument) for name, argument in node.kwargs.items()}
            call = Call(
                operation(node), node, args, kwargs, named_arguments(node, args, kwargs), shapes
            )
            made = _view_of(call) or _apply(walk, call)
            values[node.name] = made if isinstance(outputs, list | tuple) else made[0]
    return values


def _apply(walk: Walk, call: Call) -> list[Value]:
    labels = rule_for(call)(walk, call)
    each = labels if isinstance(labels, list) else [labels]
    return [Value(shape, part) for shape, part in zip(call.shapes, each, strict=True)]


_SLICES = frozenset(["split", "split_with_sizes", "chunk", "slice", "narrow", "tensor_split"])
_TURNS = frozenset(["t", "transpose", "permute", "swapaxes", "numpy_T", "mT"])
_COPIES = frozenset(["detach", "alias", "clone", "contiguous", "to", "_to_copy", "lift_fresh_copy"])


def _view_of(call: Call) -> list[Value] | None:
    """Slices, turns and copies of a parameter are parameters still; None for anything else."""
    source = call.operands[0] if call.operands else None
    if source is None or source.view is None or len(source.shape) < 1:
        return None
    view, rank = source.view, len(source.shape)
    if call.name in _COPIES:
        return [source]
    if call.name in _TURNS:
        # The sizes of a tensor of sizes 0, 1, 2, ... say where its axes went.
        turned = call.node.target(torch.empty(range(rank), device="meta"), *call.args[1:])  # type: ignore[operator]
        axes = tuple(view.axes[i] for i in turned.shape)
        places = tuple(view.positions[i] for i in turned.shape)
        return [Value(call.shape, none_of(call.shape), View(view.name, axes, places))]
    if call.name not in _SLICES:
        return None
    axis = call.arguments.get("dim", 0) % rank
    along = torch.arange(source.shape[axis]).reshape([-1 if i == axis else 1 for i in range(rank)])
    parts = call.node.target(along, *call.args[1:], **call.kwargs)  # type: ignore[operator]
    made = []
    for part, shape in zip(
        parts if isinstance(parts, list | tuple) else [parts], call.shapes, strict=True
    ):
        positions = list(view.positions)
        positions[axis] = positions[axis][part.reshape(-1).numpy()]
        made.append(Value(shape, none_of(shape), View(view.name, view.axes, tuple(positions))))
    return made


def _make_rectangular(walk: Walk, nodes: Mapping[str, Value | list[Value]]) -> Labels:
    """Tie units until each tensor varies along one axis only, so that cuts leave tensors.

    The longest axis keeps its units. Returns the representative of each unit.
    """
    # The parts of a list are nodes of their own where they are used.
    single = [value.labels for value in nodes.values() if isinstance(value, Value)]
    while True:
        units = np.append(walk.ties.representatives(), NO_UNIT)
        done = True
        for labels in [*single, *walk.joint_labels.values()]:
            varying = compressed(units[labels])
            axes = varying_axes(varying)
            if len(axes) > 1:
                longest = max(axes, key=lambda axis: varying.shape[axis])
                walk.ties.tie_along(varying, tuple(axis for axis in axes if axis != longest))
                done = False
        if done:
            return units


def _as_trace(
    program: torch.export.ExportedProgram,
    walk: Walk,
    nodes: Mapping[str, Value | list[Value]],
    names: Mapping[str, str],
    representatives: Labels,
) -> Trace:
    distinct, compact = np.unique(representatives[:-1], return_inverse=True)
    final = np.append(compact.reshape(-1), NO_UNIT).astype(np.int64)

    parameters: dict[str, Axes] = {}
    for name, shape in walk.shapes.items():
        if names[name] != name:
            continue
        joint = walk.joint_labels.get(name)
        along = _axes(final[joint], shape) if joint is not None else (None,) * len(shape)
        axes: list[Vector | None] = list(along)
        for axis in range(len(shape)):
            own = walk.axis_labels.get((name, axis))
            if own is not None and joint is not None:
                walk.ties.keep(own, "its weight is used in two ways")
                walk.ties.keep(joint, "its weight is used in two ways")
            axes[axis] = axes[axis] if own is None else final[own]
            if own is not None and (name, axis) in walk.fixed:
                walk.ties.keep(own, "values that are no unit's are read by the same weight")
        parameters[name] = tuple(axes)

    def of_value(value: Value) -> Axes:
        view = value.view
        if view is None:
            return _axes(final[value.labels], value.shape)
        whole = parameters[view.name]
        picked = []
        for axis, positions in zip(view.axes, view.positions, strict=True):
            own = whole[axis]
            picked.append(None if own is None else own[positions])
        return tuple(picked)

    kept: dict[int, str] = {}
    for labels, reason in walk.ties.kept():
        for unit in np.unique(final[labels]).tolist():
            kept.setdefault(unit, reason)
    for every in parameters.values():
        for units in every:
            if units is not None and units.size and (units == units[0]).all() and units[0] >= 0:
                kept.setdefault(int(units[0]), "it is the only unit along its axis")
    weights = {
        name: Weight(
            name, walk.rows.get(name), walk.columns.get(name), walk.multiplications.get(name, 0.0)
        )
        for name in {**walk.rows, **walk.columns}
    }
    normalised = [final[labels].ravel() for labels in walk.normalised]
    heads = []
    for node, labels in walk.heads:
        units = final[labels].ravel()
        _, first = np.unique(units, return_index=True)
        around = tuple(name for name, _ in node.meta.get("nn_module_stack", {}).values())
        heads.append((around, units[np.sort(first)]))
    return Trace(
        program=program,
        n_units=distinct.size,
        values={
            name: [of_value(part) for part in value] if isinstance(value, list) else of_value(value)
            for name, value in nodes.items()
        },
        parameters=parameters,
        first_names=names,
        weights=weights,
        products=tuple(Product(final[labels].ravel(), macs) for labels, macs in walk.products),
        normalised=frozenset(int(unit) for part in normalised for unit in part if unit >= 0),
        kept=kept,
        heads=tuple(heads),
    )


def _axes(labels: Labels, shape: Shape) -> Axes:
    varying = compressed(labels)
    return tuple(
        varying.reshape(-1) if axis in varying_axes(varying) else None for axis in range(len(shape))
    )


def _whole(name: str, shape: Shape) -> View:
    every = tuple(np.arange(size, dtype=np.int64) for size in shape)
    return View(name, tuple(range(len(shape))), every)
