"""L0 gates for PyTorch: choose exactly k samples, features, channels or weights by training.

Names are loaded when they are first used, so `import l0` and `l0.selection` do not need PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from l0 import (
        errors,
        gates,
        hard_concrete,
        layers,
        penalties,
        selection,
        temperature,
    )
    from l0.attention import L0MultiheadAttention
    from l0.budget import Budget
    from l0.callback import TrainerHooks
    from l0.conversion import GateSettings, convert
    from l0.errors import (
        CannotTrace,
        IneffectivePenalty,
        InvalidCount,
        InvalidProbabilities,
        InvalidSetting,
        InvalidSpec,
        L0Error,
        MissingPackage,
        NotEqual,
        ShapeMismatch,
        UnreachableCount,
        UnsupportedData,
    )
    from l0.gated_model import GatedModel, GateSet
    from l0.gates import FeatureGate, HybridGate, L0Gate, SampleGate
    from l0.gradients import GateGradients, check_gradients
    from l0.hard_concrete import HardConcrete
    from l0.layers import L0Conv2d, L0Linear, PlainForm
    from l0.multihead import MultiheadAttention
    from l0.penalties import (
        GateStatistics,
        compute_l0_penalty,
        compute_l0l2_penalty,
        compute_l2_penalty,
        expected_quadratic_loss,
        get_sparsity_stats,
    )
    from l0.projection import Outcome, Projection
    from l0.reports.comparison import Comparison, compare
    from l0.reports.progress import History, Progress
    from l0.reports.reporting import report
    from l0.reports.summaries import Report
    from l0.schedule import Schedule
    from l0.selection import (
        constrained_top_k,
        inclusion_probabilities,
        simple_random,
        spread,
        systematic,
        top_k,
    )
    from l0.selectors.selector import L0Selector
    from l0.selectors.sparse_regression import SparseL0Linear
    from l0.shrinking.materialization import materialize
    from l0.shrinking.spec import load_spec, save_spec
    from l0.temperature import TemperatureScheduler, update_temperatures
    from l0.training import WeightAverage, param_groups

    __version__: str

__all__ = [
    "Budget",
    "CannotTrace",
    "Comparison",
    "FeatureGate",
    "GateGradients",
    "GateSet",
    "GateSettings",
    "GateStatistics",
    "GatedModel",
    "HardConcrete",
    "History",
    "HybridGate",
    "IneffectivePenalty",
    "InvalidCount",
    "InvalidProbabilities",
    "InvalidSetting",
    "InvalidSpec",
    "L0Conv2d",
    "L0Error",
    "L0Gate",
    "L0Linear",
    "L0MultiheadAttention",
    "L0Selector",
    "MissingPackage",
    "MultiheadAttention",
    "NotEqual",
    "Outcome",
    "PlainForm",
    "Progress",
    "Projection",
    "Report",
    "SampleGate",
    "Schedule",
    "ShapeMismatch",
    "SparseL0Linear",
    "TemperatureScheduler",
    "TrainerHooks",
    "UnreachableCount",
    "UnsupportedData",
    "WeightAverage",
    "__version__",
    "check_gradients",
    "compare",
    "compute_l0_penalty",
    "compute_l0l2_penalty",
    "compute_l2_penalty",
    "constrained_top_k",
    "convert",
    "errors",
    "expected_quadratic_loss",
    "gates",
    "get_sparsity_stats",
    "hard_concrete",
    "inclusion_probabilities",
    "layers",
    "load_spec",
    "materialize",
    "param_groups",
    "penalties",
    "report",
    "save_spec",
    "selection",
    "simple_random",
    "spread",
    "systematic",
    "temperature",
    "top_k",
    "update_temperatures",
]

_HOMES = {
    "errors": (
        "CannotTrace",
        "IneffectivePenalty",
        "InvalidCount",
        "InvalidProbabilities",
        "InvalidSetting",
        "InvalidSpec",
        "L0Error",
        "MissingPackage",
        "NotEqual",
        "ShapeMismatch",
        "UnreachableCount",
        "UnsupportedData",
    ),
    "selection": (
        "constrained_top_k",
        "inclusion_probabilities",
        "simple_random",
        "spread",
        "systematic",
        "top_k",
    ),
    "hard_concrete": ("HardConcrete",),
    "gates": (
        "FeatureGate",
        "HybridGate",
        "L0Gate",
        "SampleGate",
    ),
    "schedule": ("Schedule",),
    "temperature": (
        "TemperatureScheduler",
        "update_temperatures",
    ),
    "penalties": (
        "GateStatistics",
        "compute_l0_penalty",
        "compute_l0l2_penalty",
        "compute_l2_penalty",
        "expected_quadratic_loss",
        "get_sparsity_stats",
    ),
    "gradients": (
        "GateGradients",
        "check_gradients",
    ),
    "layers": ("L0Conv2d", "L0Linear", "PlainForm"),
    "multihead": ("MultiheadAttention",),
    "attention": ("L0MultiheadAttention",),
    "gated_model": (
        "GatedModel",
        "GateSet",
    ),
    "conversion": (
        "GateSettings",
        "convert",
    ),
    "training": (
        "WeightAverage",
        "param_groups",
    ),
    "projection": ("Outcome", "Projection"),
    "budget": ("Budget",),
    "shrinking.materialization": ("materialize",),
    "shrinking.spec": (
        "load_spec",
        "save_spec",
    ),
    "selectors.sparse_regression": ("SparseL0Linear",),
    "selectors.selector": ("L0Selector",),
    "reports.summaries": ("Report",),
    "reports.reporting": ("report",),
    "reports.comparison": (
        "Comparison",
        "compare",
    ),
    "reports.progress": (
        "History",
        "Progress",
    ),
    "callback": ("TrainerHooks",),
}
_MODULES = ("errors", "gates", "hard_concrete", "layers", "penalties", "selection", "temperature")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("l0-python")
    if name in _MODULES:
        return import_module(f"l0.{name}")
    if name in _HOME_OF:
        return getattr(import_module(f"l0.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'l0' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
