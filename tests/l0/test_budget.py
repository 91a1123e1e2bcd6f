"""Budgets: what training is told, what the projection keeps, and wishes that cannot be met."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from l0.budget import Budget
from l0.conversion import convert
from l0.errors import InvalidCount, InvalidSetting
from l0.hard_concrete import HardConcrete
from l0.layers import L0Linear
from l0.sized_gates import sized_gates

from .gated_networks import HAND_BUILT, fresh, mlp, randomise

# What training is told


def train(model, budget, loss, n_steps, seed=0):
    """Adam on the loss and the budget; the expected shares after each step."""
    logits = {id(gate.log_alpha) for gate in sized_gates(model).gates}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in logits], "lr": 1e-2},
        {"params": [p for p in model.parameters() if id(p) in logits], "lr": 2e-2},
    ]
    optimizer = torch.optim.Adam(groups)
    torch.manual_seed(seed)
    shares = []
    for _ in range(n_steps):
        optimizer.zero_grad()
        (loss() + budget.loss()).backward()
        optimizer.step()
        budget.step()
        shares.append([*budget.expected().values()])
    return np.array(shares)


def classes():
    """A multi-layer perceptron and the cross entropy of four noisy clusters."""
    torch.manual_seed(1)
    model = convert(mlp(20, 40, 30, 4), {"*": "input"}, example_inputs=[torch.zeros(2, 20)])
    centres, target = torch.randn(4, 20), torch.randint(4, (512,))
    x = centres[target] + 0.8 * torch.randn(512, 20)
    return model, lambda: nn.functional.cross_entropy(model(x), target)


def regression():
    """One layer of 300 gated inputs, of which 10 matter, and a loss of another scale."""
    torch.manual_seed(1)
    model = L0Linear(300, 1, seed=0)
    x = torch.randn(400, 300)
    y = 5 * x[:, :10].sum(1)
    return model, lambda: ((model(x)[:, 0] - y) ** 2).mean()


@pytest.mark.parametrize(
    ("make", "wish"),
    [
        (classes, {"density": 0.3}),
        (classes, {"density": 0.5, "metric": "macs", "warmup_steps": 200, "schedule": "cubic"}),
        (classes, {"count": {"0": 8, "2": 12, "4": 10}}),
        (regression, {"count": 20}),
    ],
    ids=["params", "macs", "each set", "regression"],
)
def test_the_default_rate_reaches_the_budget_within_two_percent(make, wish):
    """The same settings, for losses and sizes of other scales; and without going far below."""
    model, loss = make()
    budget = Budget(model, **wish)
    shares = train(model, budget, loss, 600)
    target = np.array([*budget.targets().values()])
    assert np.abs(shares[-1] / target - 1).max() < 0.02
    assert (shares / target).min() > 0.9
    assert budget.project().exact


def test_the_loss_is_the_multiplier_times_what_is_above_the_limit():
    model = fresh("inputs")
    randomise(model, 0)
    budget = Budget(model, density=0.25)
    assert budget.loss().item() == 0
    budget.multipliers.fill_(3.0)

    loss = budget.loss()

    total = sum(parameter.numel() for parameter in model.module.parameters())
    excess = model.expected_size("params").item() - budget.asked.item()
    assert loss.item() == pytest.approx(3 * excess / total, rel=1e-5)


def test_gradients_of_the_loss_are_those_of_the_expected_size():
    model = fresh("residual")
    randomise(model, 0)
    budget = Budget(model, density=0.5, metric="macs")
    budget.multipliers.fill_(2.0)
    logits = [gate.log_alpha for gate in sized_gates(model).gates]
    total = sized_gates(model).size(torch.ones(model.prob_active().numel()), "macs")

    ours = torch.autograd.grad(budget.loss(), logits)
    wanted = torch.autograd.grad(2 * model.expected_size("macs") / total, logits)

    torch.testing.assert_close(ours, wanted)


def test_a_multiplier_rises_above_the_limit():
    gate = HardConcrete(10, init_mean=0.9)
    budget = Budget(gate, count=5)
    for _ in range(3):
        budget.loss()
        budget.step()
    # Three steps of dual_lr times log(9 / 5).
    assert budget.multipliers.item() == pytest.approx(3 * 0.02 * np.log(9 / 5), rel=1e-5)


def test_a_multiplier_restarts_as_soon_as_its_limit_is_met():
    budget = Budget(HardConcrete(10, init_mean=0.49), count=5)
    budget.multipliers.fill_(5.0)
    budget.step()
    assert budget.multipliers.item() == 0


def test_without_restart_a_multiplier_falls_step_by_step_and_not_below_zero():
    gate = HardConcrete(10, init_mean=0.4)
    budget = Budget(gate, count=5, restart=False)
    budget.multipliers.fill_(2.0)
    budget.step()
    after_one = budget.multipliers.item()
    for _ in range(2000):
        budget.step()
    assert 0 < after_one < 2
    assert budget.multipliers.item() == 0


def test_each_limit_has_a_multiplier_of_its_own():
    model = HAND_BUILT["linear"]()
    budget = Budget(model, count={"0": 2, "2": 4})
    budget.loss()
    budget.step()
    assert (budget.multipliers > 0).tolist() == [True, False]


@pytest.mark.parametrize(
    ("schedule", "halfway"), [("linear", 0.6), ("cubic", 0.3), ("cosine", 0.6)]
)
def test_the_limit_goes_from_dense_to_the_budget(schedule, halfway):
    budget = Budget(HardConcrete(10), count=2, warmup_steps=4, schedule=schedule)
    seen = []
    for _ in range(6):
        seen.append(budget.targets()["model"])
        budget.step()
    assert seen[0] == 1
    assert seen[2] == pytest.approx(halfway)
    assert seen[4:] == pytest.approx([0.2, 0.2])


def test_a_loaded_state_continues_the_run():
    torch.manual_seed(0)
    model = HAND_BUILT["linear"]()
    budget = Budget(model, density=0.5, warmup_steps=6)
    for _ in range(4):
        budget.step()
    resumed = Budget(model, density=0.6)
    resumed.loss()

    resumed.load_state_dict(budget.state_dict())

    for _ in range(4):
        budget.step()
        resumed.step()
    assert resumed.targets() == budget.targets()
    assert budget.multipliers.item() > 0
    assert torch.equal(resumed.multipliers, budget.multipliers)


def test_the_model_is_no_part_of_the_budget():
    budget = Budget(HAND_BUILT["linear"](), density=0.5)
    assert not list(budget.parameters())
    assert list(budget.children()) == []
    assert not any("log_alpha" in name for name in budget.state_dict())


# The end


def test_the_gates_with_the_highest_logits_stay():
    gate = HardConcrete(6)
    logits = torch.tensor([5.0, -3.0, 30.0, 20.0, 0.0, -8.0])
    gate.log_alpha.data.copy_(logits)
    Budget(gate, count=3).project()
    assert gate().tolist() == [1, 0, 1, 1, 0, 0]


def test_sets_of_other_temperatures_are_compared_by_their_chance_to_be_open():
    """A logit of -0.2 is open more often at temperature 1 than one of -0.1 at 0.1."""
    warm, cold = HardConcrete(1, temperature=1.0), HardConcrete(1, temperature=0.1)
    warm.log_alpha.data.fill_(-0.2)
    cold.log_alpha.data.fill_(-0.1)
    assert warm.prob_active() > cold.prob_active()
    Budget(nn.ModuleList([cold, warm]), count=1, min_open=0).project()
    assert (cold().item(), warm().item()) == (0, 1)


def test_ties_are_settled_the_same_way_each_time():
    masks = []
    for _ in range(2):
        gate = HardConcrete(100)
        Budget(gate, count=50).project()
        masks.append(gate())
    assert torch.equal(*masks)
    # Not the first half of the data: a mean position near the middle.
    assert 40 < torch.nonzero(masks[0]).double().mean() < 59


def test_survivors_can_be_trained_and_gates_stay_as_they_are():
    model, loss = classes()
    budget = Budget(model, count=30)
    train(model, budget, loss, 30)
    budget.project()
    gates = [gate.log_alpha.clone() for gate in sized_gates(model).gates]
    weight = model.module[0].weight.clone()
    state = copy.deepcopy(budget.state_dict())
    model.train()
    first = loss().item()
    assert budget.loss().item() == 0

    train(model, budget, loss, 30)

    assert loss().item() < first
    assert not torch.equal(weight, model.module[0].weight)
    for gate, before in zip(sized_gates(model).gates, gates, strict=True):
        assert torch.equal(gate.log_alpha, before)
    assert all(torch.equal(value, state[name]) for name, value in budget.state_dict().items())


def test_the_values_of_open_gates_go_into_the_weights():
    """Where the projection changes no gate's state, it changes no output."""
    model = fresh("channels")
    randomise(model, 5)
    model.eval()
    x = torch.randn(3, 1, 6, 6)
    wanted = model(x)
    n_open = [int(gate.median().count_nonzero()) for gate in sized_gates(model).gates]
    assert min(n_open) > 0
    names = sized_gates(model).names

    projection = Budget(model, count=dict(zip(names, n_open, strict=True))).project()

    assert projection.exact
    torch.testing.assert_close(model(x), wanted)


