"""Watching a training, and the hooks of training loops of others."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from l0.budget import Budget
from l0.callback import TrainerHooks
from l0.conversion import convert
from l0.errors import InvalidSetting
from l0.layers import L0Linear
from l0.reports.progress import Progress
from l0.schedule import Schedule
from l0.training import WeightAverage, param_groups

BATCHES = [torch.full((4, 6), value) for value in (0.5, 1.0, -1.0)]


def network():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    return convert(plain, {"0": "output"}, example_inputs=[BATCHES[0]])


def train(model, progress, lr=0.5):
    """Train with a penalty; losses, and expected and hard sizes after each step."""
    optimizer = torch.optim.SGD(model.parameters(), lr)
    seen = []
    for x in progress:
        optimizer.zero_grad()
        loss = model(x).square().mean() + model.expected_size() / 3
        loss.backward()
        optimizer.step()
        progress.update(loss)
        seen.append((loss.item(), model.expected_size().item(), model.hard_size()))
    return np.array(seen)


def test_each_step_is_recorded_with_loss_and_densities():
    model = network()
    progress = Progress(BATCHES, model, epochs=8, seconds=0)
    seen = train(model, progress)
    moments = progress.history.moments

    assert [moment.step for moment in moments] == list(range(1, 25))
    assert [moment.epoch for moment in moments] == sorted(list(range(8)) * 3)
    shown = np.array([(moment.loss, moment.expected, moment.hard) for moment in moments])
    np.testing.assert_allclose(shown, seen / [1, 74, 74], rtol=1e-6)
    assert shown[-1, 2] < shown[0, 2] == 1


def test_between_two_looks_losses_are_averaged():
    model = network()
    progress = Progress(BATCHES, model, epochs=2, seconds=math.inf)
    losses = train(model, progress)[:, 0]
    moments = progress.history.moments

    # The first step, and the end of each epoch.
    assert [moment.step for moment in moments] == [1, 3, 6]
    expected = [losses[0], losses[1:3].mean(), losses[3:].mean()]
    np.testing.assert_allclose([moment.loss for moment in moments], expected, rtol=1e-6)


def test_the_bar_is_shown_if_it_is_wanted(capsys):
    train(network(), Progress(BATCHES, network(), epochs=2, show=True))
    shown = capsys.readouterr().err
    assert "epoch 2 of 2" in shown
    assert "6/6" in shown
    assert "100.0% hard" in shown

    # There is no terminal here.
    train(network(), Progress(BATCHES, network(), epochs=2))
    assert capsys.readouterr().err == ""


def test_batches_without_a_length_can_be_watched():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(BATCHES)

    model = network()
    progress = Progress(DataLoader(Stream(), batch_size=None), model, epochs=2)
    train(model, progress)

    assert progress.step == 6


def test_a_training_that_is_broken_off_keeps_its_record():
    model = network()
    progress = Progress(BATCHES, model, epochs=5, seconds=0)
    for _ in progress:
        progress.update(1.0)
        if progress.step == 4:
            break

    assert [(moment.epoch, moment.step) for moment in progress.history.moments][-1] == (1, 4)


def test_layers_that_were_made_with_gates_can_be_watched():
    model = L0Linear(6, 2, init_mean=0.75)
    progress = Progress(BATCHES, model, metric="count", goal=0.5)
    progress.update(2.0)
    (moment,) = progress.history.moments

    assert moment.expected == pytest.approx(0.75)
    assert (moment.hard, moment.loss, progress.history.goal) == (1.0, 2.0, 0.5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "at least one"),
        ({"seconds": -1.0}, "no time is below 0"),
        ({"metric": "flops"}, "params, macs, count"),
        ({"batches": iter(BATCHES), "epochs": 2}, "only once"),
        ({"model": nn.Linear(2, 2)}, "no gates"),
        ({"model": L0Linear(2, 2), "metric": "macs"}, "converted networks"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(settings, words):
    with pytest.raises(InvalidSetting, match=words):
        Progress(**{"batches": BATCHES, "model": network(), **settings})


def test_the_record_becomes_a_table_and_a_figure():
    model = network()
    progress = Progress(BATCHES, model, epochs=2, goal=0.3, seconds=0)
    seen = train(model, progress)
    lines = progress.history.plot().data
    drawn = np.array([line.y for line in lines]).T

    np.testing.assert_allclose(progress.history.to_frame()["loss"], seen[:, 0], rtol=1e-6)
    assert list(lines[0].x) == list(range(1, 7))
    np.testing.assert_allclose(drawn, seen / [1, 74, 74], rtol=1e-6)


class LightningLike:
    """Calls the hooks of callbacks with the arguments that Lightning documents."""

    def __init__(self, callback, accumulate):
        self.callback, self.accumulate, self.global_step = callback, accumulate, 0

    def fit(self, model, budget):
        optimizer = torch.optim.Adam(param_groups(model, 1e-2, 0.2))
        self.callback.on_train_start(self, model)
        for number, x in enumerate(BATCHES * 20):
            loss = model(x).square().mean() + budget.loss()
            loss.backward()
            if (number + 1) % self.accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
                self.global_step += 1
            self.callback.on_train_batch_end(self, model, {"loss": loss}, x, number)
        self.callback.on_train_end(self, model)


class HuggingFaceLike:
    """Calls the hooks of callbacks with the arguments that Transformers documents."""

    def __init__(self, callback, _):
        self.callback = callback
        self.global_step = 0

    def fit(self, model, budget):
        optimizer = torch.optim.Adam(param_groups(model, 1e-2, 0.2))
        args, control = object(), object()
        self.callback.on_train_begin(args, self, control, model=model, optimizer=optimizer)
        for x in BATCHES * 20:
            optimizer.zero_grad()
            (model(x).square().mean() + budget.loss()).backward()
            optimizer.step()
            self.global_step += 1
            self.callback.on_step_end(args, self, control, model=model, optimizer=optimizer)
        self.callback.on_train_end(args, self, control, model=model, optimizer=optimizer)


class Callback:
    """Base classes of callbacks have every hook, and each does nothing."""

    def on_train_start(self, trainer, pl_module): ...
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx): ...
    def on_train_begin(self, args, state, control, **kwargs): ...
    def on_step_end(self, args, state, control, **kwargs): ...
    def on_train_end(self, *args, **kwargs): ...


class Sparsify(TrainerHooks, Callback):
    pass


@pytest.mark.parametrize(
    ("trainer", "accumulate", "n_steps"),
    [(LightningLike, 1, 60), (LightningLike, 3, 20), (HuggingFaceLike, 1, 60)],
)
def test_hooks_step_with_the_optimizer_and_end_with_the_budget(trainer, accumulate, n_steps):
    model = network()
    budget = Budget(model, count=3)
    cooling = Schedule(0.66, 0.2, length=n_steps)
    trainer(Sparsify(model, budget, temperature=cooling), accumulate).fit(model, budget)

    assert int(budget.n_steps) == n_steps
    assert model.gates["0"].temperature.item() == pytest.approx(0.2)
    assert model.hard_size("count") == 3
    assert model.gates["0"].settled


def test_hooks_leave_the_averages_in_the_model():
    model = network()
    budget, average = Budget(model, count=8), WeightAverage(model, decay=0.9)
    hooks = Sparsify(model, budget, average=average)
    trainer = HuggingFaceLike(hooks, 1)
    values = []
    own_update = average.update
    average.update = lambda: (own_update(), values.append(model.module[2].bias.detach().clone()))
    trainer.fit(model, budget)

    factors = 0.9 ** np.arange(len(values))[::-1]
    mean = np.average(torch.stack(values).numpy(), axis=0, weights=factors)
    np.testing.assert_allclose(model.module[2].bias.detach(), mean, rtol=1e-4)
    assert not np.allclose(values[-1], mean, rtol=1e-3)


def test_without_average_or_schedule_both_stay_as_they_are():
    model = network()
    before = copy.deepcopy(model.gates["0"].temperature)
    hooks = Sparsify(model, Budget(model, count=8))
    trainer = HuggingFaceLike(hooks, 1)
    trainer.fit(model, hooks.budget)

    assert model.gates["0"].temperature == before
