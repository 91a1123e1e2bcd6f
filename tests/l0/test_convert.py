"""Gates on existing networks: what is gated, what is drawn, and what is left of the original."""

import numpy as np
import pytest
import torch
from torch import nn

from l0.conversion import GateSettings, convert
from l0.errors import InvalidSetting, ShapeMismatch
from l0.penalties import compute_l0_penalty, compute_l2_penalty

INPUTS = (torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)),)


def _network():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 10),
        nn.Sigmoid(),
        nn.Linear(10, 3),
    )


def _mlp():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


def test_open_gates_change_nothing():
    network = _network().eval()
    expected = network(*INPUTS)
    gated = convert(network, {"*": "output"}, example_inputs=INPUTS, init_active=1.0)
    gated.settle(torch.ones(24, dtype=torch.bool))

    torch.testing.assert_close(gated.train().eval()(*INPUTS), expected)
    assert gated.module is network


def test_each_kind_multiplies_what_it_names():
    network = _network()
    kinds = {"0": "channel", "3": "channel", "6": "output", "8": "weight"}
    gated = convert(network, kinds, example_inputs=INPUTS)

    assert {key: (part.kind, part.n_gates) for key, part in gated.sets.items()} == {
        "0": ("channel", 8),
        "3": ("channel", 6),
        "6": ("output", 10),
        "8": ("weight", 30),
    }
    # A gate acts on the columns of what reads the units: batch norm cannot undo it.
    assert [part.parameters for part in gated.sets.values()] == [
        ("3.weight",),
        ("6.weight",),
        ("8.weight",),
        ("8.weight",),
    ]


def test_the_folded_copy_does_what_the_gated_model_does_in_evaluation():
    gated = convert(_network(), {"*": "output", "6": "input"}, example_inputs=INPUTS).eval()
    for _, gate in gated.named_gates():
        nn.init.normal_(gate.log_alpha, std=2.0)
    before = {name: tensor.clone() for name, tensor in gated.module.state_dict().items()}

    torch.testing.assert_close(gated.folded().eval()(*INPUTS), gated(*INPUTS))
    for name, tensor in gated.module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_settling_keeps_the_function_of_the_open_gates():
    gated = convert(_network(), {"*": "output"}, example_inputs=INPUTS).eval()
    for _, gate in gated.named_gates():
        nn.init.normal_(gate.log_alpha, std=2.0)
    expected, mask = gated(*INPUTS), gated.open_mask()
    gated.settle(mask)

    torch.testing.assert_close(gated(*INPUTS), expected)
    torch.testing.assert_close(gated.train()(*INPUTS), gated(*INPUTS))
    assert torch.equal(gated.open_mask(), mask)
    with pytest.raises(ShapeMismatch, match="for 24 gates"):
        gated.settle(mask[:2])


def test_one_draw_serves_every_use_of_a_weight():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Linear(4, 4, bias=False)

        def forward(self, x):
            return self.shared(x) - self.shared(x)

    gated = convert(
        Twice(), {"shared": "input"}, example_inputs=[torch.ones(2, 4)], init_active=0.5
    )
    assert gated.train()(torch.ones(3, 4)).abs().max() == 0


def test_each_example_can_have_gates_of_its_own():
    network = _mlp()
    gates = {"0": "output", "4": "input"}
    gated = convert(
        network, gates, example_inputs=[torch.ones(2, 4)], init_active=0.5, per_example=True
    )
    x = torch.ones(64, 4)
    rows = gated.train()(x)
    rows.sum().backward()

    assert rows.unique(dim=0).shape[0] > 30
    assert gated.eval()(x).unique(dim=0).shape[0] == 1
    assert all(gate.log_alpha.grad.abs().sum() > 0 for _, gate in gated.named_gates())
    torch.testing.assert_close(gated(x), gated.folded()(x))
    with pytest.raises(InvalidSetting, match="for each example"):
        convert(network, {"0": "weight"}, example_inputs=[x], per_example=True)


def test_gates_for_each_example_and_for_each_call_have_the_same_law():
    """Monte Carlo: the mean output of a linear network is that of the mean gates."""
    network = nn.Linear(6, 1, bias=False)
    nn.init.ones_(network.weight)
    x = torch.ones(20_000, 6)
    gated = convert(
        network, {"": "input"}, example_inputs=[x[:2]], init_active=0.4, per_example=True
    )
    expected = gated.gates["model"].mean().sum().item()

    assert abs(gated.train()(x).mean().item() - expected) < 0.02


def test_linked_layers_share_their_gates():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            x = self.stem(x)
            return self.head(x + torch.relu(self.body(x)))

    gates = {"stem": "output", "body": "output"}
    gated = convert(Residual(), gates, example_inputs=[torch.ones(2, 4)])
    assert list(gated.sets) == ["stem"]
    assert gated.sets["stem"].linked == ("body",)
    assert set(gated.sets["stem"].parameters) == {"body.weight", "head.weight"}


