"""Which operations of an exported graph are plain layers of `torch.nn`, and with which settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from l0.shrinking.reduced_layers import Attention, ReducedLayerNorm, reduced_layer_norm

aten = torch.ops.aten

ATTENTION = aten.scaled_dot_product_attention.default

# Key in a node's `meta`: the dropout that an attention has in training, though not when exported.
TRAINING_DROPOUT = "training_dropout"


@dataclass(frozen=True)
class Layer:
    """A layer that does what one node of a graph does.

    Attributes:
        kind: Class of the layer.
        settings: What its constructor is called with.
        tensors: For each parameter or buffer of the layer, the node that reads it.
        inputs: What the layer is called with.
    """

    kind: type[nn.Module]
    settings: dict[str, Any]
    tensors: dict[str, fx.Node]
    inputs: tuple[Any, ...]


def arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of a call by name, defaults filled in.

    Args:
        node: A call of an operation with a schema, such as `torch.ops.aten.conv2d.default`.

    Returns:
        Name to value: nodes and constants. Empty for a call without a schema.

    Examples:
        >>> class Block(nn.Module):
        ...     def forward(self, x):
        ...         return x.flatten(1)
        >>> program = torch.export.export(Block(), (torch.ones(2, 3, 4),))
        >>> arguments(list(program.graph.nodes)[1])["end_dim"]
        -1
    """
    if not isinstance(node.target, torch._ops.OpOverload):
        return {}
    schema = node.target._schema.arguments
    found = {argument.name: argument.default_value for argument in schema}
    found |= {argument.name: value for argument, value in zip(schema, node.args, strict=False)}
    return found | dict(node.kwargs)


