"""Groups for the optimiser, averages of weights and gates, and whether gates get gradients."""

import copy
import io
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.testing import assert_close

from l0 import FeatureGate, HardConcrete, InvalidSetting, L0Linear, compute_l0_penalty
from l0.attention import L0MultiheadAttention
from l0.errors import IneffectivePenalty
from l0.gradients import check_gradients
from l0.training import WeightAverage, param_groups


class Network(nn.Module):
    """Gates in layers, in attention, on data and alone; a shared weight and a frozen one."""

    def __init__(self):
        super().__init__()
        self.features = FeatureGate(6, 3, seed=0)
        self.first = L0Linear(6, 4, seed=1)
        self.norm = nn.BatchNorm1d(4)
        self.attention = L0MultiheadAttention(4, 2, seed=2)
        self.last = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.last.weight
        self.alone = HardConcrete(4, seed=3)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x):
        hidden = self.norm(self.first(self.features(x)))
        attended, _ = self.attention(hidden, hidden, hidden, need_weights=False)
        return self.tied(self.last(attended * self.alone()))


def test_each_trained_parameter_is_in_one_group_and_gates_have_no_decay():
    model = Network()
    weights, gates = param_groups(model, lr=1e-3, gates_lr=0.1, weight_decay=1e-4)
    assert (weights["lr"], weights["weight_decay"]) == (1e-3, 1e-4)
    assert (gates["lr"], gates["weight_decay"]) == (0.1, 0.0)
    found = [id(parameter) for group in (weights, gates) for parameter in group["params"]]
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert len(found) == len(set(found))
    assert set(found) == trained
    logits = {id(p) for name, p in model.named_parameters() if name.endswith("log_alpha")}
    assert {id(parameter) for parameter in gates["params"]} == logits
    assert len(logits) == 4


def test_groups_without_parameters_are_left_out_and_one_rate_serves_both():
    assert [group["name"] for group in param_groups(nn.Linear(2, 2), lr=0.1)] == ["weights"]
    (gates,) = param_groups(HardConcrete(3), lr=0.1)
    assert (gates["name"], gates["lr"]) == ("gates", 0.1)


@pytest.mark.parametrize(
    "settings", [{"lr": -1.0}, {"lr": 0.1, "gates_lr": np.inf}, {"lr": 0.1, "weight_decay": -1.0}]
)
def test_rates_out_of_range_are_refused(settings):
    with pytest.raises(InvalidSetting, match="at least 0"):
        param_groups(nn.Linear(2, 2), **settings)
    with pytest.raises(InvalidSetting, match="nothing to train"):
        param_groups(nn.ReLU(), lr=0.1)


@pytest.mark.parametrize("optimiser", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adam])
def test_weight_decay_does_not_move_settled_gates(optimiser):
    """A share of infinity is infinite: in a group with weight decay they would become NaN."""
    model = Network()
    steps = optimiser(param_groups(model, lr=1e-3, weight_decay=0.1))
    model.alone.settle([True, False, True, False])
    for _ in range(3):
        steps.zero_grad()
        (model(torch.randn(8, 6)) ** 2).mean().add(compute_l0_penalty(model)).backward()
        steps.step()
    assert model.alone().tolist() == [1, 0, 1, 0]
    assert all(parameter.isfinite().all() for parameter in model.first.parameters())


def trajectory(model, average, n_steps):
    """Random values in place of training, and the sums that define the average."""
    generator = torch.Generator().manual_seed(0)
    history = []
    for _ in range(n_steps):
        with torch.no_grad():
            for value in (*model.parameters(), *model.buffers()):
                if value.is_floating_point() and value.ndim:
                    value.copy_(torch.randn(value.shape, generator=generator))
        model.norm.num_batches_tracked += 1
        average.update()
        history.append({name: value.clone() for name, value in model.state_dict().items()})
    return history


