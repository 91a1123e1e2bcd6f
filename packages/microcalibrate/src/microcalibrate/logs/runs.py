"""The log of a saved run: written with its result, and read back into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import Vector
from microcalibrate.errors import UnreadableFile
from microcalibrate.logs.columns import DIALECTS
from microcalibrate.logs.facts import check_rows, read_facts
from microcalibrate.logs.history import INDEX, phases_of
from microcalibrate.logs.log import CalibrationLog, with_errors
from microcalibrate.logs.parsing import header_of, numbers_of, parsed_columns
from microcalibrate.logs.writing import write_log

if TYPE_CHECKING:
    import pandas as pd

LOG_NAME = "log.csv"
STEPS_NAME = "steps.csv"


def write_run_log(
    folder: Path,
    history: pd.DataFrame,
    steps: pd.DataFrame,
    targets: pd.DataFrame,
    facts: Mapping[str, Any],
) -> None:
    """Write the history of the targets of a run as its log.

    Args:
        folder: The run's.
        history: As `history_of_targets` returns it.
        steps: The engine's steps, with `phase`, `step` and `loss`.
        targets: With `name`, `target`, `tolerance` and `importance`.
        facts: What else the file beside the log says.
    """
    write_log(
        folder / LOG_NAME,
        epochs=_epochs(history),
        losses=_losses(history, steps),
        target_names=list(targets.name),
        targets=targets.target.to_numpy(),
        estimates=history.to_numpy(),
        facts={
            **facts,
            "excluded": _left_out(targets),
            "phases": phases_of(history, steps),
        },
    )


def log_of_run(history: pd.DataFrame, steps: pd.DataFrame, targets: pd.DataFrame) -> CalibrationLog:
    """The log of a run that need not have been saved; arguments are those of `write_run_log`."""
    import pandas as pd

    n_epochs, n_targets = history.shape
    codes = np.tile(np.arange(n_targets), n_epochs)
    table = pd.DataFrame(
        {
            "epoch": np.repeat(_epochs(history), n_targets),
            "target_name": pd.Categorical.from_codes(
                codes, categories=pd.Index(list(targets.name), dtype="object")
            ),
            "target": np.tile(targets.target.to_numpy(), n_epochs),
            "estimate": history.to_numpy().ravel(),
        }
    )
    return CalibrationLog(
        name="run",
        dialect="A",
        table=with_errors(table).assign(loss=np.repeat(_losses(history, steps), n_targets)),
        loss_kind="run" if len(steps) else "none",
        excluded=tuple(_left_out(targets)),
        facts={"phases": phases_of(history, steps)},
    )


def read_run_history(folder: Path, names: Sequence[str]) -> pd.DataFrame:
    """Read the history of the targets of a saved run.

    Args:
        folder: The run's.
        names: Of its targets, in order.

    Returns:
        What `write_run_log` was given as `history`, to the last bit.

    Raises:
        TruncatedFile: If the log does not have all the rows that were written.
        UnreadableFile: If the log or its facts are missing or damaged.
    """
    import pandas as pd

    file = folder / LOG_NAME
    facts = read_facts(file)
    columns = parsed_columns(file, header_of(file), DIALECTS[-1], only=("epoch", "estimate"))
    estimates = numbers_of(columns["estimate"])
    check_rows(file, facts, len(estimates))
    epochs = numbers_of(columns["epoch"])[:: len(names)].astype(np.int64)
    if len(estimates) != len(epochs) * len(names):
        raise UnreadableFile(
            f"{file} has {len(estimates):,} rows for {len(names):,} targets. It is not of this "
            "run; write the run again."
        )
    index = [
        (int(epoch), span["phase"], int(epoch) - span["first_epoch"])
        for span in facts.get("phases", [])
        for epoch in epochs
        if span["first_epoch"] <= epoch <= span["last_epoch"]
    ]
    if len(index) != len(epochs):
        raise UnreadableFile(
            f"{file} has epochs of no phase of this run. Run the calibration again."
        )
    return pd.DataFrame(
        estimates.reshape(len(epochs), len(names)),
        index=pd.MultiIndex.from_tuples(index, names=INDEX),
        columns=pd.Index(list(names), dtype="object"),
    )


def _epochs(history: pd.DataFrame) -> NDArray[np.int64]:
    return history.index.get_level_values("epoch").to_numpy(dtype=np.int64)


def _losses(history: pd.DataFrame, steps: pd.DataFrame) -> Vector:
    """The loss at each epoch; a phase that takes no step has a state all the same, and no loss."""
    known = (
        dict(zip(zip(steps.phase, steps.step, strict=True), steps.loss, strict=True))
        if len(steps)
        else {}
    )
    return np.array([known.get((phase, step), np.nan) for _, phase, step in history.index])


def _left_out(targets: pd.DataFrame) -> list[str]:
    """Targets that were not calibrated to: soft ones without importance."""
    return list(targets.name[targets.tolerance.isna() & (targets.importance == 0)])
