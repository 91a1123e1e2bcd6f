"""Rules of operations without weights: they move units, pass them on, or mix them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from l0.tracing.labels import NO_UNIT, Labels, compressed, expanded, none_of, varying_axes
from l0.tracing.walk import Call, Value, Walk, placed


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Operations that only move elements: their labels are what the operation itself makes of labels.
MOVEMENTS = _words(
    """
    view reshape _unsafe_view flatten unflatten unsqueeze squeeze permute transpose t
    numpy_T mT movedim moveaxis swapaxes swapdims select slice narrow split split_with_sizes
    chunk unbind tensor_split expand expand_as broadcast_to repeat tile cat concat
    concatenate stack flip roll contiguous clone alias lift_fresh_copy pixel_shuffle
    pixel_unshuffle channel_shuffle repeat_interleave view_as reshape_as
    """
)
# Operations that leave each element where it is.
IN_PLACE = _words(
    """
    dropout dropout_ feature_dropout alpha_dropout to _to_copy type_as detach detach_
    bernoulli log_sigmoid requires_grad_ float double half
    """
)
# Operations in which an element depends on others along some axes, named by the argument.
ALONG_AN_AXIS = _words(
    """
    softmax _softmax log_softmax _log_softmax cumsum cumprod softmin
    """
)
REDUCTIONS = _words(
    """
    mean sum amax amin prod var std logsumexp norm max min argmax argmin any all
    """
)
POINTWISE = _words(
    """
    masked_fill_ masked_fill rsub where clamp_min clamp_max softsign tanhshrink div_ mul_
    sub_ add_ relu_ hardtanh_ silu_ leaky_relu_ elu_ floor_divide fmod remainder logical_not
    hardswish hardswish_ relu6 relu6_ mish_
    """
)


def keep_all(walk: Walk, call: Call) -> list[Labels]:
    """Operations without a rule: what they read must stay."""
    for value in call.operands:
        if value.view is None:
            walk.ties.keep(value.labels, f"`{call.name}` reads it, and how is not known")
        else:
            walk.fixed.update((value.view.name, axis) for axis in value.view.axes)
    return [none_of(shape) for shape in call.shapes]


def move(walk: Walk, call: Call) -> list[Labels]:
    """Movements: the operation itself, applied to the labels."""

    def as_tensor(argument: Any) -> Any:
        if isinstance(argument, list | tuple):
            return [as_tensor(part) for part in argument]
        if not isinstance(argument, Value):
            return argument
        units = expanded(walk.units_of(argument), argument.shape)
        return torch.from_numpy(units.copy())

    if all(walk.units_of(value).max(initial=NO_UNIT) < 0 for value in call.operands):
        return [none_of(shape) for shape in call.shapes]
    named = {name: as_tensor(argument) for name, argument in call.kwargs.items()}
    moved = call.node.target(*as_tensor(call.args), **named)  # type: ignore[operator]
    parts = moved if isinstance(moved, list | tuple) else [moved]
    return [compressed(part.numpy()) for part in parts]


def same(walk: Walk, call: Call) -> Labels:
    """Each element stays where it is, with its unit."""
    return walk.units_of(call.operands[0])


def pointwise(walk: Walk, call: Call) -> Labels:
    """Elementwise operations: units that meet are tied."""
    rank = len(call.shape)
    parts = []
    for value in call.operands:
        lead = (1,) * (rank - len(value.shape))
        labels = walk.units_of(value)
        parts.append((labels.reshape(lead + labels.shape), lead + value.shape))
    return walk.meet(parts)


def along_an_axis(walk: Walk, call: Call) -> Labels:
    """Softmax and the like: units along their axis are mixed."""
    value = call.operands[0]
    labels = walk.units_of(value)
    if call.arguments["dim"] % labels.ndim in varying_axes(labels):
        walk.ties.keep(labels, f"`{call.name}` mixes the units")
        return none_of(value.shape)
    return labels


def reduce(walk: Walk, call: Call) -> list[Labels]:
    """Sums, means and the like: units along their axes are mixed."""
    value = call.operands[0]
    labels = walk.units_of(value)
    dims = call.arguments.get("dim")
    given = [dims] if isinstance(dims, int) else dims
    axes = {dim % labels.ndim for dim in given} if given else set(range(labels.ndim))
    if axes & set(varying_axes(labels)):
        walk.ties.keep(labels, f"`{call.name}` mixes the units")
        return [none_of(shape) for shape in call.shapes]
    if not call.arguments.get("keepdim"):
        labels = labels.squeeze(tuple(axes))
    return [labels for _ in call.shapes]


def norm_of_channels(walk: Walk, call: Call) -> Labels:
    """Batch and instance norm, PReLU: parameters along axis 1, nothing mixed in evaluation."""
    value, *parameters = call.operands
    labels = walk.units_of(value)
    axis = min(1, len(value.shape) - 1)
    for parameter in parameters:
        if math.prod(parameter.shape) > 1:
            own = placed(walk.units_of(parameter), axis, len(value.shape))
            shape = placed(np.zeros(parameter.shape, np.int64), axis, len(value.shape)).shape
            labels = walk.meet([(labels, value.shape), (own, shape)])
    return labels


def norm_of_last_axes(walk: Walk, call: Call) -> Labels:
    """Layer and RMS norm: units that they mix can go where they are zero."""
    value, *parameters = call.operands
    labels = walk.units_of(value)
    rank, axes = len(value.shape), len(call.arguments["normalized_shape"])
    mixed = [axis for axis in varying_axes(labels) if axis >= rank - axes]
    if axes > 1 and mixed:
        walk.ties.keep(labels, f"`{call.name}` over several axes mixes the units")
    elif mixed:
        walk.normalised.append(labels)
    for parameter in parameters:
        lead = (1,) * (rank - len(parameter.shape))
        own = walk.units_of(parameter)
        labels = walk.meet(
            [(labels, value.shape), (own.reshape(lead + own.shape), lead + parameter.shape)]
        )
    return labels


def norm_of_groups(walk: Walk, call: Call) -> Labels:
    """Group norm: the channels of a group are one unit."""
    value = call.operands[0]
    labels = walk.units_of(value)
    if 1 in varying_axes(labels):
        groups = labels.reshape(
            labels.shape[0], call.arguments["num_groups"], -1, *labels.shape[2:]
        )
        walk.ties.tie_along(groups, (2,))
    return norm_of_channels(walk, call)


def gated_linear_unit(walk: Walk, call: Call) -> Labels:
    """One half of the channels multiplies the other."""
    value = call.operands[0]
    labels = walk.units_of(value)
    axis = call.arguments.get("dim", -1) % labels.ndim
    if labels.shape[axis] == 1:
        return labels
    one, other = np.split(labels, 2, axis=axis)
    walk.ties.tie(one, other)
    return one


def window(walk: Walk, call: Call) -> list[Labels]:
    """Pooling, padding and resampling over space: channels stay what they are."""
    value = call.operands[0]
    labels = walk.units_of(value)
    touched = {i for i, size in enumerate(call.shape) if size != value.shape[i]}
    if "pool" in call.name:
        touched |= set(range(labels.ndim - int(call.name.split("pool")[1][0]), labels.ndim))
    if touched & set(varying_axes(labels)):
        walk.ties.keep(labels, f"`{call.name}` mixes the units")
        return [none_of(shape) for shape in call.shapes]
    return [labels for _ in call.shapes]


def source(_: Walk, call: Call) -> list[Labels]:
    """Operations that make tensors out of nothing."""
    return [none_of(shape) for shape in call.shapes]
