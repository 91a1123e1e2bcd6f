"""The selector: estimators of every kind, exact counts, wishes, paths, data of every kind."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from l0.errors import InvalidCount, InvalidSetting, UnsupportedData
from l0.selectors.selector import L0Selector
from l0.selectors.sparse_regression import SparseL0Linear


@parametrize_with_checks([L0Selector()])
@pytest.mark.filterwarnings("ignore")  # the checks warn on purpose
def test_scikit_learn_finds_the_selector_as_it_wants_it(estimator, check):
    check(estimator)


def classes(seed=0, n_columns=30):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(300, n_columns))
    return x, 2 * x[:, 3] - 2 * x[:, 17] + 2 * x[:, 20] + rng.normal(size=300) > 0


def module(n_features):
    return nn.Sequential(nn.Linear(n_features, 16), nn.ReLU(), nn.Linear(16, 2))


def instance():
    """A module of its own, initialised alike at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return module(30)


@pytest.mark.parametrize(
    "estimator",
    [None, LogisticRegression(C=0.1), Ridge(), SparseL0Linear(), module, instance()],
    ids=["default", "logistic", "ridge", "sparse", "factory", "module"],
)
def test_estimators_of_every_kind_find_the_features_that_matter(estimator):
    x, label = classes()
    y = label.astype(float) + 1e-9 if isinstance(estimator, SparseL0Linear | Ridge) else label
    selector = L0Selector(estimator, k=3, steps=300).fit(x, y)
    assert selector.get_support(indices=True).tolist() == [3, 17, 20]
    assert selector.transform(x).shape == (300, 3)
    assert_allclose(selector.inverse_transform(selector.transform(x))[:, [3, 17]], x[:, [3, 17]])


def test_a_network_finds_features_that_no_linear_model_can():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 12))
    y = np.abs(x[:, 2]) + x[:, 5] * x[:, 9] + 0.1 * rng.normal(size=400)

    def network(n_features):
        return nn.Sequential(nn.Linear(n_features, 32), nn.Tanh(), nn.Linear(32, 1))

    assert L0Selector(network, k=3).fit(x, y).support_.tolist() == [2, 5, 9]


def test_training_leaves_the_global_generator_and_the_given_module_alone():
    x, y = classes()
    given_module = instance()
    before = [parameter.clone() for parameter in given_module.parameters()]
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = L0Selector(given_module, k=5, steps=20).fit(x, y)
    assert torch.rand(1) == expected
    pairs = zip(before, given_module.parameters(), strict=True)
    assert all(torch.equal(old, new) for old, new in pairs)
    again = L0Selector(given_module, k=5, steps=20).fit(x, y)
    assert first.support_.tolist() == again.support_.tolist()


