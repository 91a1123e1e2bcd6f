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
    from l0.errors import (
        InvalidCount,
        InvalidProbabilities,
        InvalidSetting,
        L0Error,
        ShapeMismatch,
        UnsupportedData,
    )
    from l0.gates import FeatureGate, HybridGate, L0Gate, SampleGate
    from l0.hard_concrete import HardConcrete
    from l0.layers import L0Conv2d, L0Linear
    from l0.penalties import (
        GateStatistics,
        compute_l0_penalty,
        compute_l0l2_penalty,
        compute_l2_penalty,
        expected_quadratic_loss,
        get_sparsity_stats,
    )
    from l0.selection import inclusion_probabilities, simple_random, spread, systematic, top_k
    from l0.temperature import TemperatureScheduler, update_temperatures

    __version__: str

__all__ = [
    "FeatureGate",
    "GateStatistics",
    "HardConcrete",
    "HybridGate",
    "InvalidCount",
    "InvalidProbabilities",
    "InvalidSetting",
    "L0Conv2d",
    "L0Error",
    "L0Gate",
    "L0Linear",
    "SampleGate",
    "ShapeMismatch",
    "TemperatureScheduler",
    "UnsupportedData",
    "__version__",
    "compute_l0_penalty",
    "compute_l0l2_penalty",
    "compute_l2_penalty",
    "errors",
    "expected_quadratic_loss",
    "gates",
    "get_sparsity_stats",
    "hard_concrete",
    "inclusion_probabilities",
    "layers",
    "penalties",
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
        "InvalidCount",
        "InvalidProbabilities",
        "InvalidSetting",
        "L0Error",
        "ShapeMismatch",
        "UnsupportedData",
    ),
    "selection": ("inclusion_probabilities", "simple_random", "spread", "systematic", "top_k"),
    "hard_concrete": ("HardConcrete",),
    "gates": ("FeatureGate", "HybridGate", "L0Gate", "SampleGate"),
    "temperature": ("TemperatureScheduler", "update_temperatures"),
    "penalties": (
        "GateStatistics",
        "compute_l0_penalty",
        "compute_l0l2_penalty",
        "compute_l2_penalty",
        "expected_quadratic_loss",
        "get_sparsity_stats",
    ),
    "layers": ("L0Conv2d", "L0Linear"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("l0-python")
    if name in _HOMES:
        return import_module(f"l0.{name}")
    if name in _HOME_OF:
        return getattr(import_module(f"l0.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'l0' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
