"""The state of a run on disk, so that it can go on after whatever stopped it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from microcalibrate.atomic import RUN_MARKER, run_folder
from microcalibrate.errors import InvalidOption, UnreadableFile
from microcalibrate.io import read_json, write_json
from microcalibrate.regularise.history import Progress
from microcalibrate.regularise.result import RegulariseResult
from microcalibrate.regularise.survey import Survey

FORMAT = "microcalibrate.regularise-progress/1"
PROGRESS_FILE = "progress.json"


@dataclass(frozen=True, eq=False)
class Earlier:
    """What an earlier run had done.

    Attributes:
        result: The result so far.
        progress: What is needed to go on.
        finished: Whether that run had come to its end.
    """

    result: RegulariseResult
    progress: Progress
    finished: bool


def fingerprint(survey: Survey, settings: dict[str, Any], targets: Any) -> str:
    """SHA-256 of all that a run depends on: tables, schema, targets and options."""
    digest = hashlib.sha256(survey.schema.hash.encode())
    for name, table in survey.tables.items():
        digest.update(name.encode())
        digest.update(json.dumps([str(column) for column in table.columns]).encode())
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    for values in (targets.values, targets.scales, targets.tolerances, targets.importances):
        digest.update(np.ascontiguousarray(values).tobytes())
    digest.update(json.dumps([list(targets.names), settings], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def write_checkpoint(
    folder: Path, result: RegulariseResult, progress: Progress, mark: str, *, finished: bool
) -> None:
    """Write the result so far and what is needed to go on, whole or not at all."""
    with run_folder(folder) as fresh:
        result.write_into(fresh)
        write_json(
            {
                "format": FORMAT,
                "fingerprint": mark,
                "finished": finished,
                "round": progress.round,
                "pending": [[_plain(unit) for unit in part] for part in progress.pending],
            },
            fresh / PROGRESS_FILE,
        )


def read_checkpoint(folder: Path, survey: Survey, mark: str) -> Earlier | None:
    """What an earlier run had done.

    Args:
        folder: Where it wrote.
        survey: The survey as it comes.
        mark: Fingerprint of this run.

    Returns:
        What it left; None where there is no folder yet.

    Raises:
        UnreadableFile: If the folder holds something else, or is damaged.
        InvalidOption: If that run had other data or options.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return None
    if not (folder / RUN_MARKER).is_file() or not (folder / PROGRESS_FILE).is_file():
        raise UnreadableFile(
            f"{folder} has no {PROGRESS_FILE}, so there is nothing to resume. Choose the folder of "
            "a run that was stopped, or leave `resume` out."
        )
    values = read_json(folder / PROGRESS_FILE)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UnreadableFile(f"{folder / PROGRESS_FILE} is of another version. Run it anew.")
    if values["fingerprint"] != mark:
        raise InvalidOption(
            f"resume=True, but {folder} is of a run with other data, targets or options. Use the "
            "same ones, or another folder."
        )
    found = RegulariseResult.load(folder, survey.schema)
    progress = Progress(
        round=int(values["round"]),
        pending=values["pending"],
        irreducible=dict(
            zip(found.irreducible["id"].tolist(), found.irreducible["reason"].tolist(), strict=True)
        ),
        rounds=_rows(found.rounds.drop(columns="seconds")),
        offenders=_rows(found.offenders),
        offspring={
            row["id"]: (row["source"], row["fraction"], row["achieved"])
            for row in found.lineage.to_dict("records")
        },
        seconds=list(found.seconds["rounds"]),
    )
    return Earlier(found, progress, bool(values["finished"]))


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _plain(unit: Any) -> Any:
    return unit.item() if isinstance(unit, np.generic) else unit
