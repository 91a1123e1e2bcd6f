"""What a network costs: a training step, an answer, and a file of its weights."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812  # as everywhere
from _mnist_data import Mnist
from _mnist_training import NETS, weights_of
from safetensors.torch import save as as_safetensors
from torch import nn

from l0 import Budget, convert, param_groups


def step_cost(net: str, data: Mnist, n_steps: int = 200) -> dict:
    """Medians of a dense and of a gated training step with budget, taken in turn, batch 100.

    Seconds of the processor, so that other work on the machine counts as little as possible.
    """
    torch.manual_seed(0)
    x, y = data.train.x, data.train.y
    # Each step has images of its own: on the same ones, gradients would soon vanish.
    batches = torch.randperm(len(y)).split(100)
    turns = {"dense": iter(batches), "gated": iter(batches)}
    dense = NETS[net]().to(memory_format=torch.channels_last)
    plain = torch.optim.Adam(weights_of(dense, 1e-3), fused=True)
    gated = convert(
        NETS[net]().to(memory_format=torch.channels_last),
        gates={"conv*": "channel", "fc*": "input"} if net == "lenet5" else {"fc*": "input"},
        example_inputs=[x[:8]],
    )
    half = {name: gates.n_gates // 2 for name, gates in gated.sets.items()}
    budget = Budget(gated, count=half, warmup_steps=n_steps, schedule="cubic")
    adam = torch.optim.Adam(param_groups(gated, lr=1e-3, gates_lr=2e-2), fused=True)

    def dense_step() -> None:
        rows = next(turns["dense"])
        plain.zero_grad()
        F.cross_entropy(dense(x[rows]), y[rows]).backward()
        plain.step()

    def gated_step() -> None:
        rows = next(turns["gated"])
        adam.zero_grad()
        (F.cross_entropy(gated(x[rows]), y[rows]) + budget.loss()).backward()
        adam.step()
        budget.step()

    dense_ms, gated_ms = in_turn([dense_step, gated_step], n_steps)
    ratio = gated_ms / dense_ms
    return {"batch": 100, "dense_ms": dense_ms, "gated_ms": gated_ms, "ratio": ratio}


@torch.inference_mode()
def latency(models: Mapping[str, nn.Module], data: Mnist) -> dict[str, dict[str, float]]:
    """Median milliseconds of an answer, for one image and for 1,000, models in turn."""
    found: dict[str, dict[str, float]] = {name: {} for name in models}
    for model in models.values():
        model.eval()
    for batch, n_times in ((1, 500), (1000, 15)):
        x = data.validation.x[:batch]
        calls = [lambda model=model, x=x: model(x) for model in models.values()]
        for name, middle in zip(models, in_turn(calls, n_times), strict=True):
            found[name][str(batch)] = middle
    return found


def weight_bytes(model: nn.Module) -> int:
    """Size of a safetensors file of a model's weights."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    return len(as_safetensors(state))


def in_turn(calls: list[Callable[[], object]], n_times: int) -> list[float]:
    """Median milliseconds of processor time for each call, after a tenth of them as warm-up."""
    spent: list[list[float]] = [[] for _ in calls]
    for _ in range(n_times + n_times // 10):
        for times, call in zip(spent, calls, strict=True):
            started = time.process_time_ns()
            call()
            times.append((time.process_time_ns() - started) / 1e6)
    return [statistics.median(times[n_times // 10 :]) for times in spent]