def test_settled_gates_stay_as_they_are():
    first, second = HardConcrete(4), HardConcrete(4)
    first.settle([False, True, False, True])
    pair = nn.ModuleList([first, second])
    with pytest.raises(InvalidCount, match=r"between 3, what .* and 6"):
        Budget(pair, count=2)
    # No more than 6 of the 8 gates can be open.
    projection = Budget(pair, count=7).project()
    assert first().tolist() == [0, 1, 0, 1]
    assert projection.kept == {"0": (2, 4), "1": (4, 4)}
    assert (projection.reached, projection.exact, projection.proven) == (6, False, True)


def test_sets_without_a_limit_end_as_evaluation_has_them():
    model = HAND_BUILT["linear"]()
    randomise(model, 2)
    wanted = int(model[2].gate.median().count_nonzero())
    projection = Budget(model, count={"0": 2}).project()
    assert projection.kept == {"0": (2, 6), "2": (wanted, 4)}


def test_a_limit_for_a_set_counts_what_its_gates_switch():
    model = HAND_BUILT["linear"]()
    randomise(model, 2)
    # A column of the first layer has 5 parameters, a row of the second 5 and a bias.
    projection = Budget(model, params={"0": 17, "2": 18}).project()
    assert projection.kept == {"0": (3, 6), "2": (3, 4)}
    assert {name: end.reached for name, end in projection.outcomes.items()} == {"0": 15, "2": 18}
    assert (projection.asked, projection.reached, projection.exact) == (35, 33, False)
    assert projection.proven


