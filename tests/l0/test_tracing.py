"""Units found by following a network: what is tied, what must stay, and what nothing reads."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from l0.conversion import convert
from l0.errors import CannotTrace
from l0.tracing import trace
from l0.tracing.labels import Ties, compressed


class Expression(nn.Module):
    """A network out of named modules and one function of them and the inputs."""

    def __init__(self, run, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run

    def forward(self, *inputs):
        return self.run(self, *inputs)


def _attention(m, x):
    heads, size = 2, 3
    queries, keys, values = m.qkv(x).reshape(*x.shape[:2], 3, heads, size).permute(2, 0, 3, 1, 4)
    scores = (queries @ keys.transpose(-1, -2) / size**0.5).softmax(-1)
    return m.proj((scores @ values).transpose(1, 2).flatten(2))


def _attention_by_letters(m, x):
    queries, keys, values = m.qkv(x).view(*x.shape[:2], 3, 2, 3).unbind(2)
    scores = torch.einsum("bqhd,bkhd->bhqk", queries, keys).softmax(-1)
    return m.proj(torch.einsum("bhqk,bkhd->bqhd", scores, values).flatten(2))


def _tied_decoder(m, tokens):
    hidden = m.embedding(tokens) + m.position
    return functional.linear(torch.relu(m.norm(hidden)), m.embedding.weight)


def _squeeze_excite(m, x):
    x = m.conv(x)
    return m.head((x * torch.sigmoid(m.up(m.down(x.mean((2, 3)))))[..., None, None]).flatten(1))


IMAGE, TOKENS = (torch.randn(2, 3, 6, 6),), (torch.randint(7, (2, 4)),)
SEQUENCE = (torch.randn(2, 4, 5),)
NETWORKS = {
    "batch norm, residual sum, flatten": (
        Expression(
            lambda m, x: m.head(
                (lambda y: y + m.norm(m.second(torch.sigmoid(y))))(m.first(x)).view(-1, 8 * 36)
            ),
            first=nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU()),
            second=nn.Conv2d(8, 8, 3, padding=1),
            norm=nn.BatchNorm2d(8),
            head=nn.Linear(8 * 36, 5),
        ),
        IMAGE,
        {"first.0": "channel"},
    ),
    "gates of channels and of single columns": (
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 2)),
        IMAGE,
        {"0": "channel", "3": "input"},
    ),
    "depthwise and grouped": (
        nn.Sequential(
            nn.Conv2d(3, 8, 1),
            nn.Conv2d(8, 16, 3, groups=8),
            nn.ReLU6(),
            nn.Conv2d(16, 12, 3, groups=4),
            nn.Conv2d(12, 4, 2),
            nn.Flatten(),
        ),
        IMAGE,
        {"0": "channel", "3": "channel"},
    ),
    "concatenation and slices": (
        Expression(
            lambda m, x: m.head(
                torch.cat([m.left(x), m.right(x)[:, 2:], m.right(x)[:, :2]], 1).mean((2, 3))
            ),
            left=nn.Conv2d(3, 4, 3),
            right=nn.Conv2d(3, 6, 3),
            head=nn.Linear(10, 2),
        ),
        IMAGE,
        {"left": "channel", "right": "channel"},
    ),
    "squeeze and excite": (
        Expression(
            _squeeze_excite,
            conv=nn.Conv2d(3, 6, 3),
            down=nn.Linear(6, 4),
            up=nn.Linear(4, 6),
            head=nn.Linear(6 * 16, 2),
        ),
        IMAGE,
        {"conv": "channel", "down": "output"},
    ),
    "transposed convolution and group norm": (
        nn.Sequential(
            nn.Conv2d(3, 8, 2, stride=2),
            nn.GroupNorm(4, 8),
            nn.ConvTranspose2d(8, 6, 2, stride=2),
            nn.InstanceNorm2d(6, affine=True),
            nn.ConvTranspose2d(6, 6, 3, groups=3),
            nn.PReLU(6),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 2, 1),
        ),
        IMAGE,
        {"0": "channel", "2": "channel", "4": "channel"},
    ),
    "pixel shuffle and gated linear unit": (
        nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.PixelShuffle(2),
            nn.GLU(1),
            nn.Conv2d(2, 3, 3),
            nn.Upsample(scale_factor=2),
        ),
        IMAGE,
        {"0": "channel"},
    ),
    "fused attention by views": (
        Expression(_attention, qkv=nn.Linear(5, 18), proj=nn.Linear(6, 5)),
        SEQUENCE,
        {"": "head"},
    ),
    "attention by einsum": (
        Expression(_attention_by_letters, qkv=nn.Linear(5, 18), proj=nn.Linear(6, 5)),
        SEQUENCE,
        {"": "head"},
    ),
    "transformer encoder layer": (
        nn.TransformerEncoderLayer(6, 3, 8, batch_first=True, dropout=0.0),
        (torch.randn(2, 4, 6),),
        {"self_attn": "head", "linear1": "output"},
    ),
    "layer norm": (
        nn.Sequential(
            nn.Linear(5, 8),
            nn.LayerNorm(8),
            nn.Tanh(),
            nn.Linear(8, 6),
            nn.RMSNorm(6),
            nn.Linear(6, 2),
        ),
        SEQUENCE,
        {"0": "output", "3": "output"},
    ),
    "tied embedding": (
        Expression(
            _tied_decoder,
            embedding=nn.Embedding(7, 6),
            position=nn.Parameter(torch.randn(4, 6)),
            norm=nn.LayerNorm(6),
        ),
        TOKENS,
        {"embedding": "output"},
    ),
    "recurrent, both ways": (
        Expression(
            lambda m, x: m.head(m.gru(m.lstm(x)[0])[0][:, -1]),
            lstm=nn.LSTM(5, 4, num_layers=2, batch_first=True, bidirectional=True),
            gru=nn.GRU(8, 3, batch_first=True),
            head=nn.Linear(3, 2),
        ),
        SEQUENCE,
        {"lstm": "output", "gru": "output"},
    ),
    "one module twice": (
        Expression(
            lambda m, x: m.head(torch.relu(m.twice(torch.relu(m.twice(m.first(x)))))),
            first=nn.Linear(5, 6),
            twice=nn.Linear(6, 6),
            head=nn.Linear(6, 2),
        ),
        SEQUENCE,
        {"twice": "output"},
    ),
}


def _randomise(module):
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(0.2, 1.0).mul_(torch.randn_like(tensor).sign() * 0.5 + 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_shut_unit_is_read_by_nothing(name):
    """Whatever stands in its rows, biases, norms and columns, the output stays bit for bit."""
    torch.manual_seed(0)
    network, inputs, gates = NETWORKS[name]
    _randomise(network)
    gated = convert(network, gates, example_inputs=inputs).eval()
    shut = torch.arange(gated.prob_active().numel()) % 2 == 0
    before = gated(*inputs)
    gated.settle(~shut)
    after = gated(*inputs)
    gone = np.flatnonzero(np.isin(gated.sizes._gating.units, np.flatnonzero(shut.numpy())))
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    changed = 0
    for parameter, axes in gated.units.parameters.items():
        for axis, labels in enumerate(axes):
            if labels is not None and np.isin(labels, gone).any():
                places = torch.from_numpy(np.flatnonzero(np.isin(labels, gone)))
                own[parameter].data.index_fill_(axis, places, 0.123)
                changed += 1

    assert changed > 1
    assert not torch.allclose(before, after)
    torch.testing.assert_close(gated(*inputs), after, rtol=1e-6, atol=1e-6)


def test_what_a_residual_sum_adds_is_one_unit():
    network, inputs, _ = NETWORKS["batch norm, residual sum, flatten"]
    units = trace(network, inputs).parameters
    (rows, *_), (others, *_) = units["first.0.weight"], units["second.weight"]

    np.testing.assert_array_equal(rows, others)
    np.testing.assert_array_equal(units["norm.running_var"][0], rows)
    np.testing.assert_array_equal(units["head.weight"][1], np.repeat(rows, 36))


def test_the_channels_of_a_group_are_one_unit():
    network, inputs, _ = NETWORKS["depthwise and grouped"]
    units = trace(network, inputs).parameters

    assert np.unique(units["3.weight"][0]).size == 4
    np.testing.assert_array_equal(units["3.weight"][0], np.repeat(units["3.weight"][0][::3], 3))


def test_the_rows_of_query_key_and_value_of_a_head_are_one_unit():
    network, inputs, _ = NETWORKS["fused attention by views"]
    found = trace(network, inputs)
    (_, heads), *_ = found.heads

    assert heads.size == 2
    np.testing.assert_array_equal(
        found.parameters["qkv.weight"][0], np.tile(np.repeat(heads, 3), 3)
    )
    np.testing.assert_array_equal(found.parameters["proj.weight"][1], np.repeat(heads, 3))


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (lambda m, x: m.layer(x), "returns it"),
        (lambda m, x: m.head(m.layer(x).softmax(-1)), "mixes"),
        (lambda m, x: m.head(m.layer(x).sort(-1).values), "not known"),
        (lambda m, x: m.head(m.layer(x) + x), "no unit's"),
        (lambda m, x: m.head(m.layer(x)).sum() + m.layer(x).sum(-1), "mixes"),
    ],
)
def test_units_stay_where_taking_them_out_would_change_the_result(run, reason):
    network = Expression(run, layer=nn.Linear(5, 5), head=nn.Linear(5, 2))
    found = trace(network, SEQUENCE)
    rows = found.parameters["layer.weight"][0]

    assert all(reason in found.kept[unit] for unit in rows.tolist())


def test_a_recurrent_network_that_is_given_its_state_keeps_its_units():
    network = Expression(
        lambda m, x: m.head(m.gru(x, x.mean(1)[None, :, :3])[0]),
        gru=nn.GRU(5, 3, batch_first=True),
        head=nn.Linear(3, 2),
    )
    found = trace(network, SEQUENCE)
    rows = found.parameters["gru.weight_ih_l0"][0]
    assert all("starts with" in found.kept[unit] for unit in rows.tolist())


def test_multiplications_are_those_of_the_formulas():
    """Convolution: positions times weights; attention: twice length squared times width."""
    image = trace(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1)), IMAGE
    )
    assert {name: weight.multiplications for name, weight in image.weights.items()} == {
        "0.weight": 36.0,
        "2.weight": 36.0,
    }
    network, inputs, _ = NETWORKS["fused attention by views"]
    attention = trace(network, inputs)
    assert sum(product.multiplications for product in attention.products) == 2 * 4 * 4 * 6
    assert attention.weights["qkv.weight"].multiplications == 4.0


def test_one_example_is_enough_and_the_mode_stays():
    network = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Linear(3, 2))
    trace(network, [torch.zeros(1, 4)])
    assert all(part.training for part in network.modules())


def test_a_program_from_one_example_serves_any_number():
    program = trace(nn.Linear(4, 3), [torch.zeros(1, 4)]).program
    assert program.module()(torch.zeros(5, 4)).shape == (5, 3)


def test_a_network_that_cannot_be_followed_says_where():
    network = Expression(lambda m, x: m.layer(x) if x.sum() > 0 else x, layer=nn.Linear(5, 5))
    with pytest.raises(CannotTrace, match="must not branch on the values"):
        trace(network, SEQUENCE)


def test_ties_hold_along_chains_and_broadcasting():
    ties = Ties()
    one, two, three = ties.new(4), ties.new(4), ties.new(2)
    ties.tie(one, two)
    ties.tie(two.reshape(2, 2), three[:, None])
    groups = ties.representatives()[np.concatenate([one, two, three])]
    assert groups.tolist() == [0, 0, 2, 2, 0, 0, 2, 2, 0, 2]


def test_labels_are_compressed_to_the_axes_on_which_they_depend():
    labels = np.broadcast_to(np.arange(3)[:, None, None], (2, 3, 1, 4))
    assert compressed(labels).shape == (1, 3, 1, 1)
