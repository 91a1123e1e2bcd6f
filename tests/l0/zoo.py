"""Small networks of the usual kinds, with random parameters and statistics, to try things on.

Each entry of `ZOO` says how the network is made, what it reads, and which layers get gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .convolutional_networks import (
    VGG,
    DenseNet,
    LeNet5,
    PixelShuffle,
    PlainCNN,
    ResNet,
    ShuffleNet,
    SqueezeExcite,
    TwoInputs,
    UNet,
    autoencoder,
    conv3d,
    dilated_conv1d,
    group_norm,
    lenet_300_100,
    mobilenet,
)
from .sequence_networks import (
    GPT,
    Llama,
    Recurrent,
    Siamese,
    TransformerEncoder,
    ViT,
    layer_norm_mlp,
)


@dataclass(frozen=True)
class Architecture:
    """How a network is made, shapes of what it reads (without the batch), and its gates."""

    make: Callable[[], nn.Module]
    inputs: Mapping[str, tuple[int, ...]]
    gates: Mapping[str, Any]
    by_name: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    vocabulary: int | None = None

    def network(self, seed: int = 0) -> nn.Module:
        """The network in evaluation mode, all of its parameters and statistics random."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = self.make().eval()
            randomise(network)
        return network

    def example(self, n: int = 4, seed: int = 0) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Positional inputs and inputs by name for `n` examples."""
        generator = torch.Generator().manual_seed(seed)

        def tensor(shape: tuple[int, ...]) -> Tensor:
            if self.vocabulary is not None:
                return torch.randint(self.vocabulary, (n, *shape), generator=generator)
            return torch.randn(n, *shape, generator=generator)

        args = tuple(map(tensor, self.inputs.values()))
        return args, {name: tensor(shape) for name, shape in self.by_name.items()}


def randomise(network: nn.Module) -> None:
    """Random biases, scales and running statistics, which networks start without."""
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1:
                continue
            is_scale = name == "weight"
            values = torch.rand_like(parameter) + 0.5 if is_scale else torch.randn_like(parameter)
            parameter.data.copy_(values if is_scale else 0.3 * values)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0.0, 0.3)
            module.running_var.uniform_(0.5, 1.5)


IMAGE = {"x": (3, 8, 8)}
SEQUENCE = {"x": (6, 5)}
SERIES = {"x": (5, 4)}

ZOO: Mapping[str, Architecture] = {
    "plain CNN": Architecture(PlainCNN, IMAGE, {"conv*": "channel"}),
    "LeNet-5": Architecture(
        LeNet5, {"x": (1, 28, 28)}, {"conv*": "channel", "fc1": "input", "fc2": "input"}
    ),
    "LeNet-300-100": Architecture(lenet_300_100, {"x": (6, 6)}, {"*": "input"}),
    "VGG": Architecture(VGG, IMAGE, {"features.*": "channel", "classifier.0": "output"}),
    "ResNet": Architecture(ResNet, IMAGE, {"stem": "channel", "block*": "channel"}),
    "ResNeXt": Architecture(lambda: ResNet(groups=4), IMAGE, {"*conv*": "channel"}),
    "DenseNet": Architecture(DenseNet, IMAGE, {"stem": "channel", "layers.*": "channel"}),
    "MobileNet": Architecture(mobilenet, IMAGE, {"0": "channel", "*expand.0": "channel"}),
    "squeeze and excite": Architecture(
        SqueezeExcite, IMAGE, {"conv": "channel", "squeeze": "channel"}
    ),
    "ShuffleNet": Architecture(ShuffleNet, IMAGE, {"*": "channel"}),
    "U-Net": Architecture(UNet, {"x": (2, 8, 8)}, {"down*": "channel", "merge": "channel"}),
    "MLP with layer norm": Architecture(
        layer_norm_mlp, {"x": (6,)}, {"0": "output", "3": "output"}
    ),
    "dilated 1-D": Architecture(dilated_conv1d, {"x": (2, 30)}, {"*": "channel"}),
    "transformer encoder": Architecture(
        TransformerEncoder,
        SEQUENCE,
        {"embed": "output", "*.self_attn": "head", "*.linear1": "output"},
    ),
    "transformer encoder, norm first": Architecture(
        lambda: TransformerEncoder(norm_first=True),
        SEQUENCE,
        {"embed": "output", "*.self_attn": "head", "*.linear1": "output"},
    ),
    "ViT": Architecture(
        ViT, IMAGE, {"patch": "channel", "blocks.*.attn": "head", "blocks.*.fc1": "output"}
    ),
    "GPT": Architecture(
        GPT,
        {"tokens": (6,)},
        {"tokens": "output", "blocks.*": "head", "blocks.*.mlp.0": "output"},
        vocabulary=11,
    ),
    "Llama": Architecture(
        Llama, SEQUENCE, {"embed": "output", "blocks.*": "head", "blocks.*.up": "output"}
    ),
    "LSTM": Architecture(
        lambda: Recurrent(nn.LSTM), SERIES, {"embed": "output", "rnn": "output", "fc": "output"}
    ),
    "bidirectional LSTM": Architecture(
        lambda: Recurrent(nn.LSTM, bidirectional=True, num_layers=2, dropout=0.2),
        SERIES,
        {"embed": "output", "rnn": "output", "fc": "input"},
    ),
    "bidirectional GRU": Architecture(
        lambda: Recurrent(nn.GRU, bidirectional=True), SERIES, {"rnn": "output", "fc": "output"}
    ),
    "Siamese": Architecture(
        Siamese, {"left": (5,), "right": (5,)}, {"tower.0": "output", "tower.2": "output"}
    ),
    "two inputs": Architecture(
        TwoInputs,
        {"image": (1, 6, 6)},
        {"image.0": "channel", "joint": "input", "out": "input"},
        by_name={"table": (5,)},
    ),
    "group norm": Architecture(group_norm, IMAGE, {"*": "channel"}),
    "autoencoder": Architecture(autoencoder, {"x": (10,)}, {"*": "output"}),
    "3-D": Architecture(conv3d, {"x": (1, 5, 5, 5)}, {"*": "channel"}),
    "super-resolution": Architecture(PixelShuffle, {"x": (1, 5, 5)}, {"conv*": "channel"}),
}