@pytest.mark.parametrize("estimator", [None, module], ids=["linear", "network"])
def test_wishes_hold_for_selectors_too(estimator):
    x, y = classes()
    asked = {"keep": [0], "strata": np.arange(30) % 3, "quotas": {0: 2, 1: 1}}
    chosen = L0Selector(estimator, k=4, steps=60, **asked).fit(x, y).support_
    assert chosen.size == 4
    assert 0 in chosen
    assert np.bincount(chosen % 3).tolist() == [2, 1, 1]
    pairs = L0Selector(estimator, k=2, groups=np.arange(30) // 2, count="groups", steps=60)
    assert np.bincount(pairs.fit(x, y).support_ // 2).max() == 2
    assert pairs.support_.size == 4


@pytest.mark.parametrize("estimator", [None, SparseL0Linear(), module])
def test_paths_of_selectors_are_nested_and_begin_as_one_count_alone(estimator):
    x, y = classes()
    if isinstance(estimator, SparseL0Linear):
        y = y + 0.5 * x[:, 9]
    selector = L0Selector(estimator, steps=60)
    found = selector.path(x, y, [2, 6, 4])
    assert list(found) == [2, 6, 4]
    assert set(found[2]) < set(found[4]) < set(found[6])
    apart = selector.path(x, y, [2, 6, 4], nested=False)
    for k in (2, 4, 6):
        alone = clone(selector).set_params(k=k).fit(x, y)
        assert apart[k].tolist() == alone.support_.tolist()
    assert found[6].tolist() == apart[6].tolist()
    assert not hasattr(selector, "support_")


def test_names_of_data_frames_go_in_and_come_out():
    x, y = classes()
    frame = pd.DataFrame(x, columns=[f"income_{j}" for j in range(30)], index=range(5, 305))
    selector = L0Selector(k=3).set_output(transform="pandas").fit(frame, y)
    chosen = selector.transform(frame)
    assert chosen.columns.tolist() == ["income_3", "income_17", "income_20"]
    assert selector.get_feature_names_out().tolist() == chosen.columns.tolist()
    assert chosen.index.equals(frame.index)
    fit = SparseL0Linear(k=2).fit(frame, x[:, 4])
    assert fit.feature_names_in_.tolist() == frame.columns.tolist()


def test_selectors_work_in_pipelines_and_cross_validation():
    x, y = classes()
    pipeline = make_pipeline(StandardScaler(), L0Selector(k=3), LogisticRegression())
    assert cross_val_score(pipeline, x, y, cv=3).mean() > 0.85
    best = GridSearchCV(pipeline, {"l0selector__k": [1, 3]}, cv=3).fit(x, y)
    assert best.best_params_ == {"l0selector__k": 3}
    regression = make_pipeline(StandardScaler(), SparseL0Linear(k=3))
    assert cross_val_score(regression, x, x[:, 0] + x[:, 1], cv=3).mean() > 0.99


def test_sparse_data_are_selected_from_by_linear_estimators():
    x, y = classes()
    x = x * (np.abs(x) > 1)
    for estimator in (None, Ridge()):
        dense = L0Selector(estimator, k=3).fit(x, y)
        sparse = L0Selector(estimator, k=3).fit(sp.csr_array(x), y)
        assert sparse.support_.tolist() == dense.support_.tolist()
        assert sparse.transform(sp.csr_array(x)).shape == (300, 3)


def test_half_of_the_features_are_selected_if_no_count_is_given():
    x, y = classes(n_columns=21)
    assert L0Selector().fit(x, y).support_.size == 11


@pytest.mark.parametrize(
    ("selector", "error", "way_out"),
    [
        (L0Selector(k=31), InvalidCount, "31 of 30"),
        (L0Selector(k=3, keep=[0, 1, 2, 4]), InvalidCount, "Keep fewer"),
        (L0Selector(module, k=3, steps=0), InvalidSetting, "positive"),
        (L0Selector(k=3, loss=nn.functional.cross_entropy), InvalidSetting, "Leave it out"),
        (L0Selector(SparseL0Linear(k=3), k=3), InvalidSetting, "Give it to the selector"),
        (L0Selector(SparseL0Linear(keep=[1]), k=3), InvalidSetting, "`keep`"),
        (L0Selector(make_pipeline(LogisticRegression()), k=3), UnsupportedData, "linear"),
    ],
)
def test_misfits_are_refused(selector, error, way_out):
    with pytest.raises(error, match=way_out):
        selector.fit(*classes())


def test_without_scikit_learn_gates_work_and_the_way_out_is_named():
    check = (
        "import sys, l0, l0.gates\n"
        "assert not {'sklearn', 'scipy'} & set(sys.modules)\n"
        "sys.modules['sklearn'] = sys.modules['scipy'] = None\n"
        "l0.gates.FeatureGate(3, 1).choose(keep=[2])\n"
        "from l0.errors import MissingPackage\n"
        "try:\n    import l0.selectors.selector\n"
        "except MissingPackage as missing:\n"
        "    sys.exit('l0-python[sklearn]' not in str(missing))\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
