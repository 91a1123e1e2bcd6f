"""Reports and comparisons, against counting, drawing and what materializing leaves."""

import copy
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from l0.conversion import convert
from l0.errors import InvalidSetting, MissingPackage
from l0.hard_concrete import HardConcrete
from l0.layers import L0Linear
from l0.reports.comparison import compare
from l0.reports.reporting import report
from l0.shrinking.materialization import materialize


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.fc = nn.Conv2d(6, 8, 3), nn.Linear(8 * 16, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv1(x)))
        return self.fc(nn.functional.silu(self.conv2(x)).flatten(1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(8, 4, 12, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.block(x))


IMAGES, WORDS = torch.linspace(-1, 1, 2 * 36).view(2, 1, 6, 6), torch.linspace(-1, 1, 80)
CASES = {
    "convolutions": (Convolutions, {"conv*": "channel"}, IMAGES),
    "single weights": (Convolutions, {"conv2": "weight", "fc": "weight"}, IMAGES),
    "attention": (
        Attention,
        {"block.self_attn": "head", "block.linear1": "output"},
        WORDS.view(2, 5, 8),
    ),
}


def gated(name="convolutions", seed=0):
    """A network whose gates are open with all sorts of chances."""
    torch.manual_seed(seed)
    make, gates, example = CASES[name]
    model = convert(make(), gates, example_inputs=[example])
    with torch.no_grad():
        for _, gate in model.named_gates():
            gate.log_alpha.copy_(3 * torch.randn_like(gate.log_alpha))
    return model, example


@pytest.mark.parametrize("name", CASES)
def test_layers_sum_up_to_the_size_of_the_network(name):
    model, _ = gated(name)
    seen = report(model)

    for metric in ("params", "macs", "count"):
        total = getattr(seen, metric)
        parts = [
            getattr(part, metric) for part in (seen.gates if metric == "count" else seen.layers)
        ]
        assert total.hard == model.hard_size(metric) == sum(part.hard for part in parts)
        assert total.expected == pytest.approx(model.expected_size(metric).item(), rel=1e-6)
        assert total.expected == pytest.approx(sum(part.expected for part in parts), rel=1e-9)
        assert 0 < total.hard < total.dense
    assert seen.params.dense == sum(one.numel() for one in model.module.parameters())


def test_each_layer_has_the_parameters_that_materializing_leaves():
    model, example = gated()
    small = materialize(model, [example])
    left = {
        name: sum(one.numel() for one in part.parameters(recurse=False))
        for name, part in small.named_modules()
    }

    layers = report(model).layers

    assert [layer.layer for layer in layers] == ["conv1", "norm", "conv2", "fc"]
    for layer in layers:
        assert layer.params.hard == left[layer.layer] < layer.params.dense


def test_a_set_of_gates_is_counted_by_its_chances():
    model, _ = gated()
    chances = model.gates["conv2"].prob_active().detach().numpy()

    first, second = report(model).gates

    assert (first.layer, second.layer, second.kind) == ("conv1", "conv2", "channel")
    assert second.count.hard == (chances > 0.5).sum()
    assert second.count.expected == pytest.approx(chances.sum())
    assert second.histogram == tuple(np.histogram(chances, 10, (0, 1))[0])
    assert sum(second.histogram) == second.count.dense == 8
    assert not second.settled


def test_soft_is_the_share_of_draws_that_are_neither_0_nor_1():
    gate = HardConcrete(50, init_mean=np.linspace(0.05, 0.95, 50), temperature=0.4, seed=3)
    draws = gate((4_000,))
    simulated = ((draws > 0) & (draws < 1)).double().mean().item()

    assert report(gate).gates[0].soft == pytest.approx(simulated, abs=0.005)


def test_the_gradient_of_the_data_reaches_the_gates_whose_draw_is_neither_0_nor_1():
    model, example = gated()
    assert [gates.with_gradient for gates in report(model).gates] == [None, None]
    drawn = copy.deepcopy(model)._draw()["conv2"]

    model(example).square().sum().backward()

    share = ((drawn > 0) & (drawn < 1)).double().mean().item()
    assert 0 < share < 1
    assert report(model).gates[1].with_gradient == share


def test_a_penalty_reaches_every_gate():
    model, _ = gated()
    model.expected_size("params").backward()

    assert [gates.with_gradient for gates in report(model).gates] == [1.0, 1.0]


def test_settled_gates_are_called_so():
    model, _ = gated()
    model.settle(model.open_mask())
    first, second = report(model).gates

    assert first.settled
    assert second.settled
    assert second.count.expected == second.count.hard
    assert "channel, settled" in repr(report(model))


def test_a_report_changes_nothing_and_comes_out_the_same_again():
    model, _ = gated()
    before = copy.deepcopy(model.state_dict())
    once, again = report(model), report(model)

    assert repr(once) == repr(again)
    assert once == again
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert model.training


def test_a_converted_network_inside_of_another_has_the_name_of_its_place():
    class Task(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.net = L0Linear(3, 4, init_mean=0.9), gated()[0]
            self.extra = HardConcrete(7)

    task = Task()
    seen, inner = report(task), report(task.net)

    assert [gates.layer for gates in seen.gates] == ["stem", "net.conv1", "net.conv2", "extra"]
    assert [gates.kind for gates in seen.gates][::3] == ["L0Linear", "HardConcrete"]
    assert [layer.layer for layer in seen.layers][:2] == ["stem", "net.conv1"]
    assert seen.params.hard == inner.params.hard + 16
    assert seen.params.expected == pytest.approx(inner.params.expected + 12 * 0.9 + 4)
    assert seen.macs is None
    assert inner.macs is not None


def test_gates_of_a_block_stand_before_its_layers():
    model, _ = gated("attention")
    lines = list(report(model).lines())

    assert [(name, bool(gates), bool(layer)) for name, gates, layer in lines][:3] == [
        ("block.self_attn", True, True),
        ("block.self_attn.out_proj", False, True),
        ("block.linear1", True, True),
    ]
    around = convert(Attention(), {"block": "head"}, example_inputs=[WORDS.view(2, 5, 8)])
    assert [line[0] for line in report(around).lines()][:2] == ["block", "block.self_attn"]


def test_a_frame_has_the_totals_of_the_report():
    seen = report(gated("attention")[0])
    frame = seen.to_frame()

    assert frame["params"].sum() == seen.params.hard
    assert frame["macs_expected"].sum() == pytest.approx(seen.macs.expected)
    assert frame["open_dense"].sum() == seen.count.dense


def test_a_comparison_counts_what_both_networks_have():
    model, example = gated()
    small = materialize(model, [example])
    seen = compare(model, small, [example])
    by_name = {change.layer: change for change in seen.layers}

    assert seen.params == (
        sum(one.numel() for one in model.module.parameters()),
        sum(one.numel() for one in small.parameters()),
    )
    channels = small.get_submodule("conv2").in_channels, small.get_submodule("conv2").out_channels
    assert by_name["conv2"].shapes == ((8, 6, 3, 3), (channels[1], channels[0], 3, 3))
    assert by_name["conv2"].macs == (8 * 6 * 9 * 16, channels[0] * channels[1] * 9 * 16)
    assert by_name["norm"].macs == (0, 0)
    assert seen.macs == tuple(np.sum([change.macs for change in seen.layers], axis=0))
    assert seen.macs == (report(model).macs.dense, report(model).macs.hard)
    assert compare(model, small).macs is None
    assert list(seen.to_frame()["params_after"]) == [change.params[1] for change in seen.layers]


def test_layers_that_only_one_network_has_are_compared_with_nothing():
    before = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    after = nn.Sequential(nn.Linear(4, 2), nn.Identity(), nn.Linear(2, 2, bias=False))
    gone, new = compare(before, after).layers[1:]

    assert (gone.layer, gone.shapes, gone.params) == ("1", ((2, 3), None), (8, 0))
    assert (new.layer, new.shapes, new.params) == ("2", (None, (2, 2)), (0, 4))


def test_the_picture_shows_the_rows_and_columns_that_are_left():
    def network(width):
        return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))

    outline, filled, *_ = compare(network(30), network(6)).plot().data

    assert (max(outline.x), max(outline.y) - min(outline.y)) == (1, 1)
    assert max(filled.x) == 1  # all of 8 inputs
    assert_allclose(max(filled.y) - min(filled.y), 6 / 30)


def test_the_figure_of_a_report_has_each_density():
    seen = report(gated()[0])
    heat, bars, marks, _ = seen.plot().data

    assert list(bars.x) == [layer.params.density for layer in seen.layers]
    assert list(marks.x) == [layer.params.expected / layer.params.dense for layer in seen.layers]
    shares = np.nan_to_num(heat.z.astype(float)) ** 2
    rows = [np.divide(gates.histogram, gates.count.dense) for gates in seen.gates]
    assert_allclose(shares[[0, 2]], rows)
    assert not shares[[1, 3]].any()


def test_names_are_never_read_as_tags():
    model = nn.Sequential()
    model.add_module("<b>x", L0Linear(3, 2))
    seen, changes = report(model), compare(model, model)

    for text in (seen._repr_html_(), changes._repr_html_()):
        assert "<b>x" not in text
        assert "&lt;b&gt;x" in text
    for figure in (seen.plot(), changes.plot()):
        assert "<b>x" not in str(figure.to_dict())


@pytest.mark.parametrize(("package", "act"), [("pandas", "to_frame"), ("plotly", "plot")])
def test_an_extra_that_is_missing_is_named(monkeypatch, package, act):
    monkeypatch.setitem(sys.modules, package, None)
    model = nn.Linear(2, 2)

    for seen in (report(model), compare(model, model)):
        with pytest.raises(MissingPackage, match=r"pip install 'l0-python\[viz\]'"):
            getattr(seen, act)()


def test_gates_to_count_belong_to_no_parameter():
    model, _ = gated()
    with pytest.raises(InvalidSetting, match="'params' or 'macs'"):
        model.sizes.by_parameter(model.prob_active(), "count")
