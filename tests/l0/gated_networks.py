"""Small networks with gates, converted and built of gated layers."""

import copy
import functools
import itertools

import torch
from torch import nn

from l0.conversion import convert
from l0.hard_concrete import HardConcrete
from l0.layers import L0Conv2d, L0Linear
from l0.sized_gates import sized_gates


class Residual(nn.Module):
    """A stem, a residual block with batch norm, a grouped convolution and a head."""

    def __init__(self, channels, groups):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.head = nn.Linear(channels, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + torch.relu(self.conv(x))
        return self.head(x.mean((2, 3)))


class Plain(nn.Module):
    """Two convolutions and two linear layers, flattened in between."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv2 = nn.Conv2d(4, 3, 3)
        self.fc1 = nn.Linear(12, 5)
        self.fc2 = nn.Linear(5, 2)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.conv1(x)))).flatten(1)
        return self.fc2(torch.relu(self.fc1(x)))


def mlp(*widths):
    layers = [part for pair in itertools.pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


IMAGES = torch.zeros(2, 1, 6, 6)
CONVERTED = {
    "inputs": (lambda: mlp(7, 5, 4, 2), {"*": "input"}, torch.zeros(2, 7)),
    "outputs": (lambda: mlp(6, 9, 5, 3), {"*": "output"}, torch.zeros(2, 6)),
    "both": (
        lambda: mlp(5, 6, 4, 2),
        {"0": "output", "2": "input", "4": "input"},
        torch.zeros(2, 5),
    ),
    "weights": (lambda: mlp(4, 5, 2), {"*": "weight"}, torch.zeros(2, 4)),
    "weights and units": (lambda: mlp(4, 6, 2), {"0": "output", "2": "weight"}, torch.zeros(2, 4)),
    "channels": (Plain, {"conv*": "channel", "fc1": "output"}, IMAGES),
    "channels and inputs": (Plain, {"conv*": "channel", "fc*": "input"}, IMAGES),
    "residual": (lambda: Residual(6, 1), {"stem": "channel", "conv": "channel"}, IMAGES),
    "grouped": (lambda: Residual(8, 4), {"stem": "channel"}, IMAGES),
}
HAND_BUILT = {
    "linear": lambda: nn.Sequential(
        L0Linear(6, 5), nn.ReLU(), L0Linear(5, 4, gate="output"), nn.Linear(4, 2)
    ),
    "convolution": lambda: nn.Sequential(
        L0Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), L0Linear(96, 2, gate="output"), HardConcrete(4)
    ),
}


@functools.cache
def converted(name):
    torch.manual_seed(0)
    make, gates, example = CONVERTED[name]
    return convert(make(), gates, example_inputs=[example])


def fresh(name):
    return copy.deepcopy(converted(name)) if name in CONVERTED else HAND_BUILT[name]()


def randomise(model, seed):
    """Random logits, all different, and a random temperature for each set."""
    rng = torch.Generator().manual_seed(seed)
    for gate in sized_gates(model).gates:
        logits = torch.randn(gate.log_alpha.shape, generator=rng, dtype=torch.float64) * 3
        gate.log_alpha.data.copy_(logits)
        gate.set_temperature(float(0.2 + torch.rand((), generator=rng)))
