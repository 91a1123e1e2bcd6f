"""The methods that `_incumbent.py` runs, and the settings that their authors use."""

import logging
import time
from dataclasses import dataclass
from typing import Any

from _problem import Problem

# What PolicyEngine passes in its own pipelines. microcalibrate:
# `policyengine_data/calibration/calibrate.py` of
# policyengine-data (epochs 600; 10 is the default noise_level, and the README's too). l0-python:
# `calibration/unified_calibration.py` of policyengine-us-data (preset "local" 1e-8, "national"
# 1e-4 for lambda_l0),
# with one difference: there all weights start at 100, here at the design weights.
AUTHORS: dict[str, dict[str, Any]] = {
    "microcalibrate": {"learning_rate": 0.2, "sparse_learning_rate": 0.1},
    "l0": {
        "beta": 0.35,
        "gamma": -0.1,
        "zeta": 1.1,
        "init_keep_prob": 0.999,
        "log_weight_jitter_sd": 0.05,
        "log_alpha_jitter_sd": 0.01,
        "lambda_l0": 1e-4,
        "lambda_l2": 1e-12,
        "lr": 0.15,
        "loss_type": "relative",
    },
    "adam": {"learning_rate": 0.15},
}
L0_FIT_SETTINGS = ("lambda_l0", "lambda_l2", "lr", "loss_type")
FAMILIES = ("microcalibrate-sparse", "microcalibrate", "l0", "adam")
METHODS = tuple(sorted(family + gates for family in FAMILIES for gates in ("", "-gated")))


@dataclass(frozen=True)
class Fit:
    """What a method hands back: weights `(n_records,)`, gradient steps done, and notes for the
    JSON."""

    weights: Any
    steps: int
    prepare_seconds: float
    fit_seconds: float
    notes: dict[str, Any]


def sparse_estimate_function(matrix):
    """`weights -> matrix.T @ weights` on torch tensors with a gradient, for the
    `estimate_function` of the package."""
    import scipy.sparse as sp
    from _adam import Estimates, Operator

    operator = Operator(sp.csr_matrix(matrix))
    return lambda weights: Estimates.apply(weights, operator)


def run_microcalibrate(
    problem: Problem, passes: int, seed: int, settings: dict, *, sparse: bool, gated: bool
) -> Fit:
    """`Calibration(...)` and `.calibrate()`, both inside the clock; the DataFrame that it asks for
    is made before."""
    import inspect

    import numpy as np
    import pandas as pd
    import torch

    from microcalibrate import Calibration

    # The package sets the level ERROR in its own `configure_logging`; else it warns once per rare
    # target.
    logging.getLogger().setLevel(logging.ERROR)
    np.random.seed(seed)  # noqa: NPY002 -- 0.19.1 draws its noise from the global generator and has no seed of its own.
    torch.manual_seed(seed)
    if "seed" in inspect.signature(Calibration).parameters:  # Later releases have one.
        settings = {"seed": seed, **settings}

    start = time.perf_counter()
    if sparse:
        estimates = {
            "estimate_function": sparse_estimate_function(problem.matrix),
            "target_names": problem.names,
        }
    else:
        dense = problem.matrix.toarray() if hasattr(problem.matrix, "toarray") else problem.matrix
        estimates = {
            "estimate_matrix": pd.DataFrame(
                dense.astype(np.float32, copy=False), columns=problem.names
            )
        }
        del dense
    prepared = time.perf_counter()
    calibration = Calibration(
        weights=problem.design_weights,
        targets=problem.targets,
        epochs=passes,
        regularize_with_l0=gated,
        **estimates,
        **settings,
    )
    constructed = time.perf_counter()
    calibration.calibrate()
    finished = time.perf_counter()

    weights = calibration.sparse_weights if gated else calibration.weights
    notes = {"constructor_seconds": constructed - prepared}
    return Fit(
        weights, 3 * passes if gated else passes, prepared - start, finished - prepared, notes
    )


def run_l0(problem: Problem, passes: int, seed: int, settings: dict, *, gated: bool) -> Fit:
    """`SparseCalibrationWeights(...)` and `.fit(...)`, both inside the clock; it asks for targets
    in rows."""
    import scipy.sparse as sp
    import torch
    from l0.calibration import SparseCalibrationWeights

    torch.manual_seed(
        seed
    )  # The gates are drawn from the global generator, the jitter from `seed`.
    model_settings = {
        name: value for name, value in settings.items() if name not in L0_FIT_SETTINGS
    }
    fit_settings = {name: value for name, value in settings.items() if name in L0_FIT_SETTINGS}
    if not gated:
        fit_settings["lambda_l0"] = 0.0

    start = time.perf_counter()
    rows_are_targets = sp.csr_matrix(problem.matrix.T)
    prepared = time.perf_counter()
    model = SparseCalibrationWeights(
        n_features=rows_are_targets.shape[1],
        init_weights=problem.design_weights,
        use_gates=gated,
        seed=seed,
        **model_settings,
    )
    model.fit(M=rows_are_targets, y=problem.targets, epochs=passes, **fit_settings)
    finished = time.perf_counter()

    with torch.no_grad():
        weights = model.get_weights(deterministic=True).cpu().numpy()
    return Fit(weights, passes, prepared - start, finished - prepared, {})


def run_adam(
    problem: Problem, passes: int, seed: int, settings: dict, checkpoints: list[int], *, gated: bool
) -> Fit:
    """Gradient descent of `_adam.py`, scored at the checkpoints with the clock stopped."""
    from _adam import descend
    from _scoring import score

    return Fit(
        *descend(
            problem.matrix,
            problem.targets,
            problem.design_weights,
            passes=passes,
            seed=seed,
            gated=gated,
            checkpoints=checkpoints,
            judge=lambda weights: score(
                weights, problem.matrix, problem.targets, problem.design_weights
            ),
            **settings,
        )
    )


def run(
    method: str, problem: Problem, passes: int, seed: int, settings: dict, checkpoints: list[int]
) -> Fit:
    """Run `method`; its name is a family and whether it has gates."""
    gated = method.endswith("-gated")
    family = method.removesuffix("-gated")
    if family.startswith("microcalibrate"):
        sparse = family.endswith("-sparse")
        return run_microcalibrate(problem, passes, seed, settings, sparse=sparse, gated=gated)
    if family == "l0":
        return run_l0(problem, passes, seed, settings, gated=gated)
    return run_adam(problem, passes, seed, settings, checkpoints, gated=gated)
