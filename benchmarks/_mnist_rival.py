"""Gradual structured magnitude pruning of LeNet-300-100, by two packages.

Run by `mnist.py`, in the environment of the other packages. Loop, optimiser, epochs, schedule,
fine-tuning and averaging of weights are those of the gates, and the same function takes the units
out in the end; only the choice differs. In each layer the units with the largest norms stay, and
every 50 steps a few more go, along the cubic schedule of Zhu and Gupta 2017
(https://arxiv.org/abs/1710.01878).
"""

import argparse
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Protocol

os.environ.setdefault("OMP_NUM_THREADS", "1")  # Before torch is loaded.

import torch
from _mnist_data import load
from _mnist_methods import RECIPES, SETS, finish, limits
from _mnist_training import LeNet300, train, weights_of
from torch import Tensor
from torch.nn.utils import prune

from l0 import Schedule, materialize

EVERY = 50


class Pruning(Protocol):
    """A way to choose the units that go."""

    version: str

    def prune_to(self, counts: dict[str, int]) -> None:
        """Leave so many inputs in each layer."""

    def after_step(self) -> None:
        """Undo what the optimiser has done to units that are gone."""

    def close(self) -> None:
        """Make it permanent."""


class ColumnMasks:
    """`torch.nn.utils.prune.ln_structured` on columns: on what reads the units."""

    version = torch.__version__

    def __init__(self, net: LeNet300, names: tuple[str, ...] = SETS["lenet300"]) -> None:
        # Masks of ones, as a mask makes another parameter of the weight: the optimiser needs it.
        self.layers = {name: prune.identity(getattr(net, name), "weight") for name in names}
        self.masks: dict[str, Tensor] = {}

    def prune_to(self, counts: dict[str, int]) -> None:
        for name, layer in self.layers.items():
            left = int(self.masks[name][0].sum()) if name in self.masks else layer.in_features
            if left > counts[name]:
                prune.ln_structured(layer, "weight", amount=left - counts[name], n=2, dim=1)
                self.masks[name] = layer.weight_mask.clone()

    def after_step(self) -> None:
        """The forward pass multiplies with the masks."""

    def close(self) -> None:
        for name, layer in self.layers.items():
            # The averaging of weights has averaged the masks, too.
            layer.weight_mask.copy_(self.masks.get(name, layer.weight_mask))
            prune.remove(layer, "weight")


class RemovedUnits:
    """Torch-Pruning: its group importance chooses the hidden units, and it takes them out.

    Units wait behind masks until the end, as the optimiser's state would be lost with each
    removal. Inputs of a network it cannot prune: pixels go by the norms of their columns, as above.
    """

    def __init__(self, net: LeNet300) -> None:
        import torch_pruning

        self.package, self.version = torch_pruning, torch_pruning.__version__
        self.importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
        self.graph = torch_pruning.DependencyGraph()
        self.graph.build_dependency(net, example_inputs=torch.zeros(2, 1, 28, 28))
        self.pairs = {"fc2": (net.fc1, net.fc2), "fc3": (net.fc2, net.fc3)}
        self.gone = {name: torch.zeros(reads.in_features, dtype=torch.bool)
                     for name, (_, reads) in self.pairs.items()}  # fmt: skip
        self.first, self.gone_pixels = net.fc1, torch.zeros(784, dtype=torch.bool)

    def prune_to(self, counts: dict[str, int]) -> None:
        self._shut(self.gone_pixels, self.first.weight.detach().norm(dim=0), counts["fc1"])
        for name, gone in self.gone.items():
            group = self._group(name, list(range(gone.numel())))
            self._shut(gone, self.importance(group), counts[name])

    @torch.no_grad()
    def after_step(self) -> None:
        self.first.weight[:, self.gone_pixels] = 0
        for name, (makes, reads) in self.pairs.items():
            gone = self.gone[name]
            makes.weight[gone], makes.bias[gone], reads.weight[:, gone] = 0, 0, 0

    def close(self) -> None:
        self.after_step()
        for name, gone in self.gone.items():
            self._group(name, gone.nonzero().flatten().tolist()).prune()

    def _group(self, name: str, places: list[int]) -> object:
        makes, _ = self.pairs[name]
        return self.graph.get_pruning_group(
            makes, self.package.prune_linear_out_channels, idxs=places
        )

    @staticmethod
    def _shut(gone: Tensor, scores: Tensor, n_left: int) -> None:
        order = scores.masked_fill(gone, -1.0).argsort()
        gone[order[: gone.numel() - n_left]] = True


METHODS: dict[str, type[Pruning]] = {"prune": ColumnMasks, "torch-pruning": RemovedUnits}


def main() -> None:
    """One run, written as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=list(METHODS), required=True)
    parser.add_argument("--units", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, recipe = load(options.data), RECIPES["rivals", "lenet300"]
    course, counts = recipe.shrinking, limits("lenet300", options.units)
    started = time.process_time()
    torch.manual_seed(options.seed)
    net = LeNet300()
    method = METHODS[options.method](net)
    length = recipe.warmup * course.epochs * (len(data.train) // course.batch)
    dense = {name: getattr(net, name).in_features for name in counts}
    ways = {name: Schedule(dense[name], count, length, "cubic") for name, count in counts.items()}

    def after_step(step: int) -> None:
        method.after_step()
        if step % EVERY == 0 or step == int(length) + 1:
            method.prune_to({name: round(way.at(step)) for name, way in ways.items()})
            method.after_step()

    label = f"{options.method} {options.units} seed {options.seed}"
    shrinking = train(
        net,
        weights_of(net, course.lr),
        data,
        course,
        options.seed,
        after_step=after_step,
        label=f"{label}, pruning:",
    )
    method.close()
    small = materialize(net, [data.train.x[:8]])
    record = finish(small, data, "lenet300", recipe, options.seed, shrinking, label)
    record["cpu_seconds"] = time.process_time() - started
    record["settings"] = dataclasses.asdict(recipe)
    record["version"] = method.version
    options.out.write_text(json.dumps(record))


if __name__ == "__main__":
    main()
