"""Gated attention equals PyTorch's attention with open gates; shut heads are silent and go."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from l0 import InvalidSetting, ShapeMismatch, compute_l0_penalty, compute_l2_penalty
from l0.attention import L0MultiheadAttention
from l0.layers import PlainForm
from l0.multihead import MultiheadAttention
from l0.penalties import GatedLayer
from l0.shrinking.materialization import materialize

EMBEDDING, HEADS, BATCH, QUERIES, KEYS = 12, 4, 3, 5, 7
MODULES = {
    "plain": {},
    "batch first": {"batch_first": True},
    "without bias": {"bias": False, "batch_first": True},
    "other keys and values": {"kdim": 6, "vdim": 10, "batch_first": True},
}
PADDING = torch.arange(KEYS) >= torch.tensor([[7], [5], [2]])
SEEN = torch.rand(QUERIES, KEYS, generator=torch.Generator().manual_seed(1)) < 0.3
SEEN[:, 0] = False
MASKS = {
    "none": {},
    "padding": {"key_padding_mask": PADDING},
    "pairs": {"attn_mask": SEEN},
    "scores": {"attn_mask": torch.linspace(-1, 1, QUERIES * KEYS).view(QUERIES, KEYS)},
    "scores by head": {
        "attn_mask": torch.linspace(-1, 1, BATCH * HEADS * QUERIES * KEYS).view(
            BATCH * HEADS, QUERIES, KEYS
        )
    },
    "pairs and padding": {"attn_mask": SEEN, "key_padding_mask": PADDING},
}


def plain_and_gated(name, **gate_settings):
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(EMBEDDING, HEADS, **MODULES[name])
    if plain.in_proj_bias is not None:
        nn.init.normal_(plain.in_proj_bias)
        nn.init.normal_(plain.out_proj.bias)
    return plain, L0MultiheadAttention.from_module(plain, **gate_settings)


def data_for(module):
    generator = torch.Generator().manual_seed(0)
    sizes = [(QUERIES, EMBEDDING), (KEYS, module.kdim), (KEYS, module.vdim)]
    batches = [torch.randn(BATCH, *size, generator=generator) for size in sizes]
    return batches if module.batch_first else [x.transpose(0, 1) for x in batches]


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("name", MODULES)
def test_open_gates_leave_the_attention_of_pytorch(name, masks, need_weights):
    plain, gated = plain_and_gated(name)
    gated.gate.settle([True] * HEADS)
    arguments = {**MASKS[masks], "need_weights": need_weights}
    expected, expected_weights = plain(*data_for(plain), **arguments)
    output, weights = gated(*data_for(plain), **arguments)
    assert_close(output, expected)
    assert_close(weights, expected_weights)


@pytest.mark.parametrize("need_weights", [True, False])
def test_self_attention_a_single_example_and_weights_by_head_are_as_in_pytorch(need_weights):
    plain, gated = plain_and_gated("plain")
    gated.gate.settle([True] * HEADS)
    x = data_for(plain)[0]
    arguments = {"need_weights": need_weights, "average_attn_weights": False}
    for query in (x, x[:, 0]):
        for mask in (None, torch.rand(BATCH, QUERIES)):
            padding = mask if mask is None or query.ndim == 3 else mask[0]
            found = gated(query, query, query, padding, **arguments)
            expected = plain(query, query, query, padding, **arguments)
            assert_close(found, expected)


@pytest.mark.parametrize("need_weights", [True, False])
def test_causal_attention_sees_earlier_keys_only(need_weights):
    plain, gated = plain_and_gated("batch first")
    gated.gate.settle([True] * HEADS)
    x = data_for(plain)[0]
    later = nn.Transformer.generate_square_subsequent_mask(QUERIES)
    expected = plain(x, x, x, attn_mask=later, is_causal=True, need_weights=need_weights)
    assert_close(gated(x, x, x, is_causal=True, need_weights=need_weights), expected)
    assert_close(
        gated(x, x, x, attn_mask=later, is_causal=True, need_weights=need_weights), expected
    )


def test_dropout_is_that_of_the_weights():
    _, gated = plain_and_gated("batch first")
    gated.dropout = 0.25
    gated.gate.settle([True] * HEADS)
    data = data_for(gated)
    arguments = {"average_attn_weights": False}
    torch.manual_seed(0)
    dropped = gated(*data, **arguments)[1]
    whole = gated.eval()(*data, **arguments)[1]
    kept = dropped > 0
    assert 0.1 < 1 - kept.float().mean() < 0.4
    assert_close(dropped[kept], whole[kept] / 0.75)
    gated.train().dropout = 1.0
    for need_weights in (True, False):
        output, _ = gated(*data, need_weights=need_weights)
        assert_close(output, gated.out_proj.bias.expand_as(output))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_a_shut_head_contributes_nothing(name, training):
    _, gated = plain_and_gated(name)
    gated.train(training)
    gated.gate.settle([True, False, True, True])
    data = data_for(gated)
    before = gated(*data)[0]
    with torch.no_grad():
        head = slice(gated.head_dim, 2 * gated.head_dim)
        for _, weight in gated._input_weights():
            weight.view(-1, EMBEDDING, weight.shape[1])[:, head] += 9.0
        gated.out_proj.weight[:, head] += 9.0
    assert_close(gated(*data)[0], before, rtol=0, atol=0)
    gated.gate.settle([True] * 4)
    assert not torch.allclose(gated(*data)[0], before)


@pytest.mark.parametrize("open_heads", [[0, 1, 2, 3], [1, 3], [2], []])
@pytest.mark.parametrize("name", MODULES)
def test_the_plain_form_has_the_open_heads_only_and_the_same_outputs(name, open_heads):
    _, gated = plain_and_gated(name, init_mean=0.6)
    with torch.no_grad():
        shut = [head for head in range(HEADS) if head not in open_heads]
        gated.gate.log_alpha[shut] = -9.0
    assert isinstance(gated, PlainForm)
    plain = gated.eval().plain()
    data = data_for(gated)
    assert type(plain) is MultiheadAttention
    assert plain.num_heads == len(open_heads)
    for need_weights in (True, False):
        output, _ = plain(*data, need_weights=need_weights)
        assert_close(output, gated(*data, need_weights=need_weights)[0])
    by_head = {"average_attn_weights": False}
    if open_heads:
        weights = gated(*data, **by_head)[1][:, open_heads]
        assert_close(plain(*data, **by_head)[1], weights)
        assert_close(plain(*data)[1], weights.mean(dim=1))
    else:
        assert plain(*data)[1] is None
    wide, small = (sum(p.numel() for p in module.parameters()) for module in (gated, plain))
    assert wide - small == HEADS + len(shut) * gated.gate.group_size
    assert not plain.training
    copy = MultiheadAttention(
        EMBEDDING, len(open_heads), head_dim=gated.head_dim, **MODULES[name]
    ).eval()
    copy.load_state_dict(plain.state_dict())
    assert_close(copy(*data)[0], plain(*data)[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", MODULES)
def test_penalties_count_the_parameters_of_a_head(name):
    _, gated = plain_and_gated(name)
    assert isinstance(gated, GatedLayer)
    gated.gate.settle([True, False, False, False])
    plain = gated.plain()
    kept = [*plain._input_weights(), ("", plain.out_proj.weight)]
    parameters = [p for _, p in kept] + [p for p in [plain.in_proj_bias] if p is not None]
    assert compute_l0_penalty(gated).item() == sum(p.numel() for p in parameters)
    assert_close(compute_l2_penalty(gated), sum((p**2).sum() for p in parameters))


def test_each_example_may_have_a_draw_of_its_own():
    settings = {"init_mean": 0.5, "seed": 0}
    once = plain_and_gated("batch first", **settings)[1]
    each = plain_and_gated("batch first", **settings, per_example=True)[1]
    alike = [x[:1].expand(64, *x.shape[1:]) for x in data_for(each)]
    single = [x[:1] for x in alike]
    assert_close(each(*single)[0], once(*single)[0])
    spread = [module(*alike)[0].std(dim=0).max() for module in (each, once)]
    assert spread[0] > 0.05
    assert spread[1] < 1e-5
    assert_close(each.eval()(*alike)[0], once.eval()(*alike)[0])


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_a_transformer_of_pytorch_sees_the_gates_in_evaluation_mode():
    layer = nn.TransformerEncoderLayer(EMBEDDING, HEADS, 8, batch_first=True, dropout=0.0)
    encoder = nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=False).eval()
    x = torch.randn(BATCH, QUERIES, EMBEDDING, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = encoder(x)
        attention = L0MultiheadAttention.from_module(encoder.layers[0].self_attn)
        encoder.layers[0].self_attn = attention
        attention.gate.settle([True] * HEADS)
        assert_close(encoder(x), expected)
        attention.gate.settle([True, False, False, False])
        gated = encoder(x)
        assert not torch.allclose(gated, expected)
        encoder.layers[0].self_attn = attention.plain()
        assert_close(encoder(x), gated)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = L0MultiheadAttention(EMBEDDING, HEADS, batch_first=True)
        self.norm = nn.LayerNorm(EMBEDDING)
        self.last = nn.Linear(EMBEDDING, 3)

    def forward(self, x):
        attended, _ = self.attention(x, x, x, need_weights=False)
        return self.last(self.norm(x + attended).mean(dim=1))


@pytest.mark.parametrize("open_heads", [[0, 1, 2, 3], [1, 3], []])
def test_shut_heads_are_removed_from_a_network(open_heads):
    torch.manual_seed(0)
    model = Block()
    model.attention.gate.settle([head in open_heads for head in range(HEADS)])
    x = torch.randn(BATCH, QUERIES, EMBEDDING)
    small = materialize(model, (x,))
    assert_close(small(x), model(x))
    wide, narrow = (sum(p.numel() for p in module.parameters()) for module in (model, small))
    assert wide - narrow == HEADS + (HEADS - len(open_heads)) * model.attention.gate.group_size


def test_attention_takes_a_device_and_a_type():
    attention = L0MultiheadAttention(8, 2, kdim=3, device="meta", dtype=torch.float16)
    found = {(tensor.device.type, tensor.dtype) for tensor in attention.parameters()}
    assert found == {("meta", torch.float16)}
    double = L0MultiheadAttention(8, 2, dtype=torch.float64, init_mean=[0.2, 0.7])
    x = torch.ones(3, 1, 8, dtype=torch.float64)
    assert double(x, x, x)[0].dtype == torch.float64
    assert_close(double.gate.prob_active(), torch.tensor([0.2, 0.7], dtype=torch.float64))


def test_what_cannot_be_gated_is_refused():
    with pytest.raises(InvalidSetting, match="without them"):
        L0MultiheadAttention.from_module(nn.MultiheadAttention(4, 2, add_zero_attn=True))
    with pytest.raises(InvalidSetting, match="without them"):
        L0MultiheadAttention.from_module(nn.MultiheadAttention(4, 2, add_bias_kv=True))
    with pytest.raises(InvalidSetting, match='Take "head"'):
        L0MultiheadAttention(4, 2, gate="weight")
    with pytest.raises(InvalidSetting, match="head_dim"):
        L0MultiheadAttention(5, 2)
    with pytest.raises(InvalidSetting, match="not percent"):
        L0MultiheadAttention(4, 2, dropout=50)


def test_data_and_masks_that_do_not_fit_are_refused():
    attention = L0MultiheadAttention(EMBEDDING, HEADS, batch_first=True)
    query, key, value = data_for(attention)
    with pytest.raises(ShapeMismatch, match="in pairs"):
        attention(query, key, value[:, 1:])
    with pytest.raises(ShapeMismatch, match="do not fit"):
        attention(query[..., 1:], key, value)
    with pytest.raises(ShapeMismatch, match="one for each head"):
        attention(query, key, value, attn_mask=SEEN.T)
    with pytest.raises(ShapeMismatch, match="key_padding_mask"):
        attention(query, key, value, key_padding_mask=PADDING.T)


def test_settling_keeps_the_function_of_the_open_heads():
    torch.manual_seed(0)
    attention = L0MultiheadAttention(8, 4, batch_first=True).eval()
    attention.gate.log_alpha.data = torch.tensor([0.4, -3.0, 0.1, 2.0])
    x = torch.randn(2, 5, 8)
    expected, _ = attention(x, x, x, need_weights=False)
    attention.settle(attention.gate.median() > 0)

    torch.testing.assert_close(attention.train()(x, x, x, need_weights=False)[0], expected)
