"""Which rule an operation has.

A rule gets a `Walk` and a `Call`, and returns the labels of the output, or a list of them.
Operations without a rule keep all units that they touch: an unknown operation is never a reason
for a wrong network, only for a larger one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch

from l0.tracing import movements, products
from l0.tracing.labels import Labels
from l0.tracing.walk import Call, Walk

Rule: TypeAlias = Callable[[Walk, Call], "Labels | list[Labels]"]


def rule_for(call: Call) -> Rule:
    """The rule of an operation; one that keeps all units where there is none."""
    target = call.node.target
    if call.name in _RULES:
        return _RULES[call.name]
    if call.name in movements.MOVEMENTS:
        return movements.move
    if call.name in movements.IN_PLACE:
        return movements.same
    if call.name in movements.ALONG_AN_AXIS:
        return movements.along_an_axis
    if call.name in movements.REDUCTIONS:
        return movements.reduce
    if call.name in movements.POINTWISE or torch.Tag.pointwise in getattr(target, "tags", ()):
        return movements.pointwise
    return movements.keep_all


_RULES: Mapping[str, Rule] = {
    name: rule
    for names, rule in (
        ("linear", products.linear),
        ("matmul mm bmm addmm baddbmm", products.product),
        ("einsum", products.einsum),
        ("scaled_dot_product_attention", products.attention),
        ("conv1d conv2d conv3d", products.convolution),
        ("conv_transpose1d conv_transpose2d conv_transpose3d", products.convolution),
        ("batch_norm instance_norm prelu", movements.norm_of_channels),
        ("layer_norm rms_norm", movements.norm_of_last_axes),
        ("group_norm", movements.norm_of_groups),
        ("embedding", products.embedding),
        ("glu", movements.gated_linear_unit),
        ("max_pool1d max_pool2d max_pool3d max_pool2d_with_indices", movements.window),
        ("avg_pool1d avg_pool2d avg_pool3d", movements.window),
        ("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d", movements.window),
        ("adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d", movements.window),
        (
            "pad constant_pad_nd reflection_pad1d reflection_pad2d replication_pad2d",
            movements.window,
        ),
        ("upsample_nearest1d upsample_nearest2d upsample_nearest3d", movements.window),
        ("upsample_linear1d upsample_bilinear2d upsample_bicubic2d", movements.window),
        ("zeros ones full arange zeros_like ones_like empty scalar_tensor", movements.source),
        ("lstm gru rnn_tanh rnn_relu", products.recurrent),
    )
    for name in names.split()
}