def test_a_set_may_be_emptied_on_request():
    low, high = HardConcrete(3), HardConcrete(3)
    low.log_alpha.data.fill_(-5.0)
    pair = nn.ModuleList([low, high])
    assert Budget(copy.deepcopy(pair), count=3).project().kept == {"0": (1, 3), "1": (2, 3)}
    assert Budget(pair, count=3, min_open=0).project().kept == {"0": (0, 3), "1": (3, 3)}


def test_converted_and_hand_built_parts_count_together():
    model = nn.Sequential(fresh("inputs"), L0Linear(2, 3), nn.Linear(3, 1))
    row = sized_gates(model)
    assert row.names == ("0.0", "0.2", "0.4", "1")
    n_parameters = sum(p.numel() for p in model.parameters()) - sum(
        gate.log_alpha.numel() for gate in row.gates
    )
    everything = torch.ones(sum(gate.log_alpha.numel() for gate in row.gates))
    assert row.size(everything, "params").item() == pytest.approx(n_parameters)
    projection = Budget(model, params=60).project()
    assert projection.exact
    n_open = [n_open for n_open, _ in projection.kept.values()]
    assert [int(gate.median().count_nonzero()) for gate in row.gates] == n_open
    assert sum(n_open) < everything.numel()


# Wishes that cannot be met


@pytest.mark.parametrize(
    ("wish", "error", "text"),
    [
        ({}, InvalidSetting, "no limit given"),
        ({"density": 0.5, "count": 3}, InvalidSetting, "density and count given"),
        ({"density": 0.0}, InvalidSetting, "above 0 and at most 1"),
        ({"density": 1.1}, InvalidSetting, "above 0 and at most 1"),
        ({"density": float("nan")}, InvalidSetting, "give a number"),
        ({"count": 2.5}, InvalidSetting, "whole number"),
        ({"count": 0}, InvalidSetting, "whole number above 0"),
        ({"count": 11}, InvalidCount, "between 2, what .* and 10"),
        ({"count": 1}, InvalidCount, "between 2, what .* and 10"),
        ({"params": 25}, InvalidCount, "a limit of 25 params .* is not between 26"),
        ({"density": 0.01}, InvalidCount, "is not between 26"),
        ({"macs": 10}, InvalidSetting, "converted networks only"),
        ({"count": 3, "metric": "params"}, InvalidSetting, "Leave `metric` to `density`"),
        ({"density": 0.5, "metric": "size"}, InvalidSetting, "no metric is named"),
        ({"count": {}}, InvalidSetting, "mapping of limits is empty"),
        ({"count": {"fc*": 3}}, InvalidSetting, "'fc\\*' names none .* 0, 2"),
        ({"count": {"0": 3, "*": 2}}, InvalidSetting, "'0' and '\\*' both name '0'"),
        ({"count": {"0": 7}}, InvalidCount, "between 1, what .* and 6"),
        ({"count": 3, "dual_lr": 0.0}, InvalidSetting, "`dual_lr` is 0.0"),
        ({"count": 3, "warmup_steps": -1}, InvalidSetting, "`warmup_steps` is -1"),
        ({"count": 3, "min_open": 0.5}, InvalidSetting, "`min_open` is 0.5"),
        ({"count": 3, "schedule": "slow"}, InvalidSetting, "no schedule is named"),
    ],
)
def test_an_impossible_wish_is_an_error_with_the_way_out(wish, error, text):
    with pytest.raises(error, match=text):
        Budget(HAND_BUILT["linear"](), **wish)


def test_a_model_without_gates_is_an_error():
    with pytest.raises(InvalidSetting, match="the model has no gates"):
        Budget(nn.Linear(3, 2), density=0.5)
