"""Rules of operations with weights, and of products between activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from l0.tracing.labels import NO_UNIT, Labels
from l0.tracing.movements import ALONG_AN_AXIS, IN_PLACE, keep_all
from l0.tracing.walk import Call, Value, View, Walk, operation, placed


def linear(walk: Walk, call: Call) -> Labels:
    """A linear layer."""
    value, weight, bias = (call.arguments.get(name) for name in ("input", "weight", "bias"))
    assert isinstance(value, Value)
    assert isinstance(weight, Value)
    if weight.view is None or len(weight.shape) != 2:
        return keep_all(walk, call)[0]
    return _matrix(walk, call, value, (weight.view, 1, 0), bias)


def _matrix(
    walk: Walk, call: Call, value: Value, weight: tuple[View, int, int], bias: Value | None
) -> Labels:
    """A product of the last axis with a parameter, whose reading and writing axes are given."""
    view, reading, writing = weight
    walk.reads(view, reading, _last(walk, value))
    rows = walk.writes(view, writing)
    walk.counts(view, math.prod(value.shape[:-1]))
    if bias is not None:
        walk.meet([(rows, rows.shape), (walk.units_of(bias), bias.shape)])
    return placed(rows, len(call.shape) - 1, len(call.shape))


def _last(walk: Walk, value: Value) -> Labels | None:
    """Units along the last axis, tied along all others; None if there are none."""
    labels = walk.units_of(value)
    if labels.max(initial=NO_UNIT) < 0:
        return None
    if labels.shape[-1] == 1 < value.shape[-1]:
        walk.ties.keep(labels, "a weight reads across it")
        return None
    return walk.ties.tie_along(labels, tuple(range(labels.ndim - 1))).reshape(-1)


def product(walk: Walk, call: Call) -> Labels:
    """`matmul` and its kin, with a parameter or between two activations."""
    operands = call.operands
    bias = operands[0] if call.name in ("addmm", "baddbmm") else None
    left, right = operands[-2:]
    if right.view is not None and len(right.shape) == 2 and left.view is None:
        return _matrix(walk, call, left, (right.view, 0, 1), bias)
    if bias is not None or min(len(left.shape), len(right.shape)) < 2:
        return keep_all(walk, call)[0]
    batch = "abcdefgh"[: len(call.shape) - 2]
    one = batch[len(batch) - len(left.shape) + 2 :] + "mk"
    other = batch[len(batch) - len(right.shape) + 2 :] + "kn"
    result = walk.contract([(left, one), (right, other)], batch + "mn")
    _note_heads(walk, call, call.node.args[-2], result)
    return result


def _note_heads(walk: Walk, call: Call, first: Any, result: Labels) -> None:
    """A product with a softmax on the left is an attention; its heads are what the units are."""
    if isinstance(first, torch.fx.Node) and _is_softmax(first):
        walk.heads.append((call.node, result))


def _is_softmax(node: torch.fx.Node) -> bool:
    """Whether a value is a softmax, maybe dropped out, cast or copied since."""
    while operation(node) in IN_PLACE | {"clone", "contiguous", "view", "reshape", "expand"}:
        node = node.args[0]  # type: ignore[assignment]
    return operation(node) in ALONG_AN_AXIS


def einsum(walk: Walk, call: Call) -> Labels:
    """An Einstein sum of activations, or of what is left alone."""
    equation = call.arguments["equation"].replace(" ", "")
    inputs, _, output = equation.partition("->")
    letters = inputs.split(",")
    plain = "->" in equation and "." not in equation
    if not plain or any(len(set(part)) < len(part) for part in letters):
        return keep_all(walk, call)[0]
    operands = call.arguments["tensors"]
    result = walk.contract(list(zip(operands, letters, strict=True)), output)
    _note_heads(walk, call, call.node.args[1][0], result)  # type: ignore[index]
    return result


def attention(walk: Walk, call: Call) -> Labels:
    """Scaled dot-product attention: query, key and value of a head are one unit."""
    query, key, value = (call.arguments[name] for name in ("query", "key", "value"))
    if len({part.shape[:-2] for part in (query, key, value)}) > 1:
        return keep_all(walk, call)[0]
    batch = "abcdefgh"[: len(query.shape) - 2]
    scores = walk.contract([(query, batch + "lk"), (key, batch + "sk")], batch + "ls")
    weights = Value((*query.shape[:-1], key.shape[-2]), scores)
    result = walk.contract([(weights, batch + "ls"), (value, batch + "sv")], batch + "lv")
    walk.heads.append((call.node, result))
    return result


def convolution(walk: Walk, call: Call) -> Labels:
    """Convolutions of any dimension, grouped, depthwise and transposed ones too."""
    value, weight = call.operands[:2]
    bias = call.arguments.get("bias")
    transposed, groups = "transpose" in call.name, call.arguments["groups"]
    if weight.view is None:
        return keep_all(walk, call)[0]
    view, n_spatial = weight.view, len(weight.shape) - 2
    channel = len(value.shape) - n_spatial - 1
    units = _channels(walk, value, channel)
    # A transposed convolution has its axes the other way round.
    reading, writing = (0, 1) if transposed else (1, 0)
    spatial = (value.shape if transposed else call.shape)[channel + 1 :]
    walk.counts(view, math.prod(spatial) * math.prod(value.shape[:channel]))
    if groups == 1:
        walk.reads(view, reading, units)
        rows = walk.writes(view, writing)
    else:
        rows = _groups(walk, (view, transposed), units, groups, call.shape[channel])
    if bias is not None:
        walk.meet([(rows, rows.shape), (walk.units_of(bias), bias.shape)])
    return placed(rows, channel, len(call.shape))


def _groups(
    walk: Walk, weight: tuple[View, bool], units: Labels | None, groups: int, n_outputs: int
) -> Labels:
    """A grouped convolution: what goes in and out of a group lives and dies together."""
    view, transposed = weight
    # A transposed weight is (inputs, outputs of one group): no axis of it has all outputs.
    rows = walk.ties.new(n_outputs) if transposed else walk.writes(view, 0)
    by_group = walk.ties.tie_along(rows.reshape(groups, -1), (1,))
    if units is None:
        walk.ties.keep(by_group, "a grouped convolution reads values that are no unit's")
    else:
        walk.ties.tie(by_group, units.reshape(groups, -1))
    if transposed:
        walk.ties.tie(by_group, walk.writes(view, 0).reshape(groups, -1))
    return rows


def _channels(walk: Walk, value: Value, axis: int) -> Labels | None:
    """Units along an axis, tied along all others; None if there are none."""
    labels = walk.units_of(value)
    if labels.max(initial=NO_UNIT) < 0:
        return None
    if labels.shape[axis] == 1 < value.shape[axis]:
        walk.ties.keep(labels, "a weight reads across it")
        return None
    others = tuple(i for i in range(labels.ndim) if i != axis)
    return walk.ties.tie_along(labels, others).reshape(-1)


def embedding(walk: Walk, call: Call) -> Labels:
    """An embedding: its columns are units."""
    weight = call.arguments["weight"]
    if weight.view is None:
        return keep_all(walk, call)[0]
    walk.fixed.add((weight.view.name, weight.view.axes[0]))
    rank = len(call.shape)
    return placed(walk.writes(weight.view, 1), rank - 1, rank)


def recurrent(walk: Walk, call: Call) -> list[Labels]:
    """LSTM, GRU and plain recurrent networks: the gates of a hidden unit and its state are one."""
    value, parameters = call.arguments["input"], call.arguments["params"]
    n_layers = call.arguments["num_layers"]
    n_ways = 2 if call.arguments["bidirectional"] else 1
    n_each = 4 if call.arguments["has_biases"] else 2
    simple = all(part.view is not None for part in parameters)
    if not simple or len(value.shape) != 3 or len(parameters) != n_layers * n_ways * n_each:
        return keep_all(walk, call)
    steps = value.shape[0] * value.shape[1]
    units, states = _last(walk, value), []
    for layer in range(n_layers):
        outputs = []
        for way in range(n_ways):
            first = (layer * n_ways + way) * n_each
            reading, state, *biases = (part.view for part in parameters[first : first + n_each])
            n_hidden = parameters[first + 1].shape[1]
            walk.reads(reading, 1, units)
            hidden = walk.of_axis(state, 1)
            walk.reads(state, 1, hidden)
            for view in (reading, state):
                walk.ties.tie(walk.writes(view, 0).reshape(-1, n_hidden), hidden)
                walk.counts(view, steps)
            for view in biases:
                walk.ties.tie(walk.of_axis(view, 0).reshape(-1, n_hidden), hidden)
            outputs.append(hidden)
        units = np.concatenate(outputs)
        states += outputs
    given = call.node.args[1]
    starts = given if isinstance(given, list | tuple) else [given]
    if any(isinstance(start, torch.fx.Node) and operation(start) != "zeros" for start in starts):
        walk.ties.keep(np.concatenate(states), "a recurrent network starts with values for it")
    # One hidden size for all layers and both ways: the units of the same number go together.
    last = walk.ties.tie_along(np.stack(states)[:, None, :], (0,))
    assert units is not None
    return [placed(units, 2, 3), *[last for _ in call.shapes[1:]]]