@dataclass(frozen=True)
class Call:
    """One node of a graph, its arguments by name, and the shapes of the tensors that it reads."""

    node: fx.Node
    given: Mapping[str, Any]
    shape_of: Callable[[fx.Node], tuple[int, ...]]

    def __getitem__(self, name: str) -> Any:
        """An argument."""
        return self.given[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the parameter or buffer that is given as `name`."""
        return self.shape_of(self.given[name])

    def reads(self, *names: str) -> dict[str, fx.Node]:
        """Those of the named tensors that are given."""
        return {name: self.given[name] for name in names if self.given[name] is not None}


Builder: TypeAlias = Callable[[Call], Layer | None]


def plain_layer(node: fx.Node, shape_of: Callable[[fx.Node], tuple[int, ...]]) -> Layer | None:
    """The plain layer that a node stands for.

    Args:
        node: A call in a graph in which parameters and buffers are read by `get_attr` nodes.
        shape_of: Gives the shape of the tensor that such a node reads.

    Returns:
        The layer; None where the operation has no parameters of its own, or where `torch.nn` has
        no layer for it.

    Examples:
        >>> graph = fx.Graph()
        >>> x, w = graph.placeholder("x"), graph.create_node("get_attr", "fc.weight")
        >>> call = graph.call_function(torch.ops.aten.linear.default, (x, w))
        >>> plain_layer(call, lambda node: (3, 2)).settings
        {'in_features': 2, 'out_features': 3, 'bias': False}
    """
    builder = _BUILDERS.get(node.target)
    if builder is None:
        return None
    given = arguments(node)
    read = [given.get(name) for name in ("weight", "bias", "running_mean", "running_var")]
    read += given.get("params", [])
    # A weight that is computed first, by a weight norm for instance, is not a layer's parameter.
    if any(isinstance(tensor, fx.Node) and tensor.op != "get_attr" for tensor in read):
        return None
    return builder(Call(node, given, shape_of))


def _linear(call: Call) -> Layer:
    outputs, inputs = call.shape("weight")
    settings = {
        "in_features": inputs,
        "out_features": outputs,
        "bias": call["bias"] is not None,
    }
    return Layer(nn.Linear, settings, call.reads("weight", "bias"), (call["input"],))


def _convolution(kind: type[nn.Module]) -> Builder:
    transposed = issubclass(kind, nn.modules.conv._ConvTransposeNd)

    def build(call: Call) -> Layer:
        first, second, *kernel = call.shape("weight")
        groups, padding = call["groups"], call["padding"]
        settings = {
            "in_channels": first if transposed else second * groups,
            "out_channels": second * groups if transposed else first,
            "kernel_size": tuple(kernel),
            "stride": _each(call["stride"], kernel),
            "padding": padding if isinstance(padding, str) else _each(padding, kernel),
            "dilation": _each(call["dilation"], kernel),
            "groups": groups,
            "bias": call["bias"] is not None,
        }
        if transposed:
            settings["output_padding"] = _each(call["output_padding"], kernel)
        return Layer(kind, settings, call.reads("weight", "bias"), (call["input"],))

    return build


def _each(value: Any, kernel: list[int]) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return values * len(kernel) if len(values) == 1 else values


def _running_norm(kinds: Mapping[int, type[nn.Module]], by_batch: str) -> Builder:
    def build(call: Call) -> Layer | None:
        tracks = call["running_mean"] is not None
        n_axes = call.node.meta["val"].ndim
        if (call["weight"] is None) != (call["bias"] is None):
            return None
        # Statistics of the batch although others are there: no layer does that in evaluation.
        if not (tracks or call["weight"]) or bool(call[by_batch]) == tracks or n_axes not in kinds:
            return None
        settings = {
            "num_features": call.shape("running_mean" if tracks else "weight")[0],
            "eps": call["eps"],
            "momentum": call["momentum"],
            "affine": call["weight"] is not None,
            "track_running_stats": tracks,
        }
        tensors = call.reads("weight", "bias", "running_mean", "running_var")
        return Layer(kinds[n_axes], settings, tensors, (call["input"],))

    return build


def _layer_norm(call: Call) -> Layer | None:
    if call["weight"] is None:
        return None
    settings = {
        "normalized_shape": tuple(call["normalized_shape"]),
        "eps": call["eps"],
        "bias": call["bias"] is not None,
    }
    return Layer(nn.LayerNorm, settings, call.reads("weight", "bias"), (call["input"],))


def _reduced_layer_norm(call: Call) -> Layer:
    input, sizes, weight, bias, eps, width = call.node.args
    settings = {
        "normalized_shape": tuple(sizes),  # type: ignore[arg-type]  # a list of integers
        "width": width,
        "eps": eps,
        "elementwise_affine": weight is not None,
        "bias": bias is not None,
    }
    tensors: Any = {"weight": weight, "bias": bias}
    present = {role: node for role, node in tensors.items() if node is not None}
    return Layer(ReducedLayerNorm, settings, present, (input,))


def _rms_norm(call: Call) -> Layer | None:
    if call["weight"] is None:
        return None
    settings = {"normalized_shape": tuple(call["normalized_shape"]), "eps": call["eps"]}
    return Layer(nn.RMSNorm, settings, call.reads("weight"), (call["input"],))


def _group_norm(call: Call) -> Layer | None:
    if call["weight"] is None or call["bias"] is None:
        return None
    settings = {
        "num_groups": call["num_groups"],
        "num_channels": call.shape("weight")[0],
        "eps": call["eps"],
    }
    return Layer(nn.GroupNorm, settings, call.reads("weight", "bias"), (call["input"],))


def _embedding(call: Call) -> Layer:
    count, size = call.shape("weight")
    settings = {
        "num_embeddings": count,
        "embedding_dim": size,
        "padding_idx": None if call["padding_idx"] == -1 else call["padding_idx"],
        "scale_grad_by_freq": call["scale_grad_by_freq"],
        "sparse": call["sparse"],
    }
    return Layer(nn.Embedding, settings, call.reads("weight"), (call["indices"],))


def _prelu(call: Call) -> Layer:
    settings = {"num_parameters": call.shape("weight")[0]}
    return Layer(nn.PReLU, settings, call.reads("weight"), (call["self"],))


def _dropout(kind: type[nn.Module]) -> Builder:
    return lambda call: Layer(kind, {"p": call["p"]}, {}, (call.node.args[0],))


def _channel_dropout(call: Call) -> Layer:
    kind = {4: nn.Dropout2d, 5: nn.Dropout3d}.get(call.node.meta["val"].ndim, nn.Dropout1d)
    return Layer(kind, {"p": call["p"]}, {}, (call.node.args[0],))


def _attention(call: Call) -> Layer | None:
    dropout = call.node.meta.get(TRAINING_DROPOUT)
    if not dropout:
        return None
    settings = {
        "dropout": dropout,
        "is_causal": call["is_causal"],
        "scale": call["scale"],
        "enable_gqa": call["enable_gqa"],
    }
    inputs = tuple(call[name] for name in ("query", "key", "value", "attn_mask"))
    return Layer(Attention, settings, {}, inputs)


def _recurrent(kind: type[nn.Module], **more: Any) -> Builder:
    def build(call: Call) -> Layer | None:
        names = recurrent_names(call["num_layers"], call["bidirectional"], call["has_biases"])
        if len(names) != len(call["params"]):  # With projections: not in this table.
            return None
        settings = {
            "input_size": call.shape_of(call["params"][0])[1],
            "hidden_size": call.shape_of(call["params"][1])[1],
            "num_layers": call["num_layers"],
            "bias": call["has_biases"],
            "batch_first": call["batch_first"],
            "dropout": call["dropout"],
            "bidirectional": call["bidirectional"],
            **more,
        }
        state = call["hx"]
        state = tuple(state) if isinstance(state, list) else state
        states = state if isinstance(state, tuple) else (state,)
        # Without a state, the layer starts from zeros by itself, whatever the size of the batch.
        starts_at_zero = all(start.target is aten.zeros.default for start in states)
        inputs = (call["input"],) if starts_at_zero else (call["input"], state)
        return Layer(kind, settings, dict(zip(names, call["params"], strict=True)), inputs)

    return build


def recurrent_names(n_layers: int, bidirectional: bool, has_biases: bool) -> list[str]:
    """Names of the parameters of a recurrent layer, in the order in which operations take them.

    Examples:
        >>> recurrent_names(1, bidirectional=True, has_biases=False)
        ['weight_ih_l0', 'weight_hh_l0', 'weight_ih_l0_reverse', 'weight_hh_l0_reverse']
    """
    roles = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"][: 4 if has_biases else 2]
    directions = ["", "_reverse"][: 2 if bidirectional else 1]
    return [
        f"{role}_l{layer}{direction}"
        for layer in range(n_layers)
        for direction in directions
        for role in roles
    ]


_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_INSTANCE_NORMS = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}

_BUILDERS: Mapping[Any, Builder] = MappingProxyType(
    {
        aten.linear.default: _linear,
        aten.conv1d.default: _convolution(nn.Conv1d),
        aten.conv2d.default: _convolution(nn.Conv2d),
        aten.conv3d.default: _convolution(nn.Conv3d),
        aten.conv1d.padding: _convolution(nn.Conv1d),
        aten.conv2d.padding: _convolution(nn.Conv2d),
        aten.conv3d.padding: _convolution(nn.Conv3d),
        aten.conv_transpose1d.default: _convolution(nn.ConvTranspose1d),
        aten.conv_transpose2d.input: _convolution(nn.ConvTranspose2d),
        aten.conv_transpose3d.input: _convolution(nn.ConvTranspose3d),
        aten.batch_norm.default: _running_norm(_BATCH_NORMS, "training"),
        aten.instance_norm.default: _running_norm(_INSTANCE_NORMS, "use_input_stats"),
        aten.layer_norm.default: _layer_norm,
        aten.rms_norm.default: _rms_norm,
        aten.group_norm.default: _group_norm,
        aten.embedding.default: _embedding,
        aten.prelu.default: _prelu,
        aten.dropout.default: _dropout(nn.Dropout),
        aten.dropout_.default: _dropout(nn.Dropout),
        aten.feature_dropout.default: _channel_dropout,
        aten.feature_dropout_.default: _channel_dropout,
        aten.alpha_dropout.default: _dropout(nn.AlphaDropout),
        aten.feature_alpha_dropout.default: _dropout(nn.FeatureAlphaDropout),
        ATTENTION: _attention,
        aten.lstm.input: _recurrent(nn.LSTM),
        aten.gru.input: _recurrent(nn.GRU),
        aten.rnn_tanh.input: _recurrent(nn.RNN, nonlinearity="tanh"),
        aten.rnn_relu.input: _recurrent(nn.RNN, nonlinearity="relu"),
        reduced_layer_norm: _reduced_layer_norm,
    }
)