def test_the_average_is_the_weighted_sum_of_its_definition():
    model = Network()
    average = WeightAverage(model, decay=0.8)
    history = trajectory(model, average, 6)
    shares = 0.8 ** np.arange(6)[::-1]
    shares /= shares.sum()
    last = copy.deepcopy(model.state_dict())
    with average.applied() as applied:
        assert applied is model
        found = copy.deepcopy(model.state_dict())
    for name in ("first.weight", "norm.running_var", "alone.log_alpha", "attention.gate.log_alpha"):
        expected = sum(share * values[name] for share, values in zip(shares, history, strict=True))
        assert_close(found[name], expected, msg=name)
    assert found["norm.num_batches_tracked"] == 6
    for name, value in model.state_dict().items():
        assert torch.equal(value, last[name]), name


def test_settings_of_gates_are_not_averaged():
    gate = HardConcrete(2, temperature=1.0, group_size=torch.tensor([1.0, 2.0]))
    average = WeightAverage(gate, decay=0.9)
    average.update()
    gate.set_temperature(0.25)
    gate.group_size = torch.tensor([3.0, 4.0])
    average.update()
    with average.applied():
        assert gate.temperature == 0.25
        assert gate.n_parameters == 7


def test_settled_gates_stay_settled_in_the_average():
    gate = HardConcrete(4)
    average = WeightAverage(gate, decay=0.9)
    rows = [[1.0, 2.0, -torch.inf, torch.inf], [3.0, torch.inf, torch.inf, 5.0]]
    for row in rows:
        with torch.no_grad():
            gate.log_alpha.copy_(torch.tensor(row))
        average.update()
    with average.applied():
        assert_close(gate.log_alpha[0].item(), (0.9 * 1 + 3) / 1.9)
        assert gate.log_alpha[1:].tolist() == [torch.inf, torch.inf, 5.0]
    assert gate.log_alpha.tolist() == rows[1]


