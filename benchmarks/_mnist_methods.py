"""Settings of the runs, and the way from a dense network to a small one by gates."""

from dataclasses import dataclass

import torch
from _mnist_data import Mnist
from _mnist_training import NETS, Course, Curve, error, train, weights_of
from torch import nn

from l0 import Budget, convert, materialize, param_groups

# Pixels, hidden 1 and hidden 2; maps 1, maps 2, inputs of the first and of the second linear
# layer. They are those of Louizos et al. 2018, https://arxiv.org/abs/1712.01312, table 1.
BUDGETS = {
    "lenet300": ["219-214-100", "266-88-33"],
    "lenet5": ["20-25-45-462", "9-18-65-25"],
    "rivals": ["219-214-100", "100-60-30", "60-25-15", "40-15-10"],
}
SETS = {"lenet300": ("fc1", "fc2", "fc3"), "lenet5": ("conv1", "conv2", "fc1", "fc2")}


@dataclass(frozen=True)
class Recipe:
    """Two phases: with gates (or while pruning), and fine-tuning of the small network.

    Attributes:
        shrinking: The first phase.
        tuning: The second phase.
        warmup: Share of the first phase over which the budget comes down from the dense network.
    """

    shrinking: Course
    tuning: Course
    warmup: float


RECIPES = {
    ("main", "lenet300"): Recipe(
        Course(12, lr=1e-3, gates_lr=2e-2, decay_from=0.8, adversarial=0.05),
        Course(60, lr=2e-3, adversarial=0.05),
        warmup=0.6,
    ),
    # The same without the adversarial term.
    ("plain", "lenet300"): Recipe(
        Course(12, lr=1e-3, gates_lr=2e-2, decay_from=0.8), Course(60, lr=2e-3), warmup=0.6
    ),
    ("main", "lenet5"): Recipe(
        Course(8, lr=2e-3, gates_lr=3e-2, decay_from=0.8, mixed=True),
        Course(12, lr=2e-3, adversarial=0.02, mixed=True),
        warmup=0.65,
    ),
    ("rivals", "lenet300"): Recipe(
        Course(8, lr=1e-3, gates_lr=2e-2, decay_from=0.8), Course(12, lr=2e-3), warmup=0.6
    ),
}


def limits(net: str, units: str) -> dict[str, int]:
    """`"219-214-100"` as a number of units for each layer that reads or makes them."""
    return dict(zip(SETS[net], map(int, units.split("-")), strict=True))


def shrink_by_gates(
    data: Mnist, net: str, units: str, recipe: Recipe, seed: int
) -> tuple[nn.Module, nn.Module, dict]:
    """The small network, a dense one to compare it with, and the record of the run."""
    torch.manual_seed(seed)
    dense, counts, course = NETS[net](), limits(net, units), recipe.shrinking
    example = [data.train.x[:8]]
    gated = convert(
        dense.to(memory_format=torch.channels_last),
        gates={"conv*": "channel", "fc*": "input"} if net == "lenet5" else {"fc*": "input"},
        example_inputs=example,
        seed=1000 * seed,
    )
    n_steps = course.epochs * (len(data.train) // course.batch)
    budget = Budget(
        gated, count=counts, warmup_steps=round(recipe.warmup * n_steps), schedule="cubic"
    )

    def watch(curve: Curve) -> None:
        gates = dict(gated.named_gates())
        curve.expected.append({key: round(gate.penalty().item(), 2) for key, gate in gates.items()})
        curve.hard.append({key: int((gate.median() > 0).sum()) for key, gate in gates.items()})

    shrinking = train(
        gated,
        param_groups(gated, lr=course.lr, gates_lr=course.gates_lr),
        data,
        course,
        seed,
        extra_loss=budget.loss,
        after_step=lambda _: budget.step(),
        watch=watch,
        label=f"{net} {units} seed {seed}, gates:",
    )
    projection = budget.project()
    small = materialize(gated, example)
    record = finish(small, data, net, recipe, seed, shrinking, f"{net} {units} seed {seed}")
    record["projected_exactly"] = projection.exact
    record["gates_open"] = {name: kept for name, (kept, _) in projection.kept.items()}
    return small, dense, record


def finish(
    small: nn.Module,
    data: Mnist,
    net: str,
    recipe: Recipe,
    seed: int,
    shrinking: Curve,
    label: str,
) -> dict:
    """Fine-tune a small network, look at the test set, and write the run down."""
    before = error(small, data.validation)
    small = small.to(memory_format=torch.channels_last)
    tuning = train(
        small, weights_of(small, recipe.tuning.lr), data, recipe.tuning, seed + 100, label=label
    )
    print(f"{label}: kept {kept(small, net)}, final test error {tuning.test[-1]:.2f}%", flush=True)
    return {
        "kept": kept(small, net),
        "final_test_error": tuning.test[-1],
        "best_test_error_over_epochs": min(tuning.test),
        "final_validation_error": tuning.validation[-1],
        "validation_error_before_tuning": before,
        "training_cpu_seconds": shrinking.cpu_seconds + tuning.cpu_seconds,
        "curves": {"shrinking": vars(shrinking), "tuning": vars(tuning)},
    }


def kept(small: nn.Module, net: str) -> list[int]:
    """Units that a network has."""
    if net == "lenet300":
        return [getattr(small, name).in_features for name in SETS[net]]
    maps = [small.conv1.out_channels, small.conv2.out_channels]
    return [*maps, small.fc1.in_features, small.fc2.in_features]
