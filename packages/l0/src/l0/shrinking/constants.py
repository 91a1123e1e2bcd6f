"""Which values of a network do not depend on its inputs."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx

from l0.shrinking.flat_graph import FlatGraph
from l0.shrinking.plain_layers import arguments
from l0.tracing import MOVEMENTS


@dataclass(frozen=True)
class Values:
    """What one tensor of a network was for the example.

    Attributes:
        value: The tensor, or a list of tensors.
        varies: Of the same shapes: True where an element may change with the inputs.
    """

    value: Any
    varies: Any


def find_constants(flat: FlatGraph, inputs: Mapping[str, Any]) -> dict[str, Values]:
    """The values of a network for an example, and which of them are the same for all examples.

    An element varies if it is computed from a varying element, and not by a product with zero: so
    it is proven, not observed, that the others are constant, in evaluation mode.

    Args:
        flat: The network, exported in evaluation mode.
        inputs: The example, by the names of the placeholders.

    Returns:
        Values by the name of the node.

    Examples:
        >>> from torch import nn
        >>> from l0.shrinking.flat_graph import flat_graph
        >>> net, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.ones(4, 2)
        >>> _ = net[0].weight.data[1].zero_()
        >>> flat = flat_graph(torch.export.export(net, (x,)), net)
        >>> find_constants(flat, {"input": x})["relu"].varies[0]
        tensor([ True, False,  True])
    """
    found: dict[str, Values] = {}
    for node in flat.graph.nodes:
        if node.op == "placeholder":
            value = inputs[str(node.target)]
            found[node.name] = Values(value, _filled(value, True))
        elif node.op == "get_attr":
            value = flat.tensors[str(node.target)].detach()
            found[node.name] = Values(value, _filled(value, False))
        elif node.op == "call_function":
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda read: found[read.name].value)
            value = node.target(*args, **kwargs)
            found[node.name] = Values(value, _varies(node, found, value))
    return found


def _filled(value: Any, varies: bool) -> Any:
    if isinstance(value, Tensor):
        return torch.full_like(value, varies, dtype=torch.bool)
    if isinstance(value, Mapping):
        return {key: _filled(part, varies) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_filled(part, varies) for part in value]
    return varies


def _varies(node: fx.Node, found: Mapping[str, Values], value: Any) -> Any:
    """Which elements of a result vary, by the kind of the operation."""
    operands = [found[operand.name] for operand in node.all_input_nodes]
    if all(_is_constant(operand.varies) for operand in operands):
        return _filled(value, False)
    if node.target is operator.getitem:
        return operands[0].varies[node.args[1]]
    if not isinstance(value, Tensor):
        return _filled(value, True)
    name = node.target._schema.name.partition("::")[2]  # type: ignore[union-attr]
    tensors = [operand.varies for operand in operands if isinstance(operand.value, Tensor)]
    if name in _FACTORS:
        varies = _of_product(node, found, _FACTORS[name])
    elif name in MOVEMENTS or name.removesuffix("_") in _SPREADING:
        args = list(node.args[: 2 if name == "constant_pad_nd" else None])
        varies = node.target(*_indicators(args, found), **node.kwargs) > 0  # type: ignore[operator]
    elif name == "embedding":
        weight = operands[0].value
        varies = (weight != weight[:1]).any(0)  # Whichever row is taken.
    elif name == "prelu":
        varies = tensors[0]
    elif name in ("batch_norm", "layer_norm"):
        varies = _of_norm(node, found, tensors[0])
    elif name == "scaled_dot_product_attention":
        varies = _of_attention(node, found)
    elif name.removesuffix("_") in _POINTWISE or torch.Tag.pointwise in node.target.tags:  # type: ignore[union-attr]
        varies = reduce(torch.logical_or, tensors)
    else:
        varies = torch.tensor(True)
    return varies.to(value.device).expand(value.shape)


def _is_constant(varies: Any) -> bool:
    if isinstance(varies, Tensor):
        return not bool(varies.any())
    if isinstance(varies, Mapping):
        return all(map(_is_constant, varies.values()))
    if isinstance(varies, tuple | list):
        return all(map(_is_constant, varies))
    # Sizes may differ from one batch to the next, but no element is computed from them.
    return True


def _indicators(args: Any, found: Mapping[str, Values]) -> Any:
    """Arguments with 1 where a tensor varies, and 0 elsewhere; other values as they are."""

    def look_up(node: fx.Node) -> Any:
        value = found[node.name]
        return value.varies.float() if isinstance(value.value, Tensor) else value.value

    return fx.map_arg(args, look_up)


def _of_product(node: fx.Node, found: Mapping[str, Values], factors: tuple[int, int]) -> Tensor:
    """A sum of products varies if one factor does while the other is not always zero."""
    both = []
    for position in factors:
        factor = node.args[position]
        values = found[factor.name] if isinstance(factor, fx.Node) else Values(factor, False)
        value, varies = torch.as_tensor(values.value), torch.as_tensor(values.varies)
        both.append((varies.float(), (varies | (value != 0)).float()))
    left, right = factors
    varies = torch.tensor(False)
    for one, other in ((both[0][0], both[1][1]), (both[0][1], both[1][0])):
        args = [argument for argument in node.args]
        args[left], args[right] = one, other
        if len(args) > 2 and 2 not in factors:
            args[2] = None  # The bias.
        varies = varies | (node.target(*args, **node.kwargs) > 0)  # type: ignore[operator]
    return varies


def _of_norm(node: fx.Node, found: Mapping[str, Values], varies: Tensor) -> Tensor:
    call = arguments(node)
    if "normalized_shape" in call:
        axes = tuple(range(-len(call["normalized_shape"]), 0))
        varies = varies.any(axes, keepdim=True).expand(varies.shape)
    if call["weight"] is None:
        return varies
    weight = found[call["weight"].name].value
    if "normalized_shape" not in call:
        weight = weight.reshape(-1, *[1] * (varies.ndim - 2))
    return torch.logical_and(varies, weight != 0)


def _of_attention(node: fx.Node, found: Mapping[str, Values]) -> Tensor:
    """A mean over positions is what it is a mean of, where that is the same at all positions."""
    call = arguments(node)
    mask, value = call["attn_mask"], found[call["value"].name]
    if mask is not None and not _is_constant(found[mask.name].varies):
        return torch.tensor(True)
    differs = value.value != value.value[..., :1, :]
    return torch.logical_or(value.varies, differs).any(-2, keepdim=True)


# Positions of the two factors; an argument 2 beside them is a bias.
_FACTORS = {
    "mul": (0, 1),
    "matmul": (0, 1),
    "mm": (0, 1),
    "bmm": (0, 1),
    "linear": (0, 1),
    **{f"conv{axes}d": (0, 1) for axes in (1, 2, 3)},
    **{f"conv_transpose{axes}d": (0, 1) for axes in (1, 2, 3)},
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Operations without negative coefficients: indicators can go through the operation itself.
_SPREADING = _words(
    """
    mean sum amax constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d
    replication_pad2d max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d upsample_nearest1d
    upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d
    """
)
_POINTWISE = _words(
    """
    dropout feature_dropout alpha_dropout hardswish mish relu6 detach to _to_copy
    type_as rsub log_sigmoid softsign tanhshrink
    """
)
