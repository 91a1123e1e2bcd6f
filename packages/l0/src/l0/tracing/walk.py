"""What is known about a network while its operations are visited one by one.

A `Walk` holds the ties between units, the labels of parameters, and what the operations do with
them: which axis of a weight reads units and which one makes them, how often its entries are
multiplied, what a norm mixes. The rules of single operations are in `movements` and `products`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from l0.tracing.labels import NO_UNIT, Labels, Shape, Ties, none_of, varying_axes

_LARGEST_JOINT = 2**21
_OUTER = "a product spreads it over two axes"


@dataclass(frozen=True)
class View:
    """A parameter, or some of its rows or columns, as an operation sees it."""

    name: str
    axes: tuple[int, ...]
    positions: tuple[Labels, ...]


@dataclass(frozen=True)
class Value:
    """A tensor of the network: its shape for the example, and its units or the parameter it is."""

    shape: Shape
    labels: Labels
    view: View | None = None


@dataclass(frozen=True)
class Call:
    """One operation: its name, its node, and its arguments with values in place of tensors.

    `args` and `kwargs` are as the node has them, `arguments` all of them by name, with defaults.
    """

    name: str
    node: torch.fx.Node
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    arguments: Mapping[str, Any]
    shapes: list[Shape]

    @property
    def shape(self) -> Shape:
        """Shape of the only, or of the first, output."""
        return self.shapes[0]

    @property
    def operands(self) -> list[Value]:
        """Every tensor among the arguments, in their order."""
        found: list[Value] = []
        for argument in self.arguments.values():
            parts = argument if isinstance(argument, list | tuple) else [argument]
            found += [part for part in parts if isinstance(part, Value)]
        return found


@dataclass
class Walk:
    """What is known about a network while its operations are visited one by one."""

    shapes: Mapping[str, Shape]
    n_examples: int
    ties: Ties = field(default_factory=Ties)
    axis_labels: dict[tuple[str, int], Labels] = field(default_factory=dict)
    joint_labels: dict[str, Labels] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    fixed: set[tuple[str, int]] = field(default_factory=set)
    multiplications: dict[str, float] = field(default_factory=dict)
    normalised: list[Labels] = field(default_factory=list)
    products: list[tuple[Labels, float]] = field(default_factory=list)
    heads: list[tuple[torch.fx.Node, Labels]] = field(default_factory=list)

    def of_axis(self, view: View, axis: int) -> Labels:
        """Units along an axis of a parameter, one label per position of the view."""
        key = (view.name, view.axes[axis])
        if key not in self.axis_labels:
            self.axis_labels[key] = self.ties.new(self.shapes[view.name][key[1]])
        return self.axis_labels[key][view.positions[axis]]

    def reads(self, view: View, axis: int, units: Labels | None) -> None:
        """Note that a weight reads its input along an axis; `units` are those of the input."""
        self.columns[view.name] = view.axes[axis]
        if units is None:
            self.fixed.add((view.name, view.axes[axis]))
        else:
            self.ties.tie(self.of_axis(view, axis), units)

    def writes(self, view: View, axis: int) -> Labels:
        """Note that a weight makes its output along an axis, and give the units there."""
        self.rows.setdefault(view.name, view.axes[axis])
        return self.of_axis(view, axis)

    def counts(self, view: View, n_positions: float) -> None:
        """Note how often each entry of a weight is multiplied for one example."""
        before = self.multiplications.get(view.name, 0.0)
        self.multiplications[view.name] = before + n_positions / self.n_examples

    def units_of(self, value: Value) -> Labels:
        """Labels of a value in its own rank; those of a parameter that is used as it is."""
        view = value.view
        if view is None:
            return value.labels
        long = [axis for axis, size in enumerate(value.shape) if size > 1]
        if len(long) <= 1:
            axis = long[0] if long else 0
            if not value.shape:
                return value.labels
            return placed(self.of_axis(view, axis), axis, len(value.shape))
        shape = self.shapes[view.name]
        if view.name not in self.joint_labels:
            size = math.prod(shape)
            # A matrix that is taken apart by an unknown operation; its entries are no units.
            if size > _LARGEST_JOINT:
                return none_of(value.shape)
            self.joint_labels[view.name] = self.ties.new(size).reshape(shape)
        whole = self.joint_labels[view.name].transpose(view.axes)
        return whole[np.ix_(*view.positions)]

    def meet(self, parts: Sequence[tuple[Labels, Shape]]) -> Labels:
        """Labels of an elementwise result of tensors, all of them already of the same rank."""
        units = [(labels, shape) for labels, shape in parts if labels.max(initial=NO_UNIT) >= 0]
        if not units:
            return none_of(parts[0][1])
        result, reach = units[0]
        for labels, shape in units[1:]:
            one, other = varying_axes(result), varying_axes(labels)
            # Whether an operand is the same along the axes of the other's units.
            along_one = bool(one) and all(shape[axis] == 1 for axis in one)
            along_other = bool(other) and all(reach[axis] == 1 for axis in other)
            # The entries of a table, such as a mask over positions, are not worth being units.
            if other and along_one and self._are_entries(labels):
                self.ties.keep(labels, _OUTER)
                continue
            if one and along_other and self._are_entries(result):
                self.ties.keep(result, _OUTER)
                result, reach = labels, tuple(map(max, reach, shape))
                continue
            if along_one and along_other:
                # An outer product: units along two axes at once.
                self.ties.keep(result, _OUTER)
                self.ties.keep(labels, _OUTER)
                return none_of(shape)
            self.ties.tie(result, labels)
            result = np.maximum(*np.broadcast_arrays(result, labels))
            reach = tuple(map(max, reach, shape))
        for labels, shape in parts:
            if labels.max(initial=NO_UNIT) < 0:
                sizes = [shape[axis] for axis in varying_axes(result)]
                if any(size > 1 for size in sizes):
                    self.ties.keep(result, "it meets values that are no unit's, such as an input")
        return result

    def _are_entries(self, labels: Labels) -> bool:
        """Whether all units are entries of parameters that are used as they are."""
        units = labels[labels >= 0]
        found = np.zeros(units.shape, bool)
        for joint in self.joint_labels.values():
            found |= (units >= joint.flat[0]) & (units <= joint.flat[-1])
        return bool(found.all())

    def contract(self, operands: Sequence[tuple[Value, str]], output: str) -> Labels:
        """Labels of a sum of products, as in `einsum`: each operand has a letter per axis."""
        sizes = {
            letter: size
            for value, letters in operands
            for letter, size in zip(letters, value.shape, strict=True)
        }
        parts = []
        for value, letters in operands:
            labels = self.units_of(value)
            summed = tuple(i for i in varying_axes(labels) if letters[i] not in output)
            if summed == varying_axes(labels):
                self.ties.keep(labels, "an operation without weights sums over it")
                labels = none_of(value.shape)
            labels = self.ties.tie_along(labels, summed)
            kept = [i for i, letter in enumerate(letters) if letter in output]
            order = sorted(kept, key=lambda i: output.index(letters[i]))
            labels = labels.max(axis=tuple(set(range(labels.ndim)) - set(kept)), keepdims=True)
            places = [output.index(letters[i]) for i in order]
            shape = [1] * len(output)
            reach = [1] * len(output)
            for place, i in zip(places, order, strict=True):
                shape[place], reach[place] = labels.shape[i], value.shape[i]
            parts.append(
                (labels.transpose(_ordered(labels.ndim, order)).reshape(shape), tuple(reach))
            )
        result = self.meet(parts)
        self.products.append((result, math.prod(sizes.values()) / self.n_examples))
        return result


def placed(labels: Labels, axis: int, rank: int) -> Labels:
    """A label vector laid along one axis of a tensor of some rank."""
    return labels.reshape([-1 if i == axis else 1 for i in range(rank)])


def _ordered(rank: int, first: Sequence[int]) -> list[int]:
    return [*first, *(axis for axis in range(rank) if axis not in first)]


def operation(node: torch.fx.Node) -> str:
    """Name of a node's operation without its overload: `relu_`, `conv2d`."""
    schema = getattr(node.target, "_schema", None)
    return schema.name.split("::")[-1] if schema is not None else str(node.target)
