"""The two networks, and one training loop for all methods and phases."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812  # as everywhere
from _mnist_data import Images, Mnist
from torch import Tensor, nn

from l0 import WeightAverage

# The average takes every fifth step; with this decay it covers about the last 500 steps.
AVERAGE_EVERY, AVERAGE_DECAY = 5, 0.99
WARMUP_STEPS = 200


class LeNet300(nn.Module):
    """LeNet-300-100: three linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


class LeNet5(nn.Module):
    """LeNet-5 as in Caffe: convolutions of 20 and 50 maps, then 800-500-10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, x: Tensor) -> Tensor:
        # The rectifier after the pooling gives the same values, on a quarter of the positions.
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


NETS = {"lenet300": LeNet300, "lenet5": LeNet5}


@dataclass(frozen=True)
class Course:
    """One phase of training.

    Attributes:
        epochs: Passes over the training images.
        lr: Highest learning rate of the weights.
        gates_lr: Of the gates.
        decay_from: Share of the steps after which learning rates fall along a cosine.
        adversarial: If positive, each batch counts a second time with each pixel moved by this
            much in the direction that raises the loss (Goodfellow, Shlens and Szegedy 2015,
            https://arxiv.org/abs/1412.6572, without the clipping to [0, 1]).
        mixed: Whether layers compute in bfloat16; weights, averages and tests are float32.
        batch: Images in a step.
    """

    epochs: int
    lr: float = 1e-3
    gates_lr: float = 0.0
    decay_from: float = 0.0
    adversarial: float = 0.0
    mixed: bool = False
    batch: int = 100

    def factor(self, step: int, n_steps: int) -> float:
        """What a learning rate is multiplied by at a step."""
        warm = min(1.0, (step + 1) / WARMUP_STEPS)
        done = (step / n_steps - self.decay_from) / (1 - self.decay_from)
        return warm * 0.5 * (1 + math.cos(math.pi * max(done, 0.0)))


@dataclass
class Curve:
    """Errors in percent of the averaged weights after each epoch, and counts of gates."""

    validation: list[float] = field(default_factory=list)
    test: list[float] = field(default_factory=list)
    expected: list[dict[str, float]] = field(default_factory=list)
    hard: list[dict[str, int]] = field(default_factory=list)
    cpu_seconds: float = 0.0


def weights_of(model: nn.Module, lr: float) -> list[dict]:
    """All parameters of a plain network as one group."""
    return [{"params": list(model.parameters()), "lr": lr}]


@torch.no_grad()
def error(model: nn.Module, images: Images) -> float:
    """Share of wrong digits, in percent."""
    was_training = model.training
    model.eval()
    wrong = sum(
        int((model(images.x[i : i + 1000]).argmax(1) != images.y[i : i + 1000]).sum())
        for i in range(0, len(images), 1000)
    )
    model.train(was_training)
    return 100 * wrong / len(images)


def train(
    model: nn.Module,
    groups: Iterable[dict],
    data: Mnist,
    course: Course,
    seed: int,
    *,
    extra_loss: Callable[[], Tensor] | None = None,
    after_step: Callable[[int], None] | None = None,
    watch: Callable[[Curve], None] | None = None,
    label: str = "",
) -> Curve:
    """Train a model, leave its averaged weights in it, and return the curve.

    The test errors of the curve are for the record; nothing looks at them.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(list(groups), lr=course.lr, weight_decay=0.0, fused=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    average = WeightAverage(model, AVERAGE_DECAY)
    images, digits = data.train.x, data.train.y
    per_epoch = len(digits) // course.batch
    n_steps = per_epoch * course.epochs
    curve, step = Curve(), 0
    model.train()
    for _ in range(course.epochs):
        started = time.process_time()
        order = torch.randperm(len(digits), generator=generator)
        for rows in order[: per_epoch * course.batch].view(per_epoch, course.batch):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * course.factor(step, n_steps)
            optimizer.zero_grad()
            x, y = images[rows], digits[rows]
            x.requires_grad_(course.adversarial > 0)
            with torch.autocast("cpu", torch.bfloat16, enabled=course.mixed):
                loss = F.cross_entropy(model(x).float(), y)
            (loss if extra_loss is None else loss + extra_loss()).backward()
            if course.adversarial:
                moved = x.detach() + course.adversarial * x.grad.sign()
                with torch.autocast("cpu", torch.bfloat16, enabled=course.mixed):
                    loss = F.cross_entropy(model(moved).float(), y)
                loss.backward()
            optimizer.step()
            if after_step is not None:
                after_step(step)
            step += 1
            if step % AVERAGE_EVERY == 0:
                average.update()
        curve.cpu_seconds += time.process_time() - started
        with average.applied():
            curve.validation.append(error(model, data.validation))
            curve.test.append(error(model, data.test))
            if watch is not None:
                watch(curve)
        print(
            f"{label} epoch {len(curve.test)}: validation {curve.validation[-1]:.2f}%, "
            f"{curve.cpu_seconds:.0f} s",
            *(curve.expected[-1:] + curve.hard[-1:]),
            flush=True,
        )
    with average.applied():
        state = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    return curve
