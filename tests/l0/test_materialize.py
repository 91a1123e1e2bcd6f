"""From zeros to a smaller network: what nothing reads, what is constant, what norms mix."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from l0.conversion import convert
from l0.shrinking.materialization import materialize
from l0.shrinking.reduced_layers import ReducedLayerNorm

from .zeros import check, made, random, zero

# What nothing reads


def test_a_unit_that_nothing_reads_goes_with_its_norm():
    network = made(
        nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.PReLU(5), nn.Conv2d(5, 3, 3))
    )
    zero(network[3].weight, (slice(None), [0, 3]))
    small = check(network, random(2, 2, 6, 6).double())

    assert [small.get_submodule(name).weight.shape[0] for name in "0123"] == [3, 3, 3, 3]
    assert torch.equal(small.get_submodule("1").running_mean, network[1].running_mean[[1, 2, 4]])


def test_what_was_read_only_by_the_dead_is_dead():
    network = made(
        nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))
    )
    zero(network[4].weight, (slice(None), [1, 2]))
    # The first unit is read by units 1 and 2 of the next layer alone.
    zero(network[2].weight, ([0, 3, 4], 0))
    small = check(network, random(5, 4).double())

    assert small.get_submodule("0").out_features == 5
    assert small.get_submodule("2").out_features == 3


def test_one_unit_stays_where_all_could_go():
    network = made(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)))
    zero(network[2].weight, ...)
    small = check(network, random(2, 1, 7, 7).double())

    assert small.get_submodule("0").out_channels == 1
    assert small.get_submodule("2").in_channels == 1


def test_all_gates_but_one_are_shut():
    network = made(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 2)))
    gated = convert(network, {"0": "output", "2": "output"}, example_inputs=[torch.ones(2, 4)])
    mask = torch.zeros(12, dtype=torch.bool)
    mask[[2, 9]] = True
    gated.settle(mask)
    small = materialize(gated.eval(), [random(3, 4).double()])

    assert small.get_submodule("2").weight.shape == (1, 1)
    assert_close(small(random(5, 4).double()), gated(random(5, 4).double()))


def test_a_layer_may_read_a_part_of_what_others_read():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.left = nn.Linear(5, 6), nn.Linear(6, 3)
            self.right = nn.Conv1d(6, 2, 1)

        def forward(self, x):
            x = self.stem(x).relu()
            return self.left(x) + self.right(x[..., None]).sum(dim=(1, 2))[:, None]

    network = made(Two())
    zero(network.stem.weight, (slice(None), [1, 2]))  # Two entries of the input are not read.
    zero(network.left.weight, (slice(None), [0, 1, 2]))
    zero(network.right.weight, (slice(None), [2, 3]))
    small = check(network, random(4, 5).double())

    assert small.stem.weight.shape == (5, 3)
    assert small.left.in_features == 3
    assert small.right.in_channels == 4
    assert small.stem.input_positions.tolist() == [0, 3, 4]


def test_single_weights_that_are_zero_take_nothing_away():
    network = made(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)))
    gated = convert(network, {"*": "weight"}, example_inputs=[torch.ones(2, 4)])
    mask = torch.ones(36, dtype=torch.bool)
    mask[[0, 5, 10]] = False
    mask[24 + torch.tensor([1, 7])] = False  # Both weights that read the second hidden unit.
    gated.settle(mask)
    small = materialize(gated, [random(3, 4).double()])

    assert small.get_submodule("0").weight.shape == (5, 4)
    assert int((small.get_submodule("0").weight == 0).sum()) == 3 - int(not mask[5])


def test_units_that_are_picked_by_position_are_found_again():
    class Picking(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.low, self.high = nn.Linear(3, 8), nn.Linear(3, 2), nn.Linear(4, 2)
            self.turned = nn.Linear(3, 2)

        def forward(self, x):
            x = torch.sigmoid(self.wide(x))
            first, _, last = x.split([3, 1, 4], dim=1)
            low = self.low(first) * x[:, 4].unsqueeze(1)
            return low + self.high(last) + self.turned(x[:, 1:4].roll(1, dims=1))

    network = made(Picking())
    zero(network.low.weight, (slice(None), [0]))
    zero(network.high.weight, (slice(None), [0, 3]))
    small = check(network, random(4, 3).double())

    # Units 0 and 7 are read nowhere; 4 by its position only.
    assert small.wide.out_features == 6
    assert (small.low.in_features, small.high.in_features) == (2, 2)


def test_every_other_unit_keeps_its_neighbours():
    class Striding(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.out = nn.Linear(3, 8), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(torch.sigmoid(self.wide(x))[:, ::2])

    network = made(Striding())
    zero(network.out.weight, (slice(None), [1]))
    small = check(network, random(4, 3).double())

    assert small.wide.out_features == 8
    assert small.out.in_features == 3


# What is constant


def test_a_constant_goes_into_the_bias():
    network = made(nn.Sequential(nn.Linear(4, 5), nn.Sigmoid(), nn.Linear(5, 3)))
    zero(network[0].weight, [1, 2])
    small = check(network, random(4, 4).double())

    assert small.get_submodule("0").out_features == 3
    added = network[2].weight[:, [1, 2]] @ torch.sigmoid(network[0].bias[[1, 2]])
    assert_close(small.get_submodule("2").bias, network[2].bias + added)


def test_a_constant_makes_a_bias_where_there_was_none():
    network = made(
        nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ELU(), nn.Conv2d(4, 3, 3, bias=False)
        )
    )
    zero(network[0].weight, 1)
    small = check(network, random(4, 2, 7, 7).double())

    assert small.get_submodule("3").in_channels == 3
    assert small.get_submodule("3").bias.shape == (3,)


def test_a_constant_that_is_padded_with_zeros_stays():
    network = made(nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1)))
    zero(network[0].weight, [0, 2])
    zero(network[0].bias, 2)  # But zero among zeros is not seen.
    small = check(network, random(4, 2, 7, 7).double())

    assert small.get_submodule("0").out_channels == 3


def test_a_constant_passes_pools_sums_and_concatenations():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3), nn.Conv2d(1, 2, 3)
            self.fc = nn.Linear(5 * 4, 2)

        def forward(self, x):
            x = torch.cat([self.a(x) + self.b(x) * 2, self.c(x)], dim=1)
            return self.fc(functional.max_pool2d(functional.avg_pool2d(x, 2), 2).flatten(1))

    network = made(Net())
    zero(network.a.weight, [0, 1])
    zero(network.b.weight, 1)
    zero(network.c.weight, 0)
    small = check(network, random(2, 1, 10, 10).double())

    assert (small.a.out_channels, small.b.out_channels, small.c.out_channels) == (2, 2, 1)
    assert small.fc.in_features == 12


def test_what_does_not_vary_in_the_example_may_vary_elsewhere():
    """A single example never varies: that a value is constant has to follow from the weights."""
    for norm in (nn.BatchNorm1d(5), nn.LayerNorm(5), nn.Softmax(1), nn.Hardtanh()):
        network = made(nn.Sequential(nn.Linear(4, 5), norm, nn.Linear(5, 3)))
        zero(network[0].weight, [1, 2])
        zero(network[0].bias, [1, 2])
        small = check(network, random(1, 4).double())
        alone = isinstance(norm, nn.BatchNorm1d | nn.Hardtanh)
        assert small.get_submodule("0").out_features == (3 if alone else 5)


def test_what_other_operations_make_may_vary():
    class Deviation(nn.Module):
        def forward(self, x):
            return x.std(2)

    network = made(nn.Sequential(nn.Conv1d(2, 5, 3), Deviation(), nn.Linear(5, 3)))
    small = check(network, random(1, 2, 6).double())

    assert small.get_submodule("0").out_channels == 5


def test_a_sum_is_constant_only_if_all_its_terms_are():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(self.a(x) + self.b(x))

    network = made(Sum())
    zero(network.a.weight, [0, 1])
    zero(network.b.weight, [1, 2])
    small = check(network, random(1, 3).double())

    assert small.out.in_features == 3


def test_an_attention_to_constants_is_constant():
    network = made(nn.MultiheadAttention(8, 2, batch_first=True))

    class Self(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.out = network, nn.Linear(8, 3)

        def forward(self, x):
            return self.out(self.attention(x, x, x, need_weights=False)[0])

    whole = made(Self())
    zero(whole.attention.in_proj_weight, slice(16, 20))  # The values of the first head.
    small = check(whole, random(2, 5, 8).double())

    assert small.attention.out_proj.in_features == 4
    assert small.attention.in_proj_weight.shape == (12, 8)


def test_a_constant_of_a_shared_layer_stays_if_its_uses_differ():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.shared = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.shared(self.a(x)) * self.shared(self.b(x))

    network = made(Twice())
    zero(network.a.weight, [0, 1])
    zero(network.b.weight, [0, 1])
    with torch.no_grad():
        network.b.bias[1] = network.a.bias[1]
    small = check(network, random(4, 3).double())

    assert small.shared.in_features == 3
    assert len(list(small.children())) == 3


# Norms


def test_a_norm_over_fewer_entries_counts_the_zeros_that_are_gone():
    network = made(
        nn.Sequential(
            nn.Linear(4, 6),
            nn.LayerNorm(6),
            nn.Linear(6, 5),
            nn.RMSNorm(5, eps=0.3),
            nn.Linear(5, 2),
        )
    )
    for layer, reader, gone in ((0, 2, [1, 4]), (2, 4, [0])):
        zero(network[layer].weight, gone)
        zero(network[layer].bias, gone)
        zero(network[reader].weight, (slice(None), gone))
    small = check(network, random(4, 4).double())

    norm = small.get_submodule("1")
    assert isinstance(norm, ReducedLayerNorm)
    assert (norm.normalized_shape, norm.width) == ((4,), 6)
    assert small.get_submodule("3").normalized_shape == (4,)
    assert small.get_submodule("3").eps == pytest.approx(0.3 * 5 / 4)


def test_a_unit_that_a_norm_mixes_stays_while_it_is_not_zero():
    network = made(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)))
    zero(network[2].weight, (slice(None), [1, 4]))  # Not read, but in the mean and the variance.
    small = check(network, random(4, 4).double())

    assert small.get_submodule("0").out_features == 6
    assert small.get_submodule("2").in_features == 4


def test_groups_of_a_norm_go_whole():
    network = made(nn.Sequential(nn.Conv1d(2, 6, 3), nn.GroupNorm(3, 6), nn.Conv1d(6, 2, 1)))
    zero(network[2].weight, (slice(None), [0, 1, 2]))
    small = check(network, random(4, 2, 6).double())

    assert (small.get_submodule("1").num_groups, small.get_submodule("1").num_channels) == (2, 4)
