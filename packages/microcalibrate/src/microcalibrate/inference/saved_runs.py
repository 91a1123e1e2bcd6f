"""A saved run made again: its folder keeps weights and options, not the estimate matrix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.calibration import Calibration
from microcalibrate.diagnostics.frame import Frame
from microcalibrate.errors import InvalidOption, InvalidProblem
from microcalibrate.record_options import FILE_NAME
from microcalibrate.result import CalibrationResult
from microcalibrate.targets import build_targets, targets_of_units

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.targets import Difference, Quotients

OPTIONS = (
    "l0_lambda",
    "target_records",
    "kappa",
    "min_weight_ratio",
    "max_weight_ratio",
    "min_weight",
    "max_weight",
    "distance",
    "loss",
    "closeness",
    "refit_closeness",
    "selection",
    "temperature",
    "seed",
    "device",
)
# Others that come per record, and what the settings say where there are any.
PER_RECORD = {
    "frozen": "n_frozen",
    "heteroscedasticity": "heteroscedasticity",
    "cluster": "n_clusters",
}
# Made again on the same machine the weights are the same to the last bits; this is room for others.
SAME_WEIGHTS = 1e-4


def calibration_of_run(
    folder: str | Path, data: pd.DataFrame | Frame, targets: Any, *, progress: bool | None = None
) -> Calibration:
    """The calibration of a saved run, made again from its data.

    Args:
        folder: What `CalibrationResult.save` wrote.
        data: The records that were calibrated, one row each, in their order; or the linked tables,
            of which one has these.
        targets: The table of targets that was calibrated to, as it was declared; or the estimate
            matrix itself, shape `(n_records, n_targets)`.
        progress: Whether to show a bar; None shows it on a terminal.

    Returns:
        The calibration, with the weights of the run.

    Raises:
        InvalidOption: If the run has options that its folder does not keep.
        InvalidProblem: If data and targets are not those of the run.
    """
    result = CalibrationResult.load(folder)
    settings = result.settings
    kept = result.record_options
    wanted = [name for name in OPTIONS if settings.get(name) == "per record"]
    wanted += [name for name, key in PER_RECORD.items() if settings.get(key)]
    lost = [name for name in wanted if name not in kept]
    if lost:
        raise InvalidOption(
            f"{folder} was run with {lost[0]} given per record, and has no {FILE_NAME} that says "
            "so: it was saved by a version that did not write it, or the file is gone. Run the "
            "calibration again, or hand the Calibration to microcalibrate.estimate in Python."
        )
    n_records = len(result.weights)
    n_rows = data.n_units if isinstance(data, Frame) else len(data)
    if n_rows != n_records:
        raise InvalidProblem(
            f"the data have {n_rows} rows, and the run in {folder} has {n_records} records."
        )
    table = result.targets
    matrix, differences, quotients = _columns(data, targets, result)
    scales = table["scale"].to_numpy()
    if quotients is not None:
        # Those of bands were kept as they are at the weights of the run, and begin at the design's.
        bands = quotients.bands(scales, table["tolerance"].to_numpy(), result.weights)
        scales = scales if bands is None else bands.scales_at(result.design_weights, scales)
    options: dict[str, Any] = {
        name: -np.inf if settings[name] == "-inf" else settings[name]
        for name in OPTIONS
        if settings.get(name) is not None
    } | dict(kept)
    if not (options.get("l0_lambda") or options.get("target_records")):
        options.pop("refit_closeness", None)
    made = Calibration(
        result.design_weights,
        table["target"].to_numpy(),
        matrix,
        target_names=table["name"].tolist(),
        tolerances=table["tolerance"].to_numpy(),
        importances=table["importance"].where(table["tolerance"].isna(), 1.0).to_numpy(),
        scales=scales,
        differences=differences,
        quotients=quotients,
        **options,
    )
    weights = made.calibrate(int(settings["max_iter"]), progress=progress)
    apart = float(np.abs(weights - result.weights).max())
    if apart > SAME_WEIGHTS * float(np.abs(result.weights).max()):
        raise InvalidProblem(
            f"these data and targets do not give the weights in {folder}: they differ by up to "
            f"{apart:.3g}. Hand over the data and targets of the run, or run it again with these."
        )
    return made


def _columns(
    data: pd.DataFrame | Frame, targets: Any, result: CalibrationResult
) -> tuple[Any, tuple[Difference, ...], Quotients | None]:
    """The estimate matrix, with a column for each target of the run, and which are quotients."""
    if not (hasattr(targets, "columns") and "name" in targets.columns):
        return targets, (), None
    weights = result.design_weights
    if isinstance(data, Frame):
        unit, rows_of = data.unit, data.rows_of
        built = targets_of_units(
            data.tables,
            unit,
            lambda name: rows_of(name, unit),
            targets,
            weights,
            differences=True,
        )
    else:
        built = build_targets(data, targets, initial_weights=weights, differences=True)
    wanted = result.targets["name"].tolist()
    place = {name: column for column, name in enumerate(built.names)}
    missing = [name for name in wanted if name not in place]
    if missing or len(place) != len(wanted):
        what = f'"{missing[0]}"' if missing else "fewer targets"
        raise InvalidProblem(
            f"the run is calibrated to {what}, and the table of targets says otherwise. Hand over "
            "the table that was calibrated to."
        )
    order = [place[name] for name in wanted]
    differences = [one.moved_to(order.index(one.column)) for one in built.differences]
    quotients = built.quotients
    if quotients is not None:
        places = np.array([order.index(column) for column in quotients.columns])
        quotients = replace(quotients, columns=places)
    return built.matrix[:, order], tuple(differences), quotients
