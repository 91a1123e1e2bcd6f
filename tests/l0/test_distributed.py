"""Two processes that train together draw the same gates and stay equal."""

import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="needs PyTorch with gloo",
)

WORKER = """
import os, sys, torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from l0 import Budget, HardConcrete, L0Conv2d, L0Linear, compute_l0_penalty, convert
from l0.training import WeightAverage, param_groups

rank, meeting_place = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{meeting_place}", rank=rank, world_size=2)
torch.manual_seed(100 + rank)  # Data and the global generator differ between the processes.


def same_on_both(tensor):
    both = [torch.empty_like(tensor) for _ in range(2)]
    dist.all_gather(both, tensor)
    return torch.equal(*both)


def train(seeds):
    model = nn.Sequential(
        L0Conv2d(1, 4, 3, gate="channel", init_mean=0.6, seed=seeds[0]),
        nn.ReLU(),
        nn.Flatten(),
        L0Linear(36, 2, gate="input", init_mean=0.6, seed=seeds[1]),
    )
    parallel = DistributedDataParallel(model)
    optimiser = torch.optim.Adam(param_groups(model, lr=1e-2, gates_lr=0.1, weight_decay=1e-4))
    average = WeightAverage(model, decay=0.9)
    drawn = []
    for module in model.modules():
        if isinstance(module, HardConcrete):
            module.register_forward_hook(lambda _, __, z: drawn.append(z.detach().clone()))
    for step in range(5):
        optimiser.zero_grad()
        loss = (parallel(torch.randn(8, 1, 5, 5)) ** 2).mean() + 1e-3 * compute_l0_penalty(model)
        loss.backward()
        optimiser.step()
        average.update()
        if step == 2:
            model[0].gate.settle(model[0].gate.median() > 0)
    with average.applied():
        tensors = [p.detach().clone() for p in model.parameters()]
    equal = all(same_on_both(p.detach()) for p in [*model.parameters(), *tensors])
    same_gates = [same_on_both(z) for z in drawn if not ((z == 0) | (z == 1)).all()]
    assert len(same_gates) == 8
    return equal, all(same_gates), any(same_gates)


def train_converted():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    model = convert(network, {"0": "output"}, example_inputs=[torch.zeros(2, 6)])
    budget = Budget(model, count=3)
    torch.manual_seed(100 + rank)
    parallel = DistributedDataParallel(model)
    optimiser = torch.optim.Adam(param_groups(model, lr=1e-2, gates_lr=0.1))
    for _ in range(5):
        optimiser.zero_grad()
        (parallel(torch.randn(8, 6)).square().mean() + budget.loss()).backward()
        optimiser.step()
        budget.step()
    drawn = model.gates["0"]()
    assert budget.project().exact
    settled = [model.open_mask().float(), *(p.detach() for p in model.parameters())]
    return all(map(same_on_both, settled)), same_on_both(drawn.detach())


print(*train([1, 2]), *train([None, None]), *train_converted(), flush=True)
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # PyTorch's threads now and then abort a process that ends in the usual way.
"""


def test_processes_with_a_seed_draw_the_same_gates_and_keep_equal_parameters(tmp_path):
    """Without a seed, each process draws gates of its own; parameters are equal either way."""
    # They meet at a file and not at a port, which another program could take in between.
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        results = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (output, errors) in zip(processes, results, strict=True):
        assert process.returncode == 0, errors
        assert output.split() == ["True"] * 4 + ["False"] * 2 + ["True"] * 2
