"""Schedules from end to end, and the walk that reaches every gate."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from l0 import HardConcrete, InvalidSetting, L0Linear, TemperatureScheduler, update_temperatures
from l0.schedule import SCHEDULES, Schedule


@given(
    st.sampled_from(sorted(SCHEDULES)), st.floats(0.01, 10), st.floats(0.01, 10), st.integers(1, 99)
)
def test_schedules_go_from_start_to_end_without_turning(schedule, start, end, epochs):
    scheduler = TemperatureScheduler(start, end, epochs, schedule=schedule)
    path = [scheduler.get_temperature(epoch) for epoch in range(epochs + 2)]
    assert_allclose([path[0], path[-2], path[-1]], [start, end, end])
    steps = [(after - before) * (end - start) for before, after in pairwise(path)]
    assert min(steps) >= -1e-12


@pytest.mark.parametrize(
    ("schedule", "halfway"),
    [("exponential", 0.1), ("linear", 0.505), ("cosine", 0.505), (lambda *given: sum(given), 1.51)],
)
def test_each_schedule_has_its_own_middle(schedule, halfway):
    scheduler = TemperatureScheduler(1.0, 0.01, anneal_epochs=10, schedule=schedule)
    assert_allclose(scheduler.get_temperature(5), halfway)


def test_every_gate_is_reached_wherever_it_is():
    model = torch.nn.Sequential(L0Linear(3, 2), torch.nn.ModuleList([HardConcrete(2)]))
    assert update_temperatures(model, 0.2) == 2
    found = [module.temperature for module in model.modules() if isinstance(module, HardConcrete)]
    assert_allclose(found, 0.2)
    assert update_temperatures(HardConcrete(3), 0.2) == 1
    assert update_temperatures(torch.nn.Linear(3, 2), 0.2) == 0


@pytest.mark.parametrize(
    ("shape", "halfway"),
    [("linear", 5.0), ("cosine", 5.0), ("cubic", 8.75), (lambda *given: given[2] ** 2, 0.25)],
)
def test_prices_and_budgets_may_start_from_zero(shape, halfway):
    warm_up = Schedule(0.0, 10.0, length=8, shape=shape)
    assert_allclose([warm_up.at(step) for step in (4, 8, 9.5, 1e9)], [halfway, 10, 10, 10])
    assert Schedule(10.0, 0.0, length=8, shape="cubic").at(4) == 1.25
    assert Schedule(1.0, 2.0, length=0).at(0) == 2


@pytest.mark.parametrize(
    ("settings", "way_out"),
    [
        ({"shape": "exponential"}, "start near zero"),
        ({"start": -1.0, "shape": "exponential"}, "start near zero"),
        ({"shape": "square"}, "Take one of exponential, linear, cosine, cubic"),
        ({"length": -1}, "0 or more"),
        ({"end": math.inf}, "finite"),
        ({"start": math.nan}, "finite"),
    ],
)
def test_schedules_that_do_not_exist_are_refused(settings, way_out):
    with pytest.raises(InvalidSetting, match=way_out):
        Schedule(**{"start": 0.0, "end": 1.0, "length": 5, **settings})
    with pytest.raises(InvalidSetting, match="first step"):
        Schedule(0.0, 1.0, 5).at(-1)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: TemperatureScheduler(-1.0, 0.1, 10),
        lambda: TemperatureScheduler(1.0, 0.0, 10),
        lambda: TemperatureScheduler(1.0, 0.1, 0),
        lambda: TemperatureScheduler(1.0, 0.1),
        lambda: TemperatureScheduler(1.0, 0.1, 10, anneal_epochs=10),
        lambda: TemperatureScheduler(1.0, 0.1, 10, schedule="quadratic"),
        lambda: TemperatureScheduler(1.0, 0.1, 10).get_temperature(-1),
        lambda: update_temperatures(HardConcrete(3), -1.0),
    ],
)
def test_settings_out_of_range_are_refused(attempt):
    with pytest.raises(InvalidSetting, match=r"positive|once|Take one of|first epoch"):
        attempt()
