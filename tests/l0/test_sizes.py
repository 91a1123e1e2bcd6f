"""Sizes of gated networks, against counting what is left, and against enumeration."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from l0.conversion import convert

GATES = {"0": "output", "2": "output", "4": "input"}


def _model(widths=(3, 4, 3, 4, 2), gates=GATES):
    first, second, third, fourth, last = widths
    network = nn.Sequential(
        nn.Linear(first, second),
        nn.ReLU(),
        nn.Linear(second, third),
        nn.ReLU(),
        nn.Linear(third, fourth),
        nn.ReLU(),
        nn.Linear(fourth, last),
    )
    return convert(network, gates, example_inputs=[torch.zeros(2, first)])


def _count_by_hand(widths, mask):
    """Parameters and multiplications of the MLP with gates as in GATES that is left."""
    first, second, third, fourth, last = widths
    one = int(mask[:second].sum())
    units, columns = mask[second : second + third], mask[second + third :]
    # A unit of the second layer is alive if its gate and its only reading column are open.
    two = int((units & columns).sum())
    matrices = (first * one, one * two, two * fourth, fourth * last)
    return sum(matrices) + one + two + fourth + last, sum(matrices)


@given(st.lists(st.booleans(), min_size=10, max_size=10))
def test_what_is_left_is_what_counting_finds(bits):
    widths = (3, 4, 3, 4, 2)
    model, mask = _model(widths), np.array(bits)
    chances = torch.tensor(bits, dtype=torch.float64)
    params, macs = _count_by_hand(widths, mask)

    assert model.sizes(chances, "params").item() == pytest.approx(params, abs=1e-6)
    assert model.sizes(chances, "macs").item() == pytest.approx(macs, abs=1e-6)
    assert model.sizes(chances, "count").item() == mask.sum()


@pytest.mark.parametrize("metric", ["params", "macs"])
def test_the_expected_size_is_the_mean_over_all_outcomes(metric):
    model = _model()
    chances = torch.linspace(0.1, 0.9, 10, dtype=torch.float64)
    mean = 0.0
    for bits in itertools.product([0.0, 1.0], repeat=10):
        outcome = torch.tensor(bits, dtype=torch.float64)
        weight = (outcome * chances + (1 - outcome) * (1 - chances)).prod()
        mean += (weight * model.sizes(outcome, metric)).item()

    assert model.sizes(chances, metric).item() == pytest.approx(mean, rel=1e-9)


def test_rows_and_columns_of_one_unit_count_once():
    """The state of a recurrent network: its weight has the same units on both axes."""

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.state, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.state(x)[0])

    model = convert(Recurrent(), {"state": "output"}, example_inputs=[torch.zeros(2, 5, 3)])
    chances = torch.tensor([0.2, 0.5, 0.7, 0.9], dtype=torch.float64)
    mean = 0.0
    for bits in itertools.product([0, 1], repeat=4):
        outcome = np.array(bits)
        weight = np.prod(np.where(outcome, chances.numpy(), 1 - chances.numpy()))
        left = int(outcome.sum())
        mean += weight * (3 * left * (3 + left + 2) + 2 * left + 2)

    assert model.sizes(chances, "params").item() == pytest.approx(mean, rel=1e-9)


def test_entries_with_gates_of_their_own_count_where_row_and_column_are_left():
    model = _model(gates={"0": "output", "2": "weight"})
    mask = torch.zeros(4 + 12)
    mask[[0, 2]] = 1  # two units of the first layer
    mask[4 + torch.tensor([0, 1, 4, 6])] = 1  # entries (0, 0), (0, 1), (1, 0), (1, 2)
    left = 2 * 3 + 2 + 3 + (3 + 1) * 4 + (4 + 1) * 2

    assert model.sizes(mask, "params").item() == left + 3


def test_a_unit_that_two_layers_read_lives_while_one_column_is_open():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.left, self.right = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            x = torch.relu(self.stem(x))
            return self.left(x) + self.right(x)

    gates = {"left": "input", "right": "input"}
    model = convert(Fork(), gates, example_inputs=[torch.zeros(2, 3)])
    mask = torch.tensor([1, 1, 0, 0, 1, 0, 0, 0.0])
    left = 2 * (3 + 1) + 2 * 2 + 2 + 1 * 2 + 2
    assert model.sizes(mask, "params").item() == pytest.approx(left, abs=1e-6)


def test_what_a_gate_switches_is_what_goes_with_it():
    model = _model()
    everything = torch.ones(10)
    whole = model.sizes(everything, "params").item()
    for place, size in enumerate(model.sizes.gate_sizes("params").tolist()):
        without = everything.clone()
        without[place] = 0
        assert whole - model.sizes(without, "params").item() == pytest.approx(size, abs=1e-6)
    assert model.gates["0"].group_size.tolist() == [3 + 1 + 3] * 4


def test_the_size_has_a_gradient_for_each_gate():
    model = _model()
    model.expected_size("macs").backward()
    assert all((gate.log_alpha.grad > 0).all() for _, gate in model.named_gates())