def test_low_precision_weights_are_averaged_in_single_precision():
    """Steps of 1/1000 of a value are lost in bfloat16, one by one."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    nn.init.constant_(model.weight, 1.0)
    average = WeightAverage(model, decay=0.999)
    for _ in range(5):
        average.update()
    nn.init.constant_(model.weight, 2.0)
    for _ in range(995):
        average.update()
    with average.applied():
        assert model.weight.dtype == torch.bfloat16
        assert_allclose(model.weight.item(), 1.99, atol=0.01)


def test_double_precision_weights_keep_their_digits():
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    average = WeightAverage(model, decay=0.5)
    for value in (1.0, 1.0 + 3e-12):
        nn.init.constant_(model.weight, value)
        average.update()
    with average.applied():
        assert_allclose(model.weight.item() - 1, 2e-12, rtol=1e-3)


def test_averages_go_on_after_a_file_without_pickled_classes():
    model = Network()
    average = WeightAverage(model, decay=0.7)
    trajectory(model, average, 3)
    file = io.BytesIO()
    torch.save(average.state_dict(), file)
    file.seek(0)
    other = WeightAverage(copy.deepcopy(model))
    other.load_state_dict(torch.load(file, weights_only=True))
    for one in (average, other):
        trajectory(one.model, one, 2)
    with average.applied(), other.applied():
        for name, value in model.state_dict().items():
            assert torch.equal(other.model.state_dict()[name], value), name
    with pytest.raises(InvalidSetting, match=r"differ in .*alone"):
        WeightAverage(nn.Linear(2, 2)).load_state_dict(average.state_dict())


def test_averages_are_given_back_after_an_error_and_not_mixed_up():
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, decay=0.5)
    with pytest.raises(InvalidSetting, match="no average yet"), average.applied():
        pass
    for value in (0.0, 3.0):
        nn.init.constant_(model.weight, value)
        average.update()
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    assert model.weight.item() == 3.0
    with average.applied():
        with pytest.raises(InvalidSetting, match="outside of"):
            average.update()
        with pytest.raises(InvalidSetting, match="already"), average.applied():
            pass
    assert model.weight.item() == 3.0
    with pytest.raises(InvalidSetting, match="decay"):
        WeightAverage(model, decay=1.0)


def checked(gate, optimiser, data_loss, penalty):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = check_gradients(gate, optimiser, data_loss=data_loss, penalty=penalty)
    assert all(entry.category is IneffectivePenalty for entry in caught)
    return records, [str(entry.message) for entry in caught]


def test_gates_with_gradients_are_counted_without_leaving_a_trace():
    gate = HardConcrete(1000, init_mean=0.5, seed=0)
    z = gate()
    loss, penalty = z.sum(), 1e-3 * gate.penalty()
    records, texts = checked(gate, torch.optim.Adam(gate.parameters()), loss, penalty)
    assert texts == []
    record = records[""]
    assert record.n_with_data_gradient == ((z > 0) & (z < 1)).sum()
    assert record.share_with_data_gradient == record.n_with_data_gradient / 1000
    assert record.n_with_penalty_gradient == 1000
    assert_allclose(record.largest_penalty_gradient, 1e-3 * 0.25, rtol=1e-3)
    assert record.epsilon == 1e-8
    assert gate.log_alpha.grad is None
    (loss + penalty).backward()


@pytest.mark.parametrize(
    ("optimiser", "warned"),
    [
        (lambda p: torch.optim.Adam(p), True),
        (lambda p: torch.optim.Adam(p, eps=1e-12), False),
        (lambda p: torch.optim.SGD(p, lr=0.1), False),
    ],
)
def test_a_price_below_the_epsilon_of_the_optimiser_is_reported(optimiser, warned):
    gate = HardConcrete(1000, init_mean=0.5, seed=0)
    loss, penalty = gate().sum(), 1e-8 * gate.penalty()
    records, texts = checked(gate, optimiser(gate.parameters()), loss, penalty)
    assert (records[""].n_with_penalty_gradient == 0) == warned
    assert len(texts) == warned
    assert all("Raise it" in text and "epsilon" in text for text in texts)


def test_settled_and_shut_gates_need_no_gradient():
    gate = HardConcrete(4)
    with torch.no_grad():
        gate.log_alpha.copy_(torch.tensor([torch.inf, -torch.inf, -20.0, 0.0]))
    steps = torch.optim.Adam(gate.parameters())
    records, texts = checked(gate, steps, gate.mean().sum(), 1e-6 * gate.penalty())
    assert texts == []
    assert (records[""].n_settled, records[""].n_with_penalty_gradient) == (2, 1)
    assert records[""].share_with_data_gradient == 1.0
    gate.settle([True] * 4)
    records, texts = checked(gate, steps, gate().sum(), gate.penalty())
    assert texts == []
    assert records[""].share_with_data_gradient == 1.0


@pytest.mark.parametrize(
    ("logits", "warned"),
    [([-15.0, -15.0], False), ([torch.inf, -15.0], False), ([15.0, -1.7], True)],
)
def test_the_open_gates_alone_have_to_feel_the_price(logits, warned):
    """A gate that is shut needs no push, and its push does not help the others."""
    gate = HardConcrete(2, dtype=torch.float64)
    with torch.no_grad():
        gate.log_alpha.copy_(torch.tensor(logits))
    steps = torch.optim.Adam(gate.parameters())
    records, texts = checked(gate, steps, gate.mean().sum(), 1e-4 * gate.penalty())
    assert len(texts) == warned
    assert (records[""].largest_penalty_gradient > 1e-8) == warned


def test_losses_and_optimisers_without_the_gates_are_reported():
    model = nn.ModuleDict({"one": HardConcrete(50, seed=0), "two": HardConcrete(50, seed=0)})
    steps = torch.optim.Adam(model["one"].parameters())
    loss = model["one"]().sum()
    _, texts = checked(model, steps, loss, model["two"].penalty())
    assert sorted(texts) == [
        "one: the penalty does not depend on these gates.",
        "two: the data's loss does not depend on these gates.",
        "two: the optimiser does not have these gates. Give it `param_groups(model)`.",
    ]
    model.requires_grad_(False)
    records, texts = checked(model, steps, loss, torch.zeros(()))
    assert texts == []
    assert set(records) == {"one", "two"}
    with pytest.raises(InvalidSetting, match="no gates"):
        check_gradients(nn.Linear(2, 2), steps, data_loss=loss, penalty=loss)
