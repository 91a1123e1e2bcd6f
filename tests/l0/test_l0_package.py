"""What a user types: the documented snippets, light imports, the version."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import l0
from l0 import L0Linear

README = Path(__file__).parents[2] / "packages" / "l0" / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1][:20])
def test_readme_examples_run(block):
    torch.manual_seed(0)
    names = {}
    exec(block, names)
    if "features" in names:
        assert names["features"].tolist() == [3, 11]


def test_importing_the_package_and_its_selection_does_not_load_torch():
    check = "import sys, l0, l0.errors, l0.selection as s; s.top_k([1.0, 2.0], 1); l0.top_k; "
    check += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_every_public_name_can_be_loaded():
    for name in set(l0.__all__) - {"__version__"}:
        assert getattr(l0, name) is not None
    assert set(l0.__all__) <= set(dir(l0))
    with pytest.raises(AttributeError, match="nothing"):
        _ = l0.nothing


def test_the_version_is_that_of_the_distribution(tmp_path, monkeypatch):
    folder = tmp_path / "l0_python-9.8.7.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: l0-python\nVersion: 9.8.7\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert l0.__version__ == "9.8.7"


def test_sample_selection_snippet():
    from l0 import SampleGate

    data = np.random.default_rng(0).normal(size=(10000, 3))
    gate = SampleGate(n_samples=10000, target_samples=1000)
    selected_data, indices = gate.select_samples(data)
    assert selected_data.shape == (1000, 3)
    assert np.array_equal(selected_data, data[indices])


def test_household_gates_snippets():
    from l0 import HardConcrete

    household_weights = households = weights = torch.ones(500)
    gates = HardConcrete(len(household_weights), temperature=0.25, init_mean=0.999)
    assert gates.prob_active().mean().item() == pytest.approx(0.999)

    gates = HardConcrete(n_items=len(households), temperature=0.25, init_mean=0.999)
    probs = gates()
    masked_weights = weights * probs
    assert ((masked_weights >= 0) & (masked_weights <= 1)).all()


def test_temperature_snippet():
    from l0 import TemperatureScheduler, update_temperatures

    model = L0Linear(3, 2)
    scheduler = TemperatureScheduler(initial_temp=1.0, final_temp=0.1, total_epochs=100)
    for epoch in range(100):
        temp = scheduler.get_temperature(epoch)
        update_temperatures(model, temp)
    assert model.gate.temperature.item() == pytest.approx(0.1, rel=0.05)


def test_penalty_snippet():
    from l0 import compute_l0l2_penalty

    model = L0Linear(3, 2)
    task_loss = model(torch.ones(4, 3)).square().mean()
    penalty = compute_l0l2_penalty(model, l0_lambda=1e-3, l2_lambda=1e-4)
    loss = task_loss + penalty
    loss.backward()
    assert model.gate.log_alpha.grad.count_nonzero() == 3


def test_hybrid_snippet():
    from l0 import HybridGate

    data = torch.arange(10000.0)
    hybrid = HybridGate(n_items=10000, l0_fraction=0.25, random_fraction=0.75, target_items=1000)
    selected, indices, types = hybrid.select(data)
    assert selected.tolist() == indices.tolist()
    assert [int((types == kind).sum()) for kind in ("l0", "random")] == [250, 750]


def test_feature_snippet():
    from l0 import FeatureGate

    data = torch.randn(20, 1000)
    gate = FeatureGate(n_features=1000, max_features=50)
    selected_data, feature_indices = gate.select_features(data)
    importance = gate.get_feature_importance()
    assert torch.equal(selected_data, data[:, feature_indices])
    assert importance.shape == (1000,)
