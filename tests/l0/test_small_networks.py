"""What a smaller network is like: its layers, modes, inputs and outputs, and what is refused."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from l0.attention import L0MultiheadAttention
from l0.errors import CannotTrace, InvalidSetting, NotEqual
from l0.layers import L0Conv2d, L0Linear
from l0.shrinking.materialization import materialize
from l0.shrinking.reduced_layers import Attention

from .zeros import check, made, random, zero

# Networks that are built of gated layers


class HandBuilt(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = L0Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = L0Conv2d(8, 6, 3, gate="input")
        self.depthwise = L0Conv2d(6, 6, 3, groups=6)
        self.tokens = L0Linear(6, 8, gate="output")
        self.attention = L0MultiheadAttention(8, 4, dropout=0.5, batch_first=True)
        self.out = L0Linear(8, 5, gate="weight")

    def forward(self, x):
        x = functional.relu(self.conv2(functional.relu(self.bn(self.conv1(x)))))
        x = torch.tanh(self.tokens(self.depthwise(x).flatten(2).transpose(1, 2)))
        return self.out(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_gated_layers_become_plain_layers():
    network = made(HandBuilt())
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if name.endswith("log_alpha"):
            is_open = torch.rand(parameter.shape, generator=generator) < 0.6
            parameter.data.copy_(torch.where(is_open, 1.0, -9.0))
    heads = network.attention.gate.log_alpha.data
    heads.copy_(torch.tensor([1.0, -9.0, 2.0, -9.0]))
    small = check(network, random(2, 3, 8, 8).double())

    assert type(small.conv2) is nn.Conv2d
    both = (network.conv1.gate.median() > 0) & (network.conv2.gate.median() > 0)
    assert small.conv2.in_channels == int(both.sum())
    assert small.attention.out_proj.in_features == 4
    assert not any("gate" in name for name in small.state_dict())
    assert isinstance(small.get_submodule("attention.attention"), Attention)


# What the network is like


def test_parametrized_weights_become_plain_and_smaller():
    network = nn.Sequential(
        nn.Linear(3, 5), nn.ReLU(), nn.utils.parametrizations.weight_norm(nn.Linear(5, 2))
    )
    network = network.double().eval()
    zero(network[2].parametrizations.weight.original1, (slice(None), [0, 4]))
    small = check(network, random(4, 3).double())

    assert small.get_submodule("2").weight.shape == (2, 3)


def test_what_no_layer_does_stays_a_function_with_smaller_parameters():
    class Functions(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
            self.scale = nn.Parameter(torch.ones(4))
            self.register_buffer("mean", torch.zeros(4))
            self.register_buffer("variance", torch.ones(4))

        def forward(self, x):
            x = functional.linear(x, self.first.weight) * 2 + self.first.bias
            x = functional.batch_norm(x, self.mean, self.variance, weight=self.scale)
            return self.second(x)

    network = made(Functions())
    zero(network.second.weight, (slice(None), [1, 3]))
    small = check(network, random(5, 3).double())

    assert {name: tuple(value.shape) for name, value in small.state_dict().items()} == {
        "first.weight": (2, 3),
        "first.bias": (2,),
        "scale": (2,),
        "mean": (2,),
        "variance": (2,),
        "second.weight": (2, 2),
        "second.bias": (2,),
    }


def test_tied_weights_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = nn.Embedding(7, 6), nn.Linear(6, 7)
            self.out.weight = self.embed.weight

        def forward(self, tokens):
            return self.out(torch.tanh(self.embed(tokens)))

    network = made(Tied())
    zero(network.embed.weight, (slice(None), [2, 3]))
    small = materialize(network, [torch.tensor([[1, 2], [0, 6]])])

    assert small.embed.weight is small.out.weight
    assert small.embed.weight.shape == (7, 4)
    tokens = torch.tensor([[3, 5, 1]]).T
    assert_close(small(tokens), network(tokens))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, pair, scale=2.0, *more, flag=True, extra):
        x = self.fc(pair["left"][0]) * scale + (more[0] if flag else 0)
        return {"sum": x + extra, "parts": (x, [pair["right"]])}


def test_inputs_and_outputs_are_nested_as_they_were():
    network = made(Nested())
    left, right, more, extra = (random(2, *shape).double() for shape in ((3,), (1,), (2,), (2,)))
    args, kwargs = ({"left": [left], "right": right}, 3.0, more), {"extra": extra, "flag": True}
    small = materialize(network, args, example_kwargs=kwargs)
    given = small({"left": [left], "right": right}, more, extra=extra)

    assert_close(given, network(*args, **kwargs))
    assert [node.target for node in small.graph.nodes if node.op == "placeholder"] == [
        "pair",
        "more_0",
        "extra",
    ]


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
        self.norm = nn.BatchNorm1d(8, momentum=None)
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        x, weights = self.attention(self.encoder(x), x, x)
        x = functional.dropout(x, 0.5, self.training)
        return self.norm(self.fc(x).mean(1)), weights


def test_dropout_and_batch_norm_follow_the_mode():
    network = made(Dropping())
    x = random(4, 3, 8).double()
    small = materialize(network, [x])
    dropouts = {name: part for name, part in small.named_modules() if hasattr(part, "p")}
    assert not small.training
    assert_close(small(x), small(x), rtol=0, atol=0)
    assert sorted(dropouts) == [
        "attention.dropout",
        "dropout",
        "encoder.dropout",
        "encoder.dropout1",
        "encoder.dropout2",
    ]
    assert small.get_submodule("encoder.self_attn.attention").dropout == 0.5

    # With the same noise, both do the same in training mode, and keep the same statistics.
    network.train(), small.train()
    torch.manual_seed(5)
    wanted = network(x)
    torch.manual_seed(5)
    assert_close(small(x), wanted)
    assert_close(small.norm.running_var, network.norm.running_var)
    assert small.norm.num_batches_tracked == 1


def test_dropout_that_is_an_argument_follows_the_mode():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            x = self.fc(x).unsqueeze(1)
            dropout = 0.5 if self.training else 0.0
            return functional.scaled_dot_product_attention(
                x, x, x, dropout_p=dropout, is_causal=True, scale=0.7
            )

    network, x = made(Attending()), random(4, 6, 4).double()
    small = materialize(network, [x])
    assert_close(small(x), network(x))
    network.train(), small.train()
    torch.manual_seed(3)
    wanted = network(x)
    torch.manual_seed(3)
    assert_close(small(x), wanted)


def test_frozen_parameters_and_types_are_kept():
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).to(torch.bfloat16)
    network[0].requires_grad_(False)
    zero(network[2].weight, (slice(None), 1))
    small = materialize(network, [random(4, 4).bfloat16()])

    assert small.get_submodule("0").weight.dtype == torch.bfloat16
    assert [p.requires_grad for p in small.parameters()] == [False, False, True, True]


def test_one_example_is_enough():
    network = made(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)))
    zero(network[3].weight, (slice(None), slice(4, 8)))
    small = check(network, random(1, 1, 4, 4).double())

    assert small.get_submodule("0").out_channels == 3


@pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights")
def test_a_state_that_is_given_keeps_its_size():
    class Given(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.fc = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x, state):
            y, (h, c) = self.rnn(x, (state.transpose(0, 1), state.transpose(0, 1).tanh()))
            return self.fc(y), h, c

    network = made(Given())
    zero(network.fc.weight, (slice(None), [0, 1]))
    x, state = random(2, 5, 3).double(), random(2, 1, 4).double()
    small = materialize(network, [x, state])

    assert small.rnn.hidden_size == 4
    assert_close(small(x, state), network(x, state))


def test_a_recurrence_that_is_no_layer_starts_from_fewer_zeros():
    class Recurring(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = ((15, 3), (15, 5), (15,), (15,))
            self.weights = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in sizes)
            self.fc = nn.Linear(5, 2)

        def forward(self, x):
            start = torch.zeros(1, x.shape[0], 5, dtype=x.dtype)
            y, _ = torch.gru(x, start, list(self.weights), True, 1, 0.0, False, False, True)
            return self.fc(y)

    network = made(Recurring())
    zero(network.fc.weight, (slice(None), [0, 3]))
    # The recurrence itself reads the two units for no other unit.
    others = [row for row in range(15) if row % 5 not in (0, 3)]
    with torch.no_grad():
        network.weights[1][others] *= torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
    small = check(network, random(2, 4, 3).double())

    assert small.fc.in_features == 3


def test_a_smaller_network_can_be_made_smaller_again():
    network = made(nn.Sequential(nn.Conv1d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2)))
    zero(network[3].weight, (slice(None), slice(0, 4)))
    x = random(2, 2, 6).double()
    once = check(network, x)
    zero(once.get_submodule("3").weight, (slice(None), slice(4, 8)))
    twice = check(once, x)

    assert twice.get_submodule("0").out_channels == 4
    assert twice.get_submodule("3").in_features == 16


# What cannot be done


def test_a_network_that_branches_on_values_is_refused():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(CannotTrace, match="Branching cannot be followed"):
        materialize(Branching(), [torch.ones(2, 3)])


def test_a_network_with_a_program_inside_is_refused():
    class Inside(nn.Module):
        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y = x @ x.T
            return x.sum() + y

    with pytest.raises(CannotTrace, match="autocast"):
        materialize(Inside(), [torch.ones(2, 3)])


def test_networks_that_differ_are_not_handed_out():
    class Noisy(nn.Module):
        def forward(self, x):
            return {"noise": x + torch.rand_like(x)}

    with pytest.raises(NotEqual, match=r"output \['noise'\] differs by"):
        materialize(Noisy(), [torch.ones(2, 3)])
    assert materialize(Noisy(), [torch.ones(2, 3)], verify=False)(torch.ones(2, 3))


def test_the_tolerance_is_relative_to_the_output():
    class Drifting(nn.Module):
        step = 0

        def forward(self, x):
            self.step += 1
            return x * (1 + 1e-3 * (self.step == 2))

    x = 1e4 * torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(NotEqual):
        materialize(Drifting(), [x])
    assert materialize(Drifting(), [x], tolerance=math.sqrt(1e-5)) is not None


def test_a_single_tensor_is_no_sequence_of_inputs():
    with pytest.raises(InvalidSetting, match=r"Give \[x\]"):
        materialize(nn.Linear(3, 2), torch.ones(2, 3))
