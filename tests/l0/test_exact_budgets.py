"""The size that is left is the budget, or the nearest below it that can be reached."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l0.budget import Budget
from l0.shrinking.materialization import materialize
from l0.sized_gates import chances, sized_gates

from .gated_networks import CONVERTED, HAND_BUILT, fresh, randomise

settings.register_profile("here", deadline=None, derandomize=True)
settings.load_profile("here")


def all_sizes(model, metric):
    """Size for each number of open gates in each set, those with the highest logits first."""
    row = sized_gates(model)
    ranks = [(-gate.log_alpha.detach().flatten()).argsort().argsort() for gate in row.gates]
    grid = itertools.product(*(range(1, len(rank) + 1) for rank in ranks))
    masks = torch.stack(
        [torch.cat([rank < k for rank, k in zip(ranks, ks, strict=True)]) for ks in grid]
    )
    return torch.vmap(lambda mask: row.size(mask, metric))(masks).detach().round().long().numpy()


def check_projection(model, **wish):
    metric = wish.get("metric", next(iter(wish)))
    sizes = all_sizes(model, metric)
    budget = Budget(model, **wish)
    asked = int(budget.asked)
    with torch.no_grad():
        before = sized_gates(model).size(chances(sized_gates(model)), metric).item()

    projection = budget.project()

    (outcome,) = projection.outcomes.values()
    assert outcome.reached == sizes[sizes <= asked].max()
    assert outcome.proven
    assert outcome.exact == (asked in sizes)
    assert outcome.expected_before == pytest.approx(before, rel=1e-6)
    row = sized_gates(model)
    open_mask = torch.cat([gate.median().flatten() > 0 for gate in row.gates])
    assert outcome.reached == round(row.size(open_mask, metric).item())
    if hasattr(model, "hard_size"):
        assert model.hard_size(metric) == outcome.reached
    kept = [int(gate.median().count_nonzero()) for gate in row.gates]
    assert [n_open for n_open, _ in projection.kept.values()] == kept
    assert all(gate.settled for gate in row.gates)


@settings(max_examples=160)
@given(
    name=st.sampled_from([*CONVERTED]),
    metric=st.sampled_from(["params", "macs", "count"]),
    share=st.floats(0, 1),
    seed=st.integers(0, 100_000),
    as_density=st.booleans(),
)
def test_converted_networks_end_with_the_budget_or_the_nearest_below(
    name, metric, share, seed, as_density
):
    """Certified by trying all numbers of open gates."""
    model = fresh(name)
    randomise(model, seed)
    sizes = all_sizes(model, metric)
    asked = int(sizes.min() + share * (sizes.max() - sizes.min()))
    if as_density:
        density = (asked + 0.5) / sizes.max() if asked < sizes.max() else 1.0
        check_projection(model, density=density, metric=metric)
    else:
        check_projection(model, **{metric: asked})


@settings(max_examples=60)
@given(
    name=st.sampled_from([*HAND_BUILT]),
    metric=st.sampled_from(["params", "count"]),
    share=st.floats(0, 1),
    seed=st.integers(0, 100_000),
)
def test_gated_layers_end_with_the_budget_or_the_nearest_below(name, metric, share, seed):
    model = fresh(name)
    randomise(model, seed)
    sizes = all_sizes(model, metric)
    check_projection(model, **{metric: int(sizes.min() + share * (sizes.max() - sizes.min()))})


@pytest.mark.parametrize("name", ["inputs", "channels", "residual", "grouped"])
def test_the_materialised_network_has_exactly_that_many_parameters(name):
    model = fresh(name)
    randomise(model, 3)
    projection = Budget(model, density=0.6).project()

    small = materialize(model, [torch.randn(CONVERTED[name][2].shape)])

    assert sum(parameter.numel() for parameter in small.parameters()) == projection.reached
