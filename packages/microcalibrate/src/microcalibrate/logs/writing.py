"""Writing a log in dialect A, which other viewers of calibrations read, and its facts beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import Vector
from microcalibrate.atomic import PathLike, atomic_path
from microcalibrate.errors import InvalidOption, UnwritableFile
from microcalibrate.io import write_json
from microcalibrate.logs.columns import FORMAT, HEADER, guarded
from microcalibrate.logs.facts import facts_file


def write_log(
    path: PathLike,
    *,
    epochs: NDArray[np.int64] | Sequence[int],
    losses: Vector | Sequence[float],
    target_names: Sequence[str],
    targets: Vector,
    estimates: NDArray[np.float64],
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write what each target was at each epoch, and a file of facts beside it.

    The log has a row per epoch and target: row number (a column without a name), `epoch`, `loss`
    (of the run, repeated for each target), `target_name`, `target`, `estimate`, `error`
    (estimate minus target), `abs_error`, and `rel_abs_error`, which is empty for a target of zero.
    Numbers are written to the last bit. A name that a spreadsheet would take for a formula gets
    an apostrophe before it, which `read_log` takes off again.

    Args:
        path: File to write; must end in .csv. The facts go to the same name with `.meta.json`
            after it.
        epochs: Shape `(n_epochs,)`, rising.
        losses: Shape `(n_epochs,)`; NaN is written as an empty cell.
        target_names: One name per target, no two alike.
        targets: Shape `(n_targets,)`.
        estimates: Shape `(n_epochs, n_targets)`.
        facts: What else to say about the run, as JSON has it: `config`, `seed`, `excluded`, …

    Returns:
        The path of the log.

    Raises:
        InvalidOption: If the shapes disagree, epochs do not rise, or a name stands twice.
        UnwritableFile: If a file cannot be written.

    Examples:
        >>> from tempfile import mkdtemp
        >>> log = write_log(
        ...     Path(mkdtemp()) / "log.csv", epochs=[0], losses=[0.5], target_names=["people"],
        ...     targets=np.array([4.0]), estimates=np.array([[5.0]]),
        ... )
        >>> log.read_text().splitlines()[1]
        '0,0,0.5,people,4,5,1,1,0.25'
    """
    file = Path(path)
    epoch, loss = np.asarray(epochs), np.asarray(losses, dtype=np.float64)
    goal, values = np.asarray(targets, dtype=np.float64), np.asarray(estimates, dtype=np.float64)
    names = [str(name) for name in target_names]
    _check(file, epoch, loss, names, goal, values)
    _write_rows(file, epoch, loss, [guarded(name) for name in names], goal, values)
    write_json(
        {
            "format": FORMAT,
            "log": file.name,
            "rows": int(values.size),
            "epochs": len(epoch),
            "targets": len(goal),
            "loss": "run",
            **(facts or {}),
        },
        facts_file(file),
    )
    return file


def weights_hash(weights: Vector) -> str:
    """SHA-256 of weights as little-endian float64, so that two runs can be told to be the same.

    Examples:
        >>> weights_hash(np.array([1.0, 2.0]))[:12]
        'dc91ce9a50dd'
    """
    return hashlib.sha256(np.ascontiguousarray(weights, dtype="<f8").tobytes()).hexdigest()


def _check(
    file: Path, epoch: Any, loss: Vector, names: list[str], goal: Vector, values: Vector
) -> None:
    if not file.name.lower().endswith(".csv"):
        raise UnwritableFile(f"{file} cannot be written: logs end in .csv. Rename it.")
    if values.shape != (len(epoch), len(goal)) or len(loss) != len(epoch):
        raise InvalidOption(
            f"estimates has shape {values.shape} for {len(epoch)} epochs, {len(loss)} losses and "
            f"{len(goal)} targets: it needs a row per epoch and a column per target."
        )
    if len(names) != len(goal) or len(set(names)) != len(names):
        raise InvalidOption(
            f"target_names has {len(names)} names, {len(set(names))} of them different, for "
            f"{len(goal)} targets. Give each target a name of its own."
        )
    if len(epoch) and (epoch.dtype.kind not in "iu" or np.any(np.diff(epoch) <= 0)):
        raise InvalidOption("epochs must be whole numbers, each greater than the one before.")


def _write_rows(
    file: Path, epoch: Any, loss: Vector, names: list[str], goal: Vector, values: Vector
) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    def text(column: Any) -> Any:
        """Numbers as text, to the last bit; NaN as an empty cell."""
        return pc.fill_null(pc.cast(pa.array(column, from_pandas=True), pa.string()), "")

    n = len(goal)
    cells, goals = pa.array([_cell(name) for name in names], type=pa.string()), text(goal)
    with atomic_path(file) as unfinished, unfinished.open("wb") as sink:
        sink.write(("," + ",".join(HEADER) + "\n").encode())
        # An epoch at a time: the text of a long log is many times larger than its estimates.
        for number, estimates in enumerate(values):
            error = estimates - goal
            with np.errstate(divide="ignore", invalid="ignore"):
                relative = np.where(goal != 0, np.abs(error) / np.abs(goal), np.nan)
            lines = pc.binary_join_element_wise(
                text(np.arange(number * n, (number + 1) * n)),
                str(epoch[number]),
                text(loss[number : number + 1])[0],
                cells,
                goals,
                text(estimates),
                text(error),
                text(np.abs(error)),
                text(relative),
                ",",
            )
            sink.write("".join(f"{line}\n" for line in lines.to_pylist()).encode())


def _cell(name: str) -> str:
    """A name as a cell of a CSV file, in quotes where it needs them."""
    needs_quotes = not name or any(mark in name for mark in ',"\r\n')
    return '"' + name.replace('"', '""') + '"' if needs_quotes else name
