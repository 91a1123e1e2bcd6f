"""Gates over data: exact counts, every kind of data, gradients, known inclusion probabilities."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from l0 import (
    FeatureGate,
    HybridGate,
    InvalidCount,
    InvalidSetting,
    SampleGate,
    ShapeMismatch,
    UnsupportedData,
)
from l0.selection.quotas import constrained_top_k

VALUES = np.arange(60.0).reshape(10, 6)
KINDS = {
    "numpy": (VALUES, np.asarray),
    "torch": (torch.tensor(VALUES), lambda data: data.detach().numpy()),
    "pandas": (
        pd.DataFrame(VALUES, columns=list("abcdef"), index=list("qwertyuiop")),
        lambda data: data.to_numpy(),
    ),
    "polars": (pl.DataFrame(VALUES, schema=list("abcdef")), lambda data: data.to_numpy()),
    "scipy csr": (sp.csr_array(VALUES), lambda data: data.toarray()),
    "scipy csc": (sp.csc_matrix(VALUES), lambda data: data.toarray()),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_data_come_back_as_they_were_given(kind, training):
    data, as_numpy = KINDS[kind]
    rows, indices = SampleGate(n_samples=10, target_samples=4).train(training).select_samples(data)
    columns, places = FeatureGate(6, max_features=2).train(training).select_features(data)

    assert indices.dtype == places.dtype == np.int64
    assert isinstance(rows, type(data)) or sp.issparse(rows)
    assert_allclose(as_numpy(rows), VALUES[indices], rtol=0)
    assert_allclose(as_numpy(columns), VALUES[:, places], rtol=0)


def test_labels_of_data_frames_are_kept():
    frame, _ = KINDS["pandas"]
    rows, indices = SampleGate(10, 4).select_samples(frame)
    assert rows.index.tolist() == frame.index[indices].tolist()
    columns, places = FeatureGate(6, 2).select_features(KINDS["polars"][0])
    assert columns.columns == ["abcdef"[place] for place in places]


def test_series_and_vectors_are_data_too():
    gate = SampleGate(10, 4)
    _, indices = gate.select_samples(VALUES)
    for vector in (VALUES[:, 0], pd.Series(VALUES[:, 0]), pl.Series(VALUES[:, 0])):
        chosen, _ = gate.select_samples(vector)
        assert_allclose(np.asarray(chosen), VALUES[indices, 0])


def test_features_lie_along_the_last_axis_of_a_tensor():
    chosen, places = FeatureGate(6, 2).select_features(torch.zeros(3, 4, 6))
    assert chosen.shape == (3, 4, 2)
    assert places.size == 2


@given(st.integers(1, 60), st.data())
def test_hybrid_counts_are_exact_for_any_target(n_items, data):
    target = data.draw(st.integers(0, n_items))
    fraction = data.draw(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.75, 1.0]))
    gate = HybridGate(n_items, fraction, 1 - fraction, target)
    rows, indices, types = gate.select(np.arange(n_items))

    assert rows.tolist() == indices.tolist() == sorted(indices)
    assert indices[types == "l0"].tolist() == gate.hard_concrete.select(gate.n_l0).tolist()
    assert indices.size == types.size == np.unique(indices).size == target
    assert abs((types == "l0").sum() - fraction * target) <= 0.5
    assert set(types) <= {"l0", "random"}
    assert_allclose(gate.inclusion_probabilities().sum(), target)


def test_hybrid_inclusion_probabilities_are_the_frequencies():
    gate = HybridGate(20, 0.4, 0.6, 10, init_mean=np.linspace(0.01, 0.99, 20))
    rng = np.random.default_rng(0)
    n_draws = 4000
    counts = np.zeros(20)
    for _ in range(n_draws):
        counts[gate.select(np.arange(20), generator=rng)[1]] += 1
    prob = gate.inclusion_probabilities()
    assert (np.abs(counts / n_draws - prob) <= 5 * np.sqrt(prob * (1 - prob) / n_draws)).all()
    assert prob[-4:].tolist() == [1.0] * 4


def test_horvitz_thompson_totals_from_a_hybrid_selection_are_unbiased():
    y = np.random.default_rng(0).lognormal(size=50)
    gate = HybridGate(50, 0.5, 0.5, 20)
    weights = 1 / gate.inclusion_probabilities()
    rng = np.random.default_rng(1)
    totals = [
        (rows * weights[indices]).sum()
        for rows, indices, _ in (gate.select(y, generator=rng) for _ in range(2000))
    ]
    assert abs(np.mean(totals) - y.sum()) < 4 * np.std(totals) / 2000**0.5


def test_hybrid_draws_are_fixed_until_a_seed_or_generator_is_given():
    gate = HybridGate(100, 0.3, 0.7, 30)
    data = np.arange(100)
    _, fixed, types = gate.select(data)
    assert fixed.tolist() == gate.select(data)[1].tolist()

    _, seeded, seeded_types = gate.select(data, seed=5)
    assert seeded.tolist() == gate.select(data, seed=5)[1].tolist() != fixed.tolist()
    assert seeded[seeded_types == "l0"].tolist() == fixed[types == "l0"].tolist()

    generator = torch.Generator().manual_seed(1)
    draws = [gate.select(data, generator=generator)[1].tolist() for _ in range(2)]
    assert draws[0] != draws[1]
    with pytest.raises(InvalidSetting, match="one of the two"):
        gate.select(data, seed=1, generator=generator)


def test_multiplying_by_the_gate_is_the_gate_times_each_row_or_column():
    data = torch.ones(6, 3)
    rows = SampleGate(6, 3, seed=4)
    z = SampleGate(6, 3, seed=4)()
    assert torch.equal(rows(data), data * z[:, None])
    columns = FeatureGate(3, 2).eval()
    assert torch.equal(columns(data), data * columns()[None, :])


def test_training_by_data_finds_the_features_that_matter():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 12, generator=generator)
    y = x[:, [2, 7, 9]] @ torch.tensor([1.0, -2.0, 1.5])
    gate = FeatureGate(12, max_features=3, seed=1, init_mean=0.7)
    weights = torch.nn.Parameter(torch.zeros(12))
    optimiser = torch.optim.Adam([weights, *gate.parameters()], lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        loss = ((gate(x) @ weights - y) ** 2).mean() + 0.05 * gate.penalty()
        loss.backward()
        optimiser.step()
    assert gate.select_features(x)[1].tolist() == [2, 7, 9]
    assert gate.get_feature_importance()[[2, 7, 9]].min() > 0.9


# Wishes: what a selection must satisfy beside its count

STRATA = np.repeat(["north", "south"], [7, 3])
WISHES = [
    {"keep": [0, 9]},
    {"groups": np.arange(10) // 2},
    {"strata": STRATA, "quotas": {"south": 3}},
    {"strata": STRATA, "quotas": "proportional"},
    {"strata": np.arange(10) // 2, "quotas": (0, 1)},
    {"keep": [1], "groups": np.arange(10) // 2, "strata": np.arange(10) // 4, "quotas": (0, 2)},
]


@pytest.mark.parametrize("wishes", WISHES)
def test_all_gates_take_the_same_wishes_with_the_same_answer(wishes):
    chances = np.random.default_rng(0).permutation(np.linspace(0.05, 0.95, 10))
    expected = constrained_top_k(np.log(chances / (1 - chances)), 4, **wishes).tolist()
    settings = {"init_mean": chances, "dtype": torch.float64}
    rows, indices = SampleGate(10, 4, **settings).select_samples(VALUES, **wishes)
    assert indices.tolist() == expected
    assert_allclose(rows, VALUES[indices])
    columns, places = FeatureGate(10, 4, **settings).select_features(VALUES.T, **wishes)
    assert places.tolist() == expected
    assert_allclose(columns, VALUES.T[:, places])
    if "groups" not in wishes and wishes.get("quotas") != (0, 1):
        whole = HybridGate(10, 1.0, 0.0, 4, **settings)
        assert whole.select(VALUES, **wishes)[1].tolist() == expected


def test_settled_gates_are_selected_first_and_last():
    gate = SampleGate(6, 3, init_mean=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    with torch.no_grad():
        gate.log_alpha[0], gate.log_alpha[5] = -np.inf, np.inf
    assert gate.choose().tolist() == [1, 2, 5]
    assert gate.choose(5).tolist() == [1, 2, 3, 4, 5]
    assert gate.choose(2, groups=list("aabbcc")).tolist() == [4, 5]


def test_wishes_keep_the_gradient_of_a_selection():
    gate = FeatureGate(6, 2)
    columns, places = gate.select_features(torch.ones(3, 6), keep=[4])
    columns.sum().backward()
    assert set(gate.log_alpha.grad.nonzero().flatten().tolist()) == set(places) >= {4}


HYBRID_WISHES = [
    {"keep": [3, 4]},
    {"strata": np.repeat(list("abc"), [20, 12, 8]), "quotas": "proportional"},
    {"strata": np.repeat(list("abc"), [20, 12, 8]), "quotas": {"a": 2, "c": 6}},
    {"groups": np.arange(40) // 2, "count": "groups"},
    {"groups": np.arange(40) // 2, "count": "groups", "strata": np.arange(40) // 20, "quotas": 6},
]


@pytest.mark.parametrize("wishes", HYBRID_WISHES)
def test_hybrid_selections_obey_wishes_with_the_stated_probabilities(wishes):
    gate = HybridGate(40, 0.5, 0.5, 12, init_mean=np.linspace(0.01, 0.99, 40))
    prob = gate.inclusion_probabilities(**wishes)
    rng = np.random.default_rng(0)
    n_draws = 1000
    counts = np.zeros(40)
    for _ in range(n_draws):
        _, indices, types = gate.select(np.arange(40), generator=rng, **wishes)
        counts[indices] += 1
        assert (prob[indices[types == "l0"]] == 1).all()
    per_unit = 2 if "groups" in wishes else 1
    assert indices.size == 12 * per_unit
    assert (types == "l0").sum() == 6 * per_unit
    assert_allclose(prob.sum(), 12 * per_unit)
    assert (np.abs(counts / n_draws - prob) <= 5 * np.sqrt(prob * (1 - prob) / n_draws)).all()
    if "strata" in wishes and "groups" not in wishes:
        taken = np.unique(wishes["strata"][indices], return_counts=True)[1].tolist()
        assert taken == ([6, 4, 2] if wishes["quotas"] == "proportional" else [2, 4, 6])


@pytest.mark.parametrize(
    ("attempt", "error", "way_out"),
    [
        (lambda: SampleGate(3, 4), InvalidCount, "0 to 3"),
        (lambda: FeatureGate(3, -1), InvalidCount, "0 to 3"),
        (lambda: HybridGate(10, 0.5, 0.6, 4), InvalidSetting, "sum to 1"),
        (lambda: HybridGate(10, 25, 75, 4), InvalidSetting, "not percent"),
        (lambda: HybridGate(10, 0.5, 0.5, 11), InvalidCount, "0 to 10"),
        (lambda: SampleGate(3, 2, temperature=-1), InvalidSetting, "positive"),
        (lambda: SampleGate(3, 2).select_samples(VALUES), ShapeMismatch, "3 items along axis 0"),
        (lambda: FeatureGate(3, 2).select_features(VALUES), ShapeMismatch, "along axis -1"),
        (lambda: SampleGate(3, 2)(torch.ones(4)), ShapeMismatch, "3 items"),
        (lambda: SampleGate(3, 2)(torch.tensor(4.0)), ShapeMismatch, "3 items"),
        (lambda: SampleGate(3, 2)(np.ones(3)), UnsupportedData, "as_tensor"),
        (lambda: SampleGate(3, 2).select_samples([1, 2, 3]), UnsupportedData, "np.asarray"),
        (lambda: SampleGate(10, 2).select_samples(pl.LazyFrame()), UnsupportedData, "collect"),
    ],
)
def test_misfits_are_refused(attempt, error, way_out):
    with pytest.raises(error, match=way_out):
        attempt()


@pytest.mark.parametrize(
    ("wishes", "error", "way_out"),
    [
        ({"keep": [0, 1, 2]}, InvalidCount, "Keep fewer"),
        ({"groups": np.arange(10) // 2}, InvalidSetting, "count='groups'"),
        ({"strata": STRATA, "quotas": (0, 3)}, InvalidSetting, "exact quotas"),
        ({"strata": STRATA, "quotas": 1}, InvalidCount, "have no quota"),
    ],
)
def test_wishes_that_leave_a_random_part_no_known_chance_are_refused(wishes, error, way_out):
    gate = HybridGate(10, 0.5, 0.5, 4)
    with pytest.raises(error, match=way_out):
        gate.select(VALUES, **wishes)
    with pytest.raises(error, match=way_out):
        gate.inclusion_probabilities(**wishes)