def test_groups_share_a_gate():
    groups = [5, 5, 1, 1, 1, 5]
    settings = GateSettings("output", groups=groups, init_active=0.3, temperature=0.5)
    gated = convert(_mlp(), {"0": settings}, example_inputs=[torch.ones(2, 4)])
    gate = gated.gates["0"]
    gated.settle(torch.tensor([True, False]))

    assert gate.temperature == 0.5
    assert (gated.folded()[2].weight.abs().sum(0) > 0).tolist() == [g == 5 for g in groups]
    assert gated.hard_size("params") == 3 * 5 + 5 * 3 + 5 + 5 * 2 + 2
    with pytest.raises(ShapeMismatch, match="6 outputs or inputs"):
        convert(_mlp(), {"0": GateSettings("output", [0])}, example_inputs=[torch.ones(2, 4)])


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ({}, "is empty"),
        ({"conv*": "channel"}, "names none of the layers with weights: 0, 2, 4"),
        ({"0": "neurons"}, "Take one of input, output, channel, head, weight"),
        ({"4": "output"}, "'4' cannot have output gates: the model returns it"),
        ({"0": "head"}, "names none of the modules with an attention"),
        ({"0": GateSettings("output", init_active=1.5)}, "not in"),
    ],
)
def test_a_wish_that_cannot_be_met_says_why(gates, message):
    with pytest.raises(ValueError, match=message):
        convert(_mlp(), gates, example_inputs=[torch.ones(2, 4)])


def test_a_pattern_passes_over_what_cannot_be_gated():
    gated = convert(_mlp(), {"*": "output"}, example_inputs=[torch.ones(2, 4)])
    assert list(gated.sets) == ["0", "2"]
    assert gated.skipped == {"4": "the model returns it"}


def test_the_same_seed_draws_the_same_gates_and_sets_differ():
    def drawn(seed):
        gated = convert(
            _mlp(), {"0": "input", "4": "input"}, example_inputs=[torch.ones(2, 4)], seed=seed
        )
        return [gate() for _, gate in gated.train().named_gates()]

    one, other, different = drawn(3), drawn(3), drawn(4)
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    assert not torch.equal(one[0], different[0])
    assert not torch.equal(one[0], one[1][:4])


def test_a_penalty_counts_the_parameters_that_a_gate_switches():
    gated = convert(_network(), {"0": "channel"}, example_inputs=INPUTS, init_active=0.5)
    switched = 3 * 9 + 1 + 2 + 6 * 9  # row, bias, norm, column
    torch.testing.assert_close(compute_l0_penalty(gated).item(), 0.5 * 8 * switched)
    torch.testing.assert_close(
        compute_l2_penalty(gated), 0.5 * gated.module[3].weight.square().sum()
    )


def test_training_goes_on_through_a_saved_state(tmp_path):
    def step(gated, optimiser):
        optimiser.zero_grad()
        (gated(*INPUTS).square().mean() + 1e-3 * compute_l0_penalty(gated)).backward()
        optimiser.step()

    def start():
        gated = convert(_network(), {"*": "output"}, example_inputs=INPUTS).train()
        return gated, torch.optim.Adam(gated.parameters(), lr=0.01)

    whole, optimiser = start()
    for _ in range(4):
        step(whole, optimiser)
    first, optimiser = start()
    for _ in range(2):
        step(first, optimiser)
    torch.save([first.state_dict(), optimiser.state_dict()], tmp_path / "state.pt")
    second, optimiser = start()
    model_state, optimiser_state = torch.load(tmp_path / "state.pt")
    second.load_state_dict(model_state)
    optimiser.load_state_dict(optimiser_state)
    for _ in range(2):
        step(second, optimiser)

    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_half_precision_and_autocast():
    gated = convert(_network(), {"*": "output"}, example_inputs=INPUTS).train()
    with torch.autocast("cpu", torch.bfloat16):
        gated(*INPUTS).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in gated.parameters())
    low = gated.to(torch.bfloat16)
    assert low(INPUTS[0].bfloat16()).dtype == torch.bfloat16


def test_everything_gated_can_be_trained_to_a_sparse_network():
    """Two of eight inputs matter; a penalty on the columns leaves those two."""
    torch.manual_seed(0)
    x = torch.randn(512, 8)
    y = x[:, [2]] * 2 - x[:, [5]]
    gated = convert(nn.Linear(8, 1), {"": "input"}, example_inputs=[x], init_active=0.8).train()
    optimiser = torch.optim.Adam(gated.parameters(), lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        ((gated(x) - y).square().mean() + 0.05 * gated.expected_size("count")).backward()
        optimiser.step()
    np.testing.assert_array_equal(np.flatnonzero(gated.open_mask()), [2, 5])
