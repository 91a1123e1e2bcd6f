"""What a saved network may consist of: layers, operations and types, each by its name."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from l0.errors import InvalidSpec
from l0.shrinking.reduced_layers import Attention, ReducedLayerNorm


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_CONVOLUTION = _words(
    "in_channels out_channels kernel_size stride padding dilation groups bias padding_mode"
)
_RUNNING_NORM = _words("num_features eps momentum affine track_running_stats")
_RECURRENT = _words("input_size hidden_size num_layers bias batch_first dropout bidirectional")

# For each layer the names of its settings. `bias` and `elementwise_affine` may be tensors in it.
LAYERS: Mapping[type[nn.Module], tuple[str, ...]] = MappingProxyType(
    {
        nn.Linear: _words("in_features out_features bias"),
        nn.Conv1d: _CONVOLUTION,
        nn.Conv2d: _CONVOLUTION,
        nn.Conv3d: _CONVOLUTION,
        nn.ConvTranspose1d: (*_CONVOLUTION, "output_padding"),
        nn.ConvTranspose2d: (*_CONVOLUTION, "output_padding"),
        nn.ConvTranspose3d: (*_CONVOLUTION, "output_padding"),
        nn.BatchNorm1d: _RUNNING_NORM,
        nn.BatchNorm2d: _RUNNING_NORM,
        nn.BatchNorm3d: _RUNNING_NORM,
        nn.InstanceNorm1d: _RUNNING_NORM,
        nn.InstanceNorm2d: _RUNNING_NORM,
        nn.InstanceNorm3d: _RUNNING_NORM,
        nn.LayerNorm: _words("normalized_shape eps elementwise_affine bias"),
        ReducedLayerNorm: _words("normalized_shape width eps elementwise_affine bias"),
        nn.RMSNorm: _words("normalized_shape eps elementwise_affine"),
        nn.GroupNorm: _words("num_groups num_channels eps affine"),
        nn.Embedding: _words("num_embeddings embedding_dim padding_idx scale_grad_by_freq sparse"),
        nn.PReLU: _words("num_parameters"),
        nn.Dropout: _words("p inplace"),
        nn.Dropout1d: _words("p inplace"),
        nn.Dropout2d: _words("p inplace"),
        nn.Dropout3d: _words("p inplace"),
        nn.AlphaDropout: _words("p inplace"),
        nn.FeatureAlphaDropout: _words("p inplace"),
        nn.LSTM: _RECURRENT,
        nn.GRU: _RECURRENT,
        nn.RNN: (*_RECURRENT, "nonlinearity"),
        Attention: _words("dropout is_causal scale enable_gqa"),
    }
)
LAYERS_BY_NAME: Mapping[str, type[nn.Module]] = MappingProxyType(
    {kind.__name__: kind for kind in LAYERS}
)

# Operations on numbers and sizes.
FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        **{
            f"operator.{name}": getattr(operator, name)
            for name in _words("getitem add sub mul floordiv truediv mod neg eq ne lt le gt ge")
        },
        **{
            f"torch.{name}": getattr(torch, name)
            for name in _words("sym_float sym_int sym_max sym_min sym_not")
        },
    }
)

# Operations on tensors, all their variants, also in place. None of them reads or writes a file.
OPERATIONS = frozenset(
    _words(
        """
        view reshape _unsafe_view view_as reshape_as flatten unflatten unsqueeze squeeze permute
        transpose t numpy_T mT movedim moveaxis swapaxes swapdims select slice narrow split
        split_with_sizes chunk unbind tensor_split expand expand_as broadcast_to repeat tile cat
        concat concatenate stack hstack vstack flip roll contiguous clone alias pixel_shuffle
        pixel_unshuffle channel_shuffle native_channel_shuffle repeat_interleave index_select
        gather index take_along_dim unfold im2col col2im tril triu diagonal diag_embed
        index_put scatter scatter_add index_add masked_fill masked_select where copy
        detach to _to_copy type_as lift_fresh_copy
        zeros ones full empty zeros_like ones_like full_like empty_like new_zeros new_ones new_full
        new_empty arange linspace eye scalar_tensor one_hot meshgrid sym_size sym_numel
        linear matmul mm bmm addmm baddbmm einsum dot vdot mv outer bilinear cdist
        conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution
        scaled_dot_product_attention embedding
        batch_norm instance_norm layer_norm group_norm rms_norm _weight_norm
        lstm gru rnn_tanh rnn_relu lstm_cell gru_cell
        add sub mul div rsub neg abs sign pow square sqrt rsqrt exp exp2 expm1 log log2 log10
        log1p sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh floor ceil round trunc
        frac fmod remainder floor_divide reciprocal clamp clamp_min clamp_max maximum minimum
        fmax fmin lerp addcmul addcdiv erf erfc erfinv lgamma digamma xlogy logaddexp hypot
        nan_to_num isnan isinf isfinite eq ne lt le gt ge logical_and logical_or logical_xor
        logical_not bitwise_and bitwise_or bitwise_xor bitwise_not __and__ __or__ __xor__
        relu relu6 leaky_relu prelu elu selu celu gelu silu mish hardtanh hardswish hardsigmoid
        hardshrink softshrink softplus sigmoid log_sigmoid tanh threshold glu
        softmax _softmax log_softmax _log_softmax dropout feature_dropout alpha_dropout
        feature_alpha_dropout
        mean sum prod amax amin max min argmax argmin any all var std var_mean std_mean logsumexp
        norm linalg_vector_norm cumsum cumprod cummax topk sort argsort
        max_pool1d max_pool2d max_pool3d max_pool2d_with_indices avg_pool1d avg_pool2d avg_pool3d
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
        adaptive_max_pool2d adaptive_max_pool3d
        pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
        replication_pad2d replication_pad3d
        upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d
        upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d grid_sampler
        affine_grid_generator
        """
    )
)

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        name: getattr(torch, name)
        for name in _words(
            "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64"
        )
    }
)


def name_of_function(target: Any) -> str:
    """The name of a function on the white list.

    Args:
        target: An operation of `torch.ops.aten`, or a function on sizes.

    Returns:
        Its name, such as `aten.relu.default` or `operator.getitem`.

    Raises:
        InvalidSpec: If it is not on the white list.

    Examples:
        >>> name_of_function(torch.ops.aten.relu.default)
        'aten.relu.default'
    """
    for name, function in FUNCTIONS.items():
        if function is target:
            return name
    name = str(target)
    if function_named(name) is not target:
        raise InvalidSpec(f"`{name}` is not on the white list.")
    return name


def function_named(name: Any) -> Callable[..., Any]:
    """The function on the white list that has a name.

    Raises:
        InvalidSpec: If there is none.

    Examples:
        >>> function_named("os.system")
        Traceback (most recent call last):
        l0.errors.InvalidSpec: `os.system` is not on the white list of operations.
    """
    if isinstance(name, str):
        if name in FUNCTIONS:
            return FUNCTIONS[name]
        space, _, rest = name.partition(".")
        operation, _, overload = rest.partition(".")
        plain = operation if operation in OPERATIONS else operation.removesuffix("_")
        if space == "aten" and plain in OPERATIONS:
            packet = getattr(torch.ops.aten, operation, None)
            if packet is not None and overload in packet.overloads():
                function: Callable[..., Any] = getattr(packet, overload)
                return function
    raise InvalidSpec(f"`{name}` is not on the white list of operations.")
