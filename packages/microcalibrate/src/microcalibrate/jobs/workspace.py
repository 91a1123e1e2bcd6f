"""A folder with data sets and runs: all there is to know is in it, and nowhere else."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from microcalibrate.atomic import atomic_path
from microcalibrate.errors import (
    CalibrationError,
    InvalidOption,
    StillRunning,
    UnknownRun,
    UnwritableFile,
)
from microcalibrate.jobs.dataset import ABOUT_NAME, Dataset
from microcalibrate.jobs.facts import STATE_NAME, Facts
from microcalibrate.jobs.mending import (
    DATASETS,
    SLOTS_VARIABLE,
    UPLOADS,
    launch,
    mend,
    run_folders,
    sweep,
)
from microcalibrate.jobs.run import (
    CONFIG_NAME,
    LOG_NAME,
    PROGRESS_NAME,
    RESULT_NAME,
    Run,
    delete_folder,
    is_id,
)
from microcalibrate.jobs.uploads import UPLOAD_LIMIT, Source, as_name, file_name, store, suffix_of
from microcalibrate.jobs.waiting import QUEUE, RUNS, SLOTS, ticket_name

MARKER = ".microcalibrate-workspace"
_COMMAND = re.compile(r"[a-z][a-z-]*")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_OWN_FILES = {CONFIG_NAME, STATE_NAME, PROGRESS_NAME, LOG_NAME, RESULT_NAME}
# What systems take as one argument of a process.
MOST_BYTES_OF_AN_ARGUMENT = 100_000
SECONDS_FOR_AN_END = 15.0


class Workspace:
    """Data sets and runs of one user, in one folder that only this user may read.

    Several processes may have it open at the same time. Opening puts in order what killed
    processes left behind.

    Args:
        folder: Where; it is made if it is missing. None is the user's own data folder.
        n_slots: How many runs work at the same time; None takes the environment variable
            `MICROCALIBRATE_JOBS`, or one at a time.

    Attributes:
        folder: Where it is.
        n_slots: How many runs work at the same time.

    Raises:
        UnwritableFile: If the folder cannot be made, or is something else than a workspace.
        InvalidOption: If the number of slots is not from 1.

    Examples:
        >>> from tempfile import mkdtemp
        >>> Workspace(Path(mkdtemp()) / "work").runs()
        []
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, n_slots: int | None = None
    ) -> None:
        self.n_slots = _checked_slots(n_slots)
        self.folder = _own_folder() if folder is None else Path(folder).expanduser().absolute()
        _make(self.folder)
        sweep(self.folder)
        mend(self.folder, self.n_slots)

    # --- Runs -------------------------------------------------------------------------------------

    def submit(
        self,
        command: str,
        arguments: Sequence[str],
        name: str = "",
        *,
        files: Mapping[str, bytes] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Run:
        """Have a command of `microcalibrate` run by a process of its own, now or in its turn.

        Args:
            command: Such as "calibrate".
            arguments: What follows it on a command line; "{run}" stands for the run's folder, in
                which the command works: paths of other files are absolute.
            name: What people call the run; it is only shown.
            files: Contents by name, written into the run's folder before it begins.
            details: Plain values to remember.

        Returns:
            The run, which goes on when this process ends.

        Raises:
            InvalidOption: If a part cannot be honoured.
            UnwritableFile: If the workspace cannot be written.
        """
        return self._submit(
            str(uuid4()), command, list(arguments), name or command, files or {}, details or {}
        )

    def _submit(
        self,
        run_id: str,
        command: str,
        arguments: list[str],
        name: str,
        files: Mapping[str, bytes],
        details: Mapping[str, Any],
    ) -> Run:
        _check_words(command, arguments)
        _check_files(files)
        created_ns = time.time_ns()
        config = {
            "name": as_name(name),
            "command": command,
            "arguments": arguments,
            "details": dict(details),
            "created_ns": created_ns,
        }
        try:
            text = json.dumps(config, indent=1, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidOption(f"details cannot be kept as JSON: {error}.") from error
        folder = self.folder / RUNS / run_id
        unfinished = folder.with_name(f".{run_id}")
        try:
            unfinished.mkdir()
            for file, content in files.items():
                (unfinished / file).write_bytes(content)
            (unfinished / CONFIG_NAME).write_text(text, encoding="utf-8")
            Facts().write(unfinished)
            os.rename(unfinished, folder)
            run = Run.read(folder)
            (self.folder / QUEUE / run.ticket).touch()
            launch(folder, self.n_slots)
        except OSError as error:
            for part in (unfinished, folder):
                shutil.rmtree(part, ignore_errors=True)
            (self.folder / QUEUE / ticket_name(run_id, created_ns)).unlink(missing_ok=True)
            raise UnwritableFile(
                f"no run can be made in {self.folder}: {error.strerror or error}. Make room, or "
                "choose another workspace."
            ) from error
        return run

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        found = []
        for folder in run_folders(self.folder):
            try:
                found.append(Run.read(folder))
            except UnknownRun:
                continue  # It is being deleted.
        return sorted(found, key=lambda run: (run.created, run.ticket), reverse=True)

    def run(self, run_id: str) -> Run:
        """The run of an id.

        Raises:
            UnknownRun: If there is none.
        """
        return Run.read(self.folder / RUNS / _checked_id(run_id, "run"))

    # --- Data sets --------------------------------------------------------------------------------

    def add_upload(
        self,
        name: str,
        source: Source,
        *,
        limit: int = UPLOAD_LIMIT,
        encoding: str | None = None,
    ) -> Dataset:
        """Take in a table, and have it imported by a run of its own.

        Args:
            name: Of the file; its end says what it holds, and the rest is only shown.
            source: A path, an open binary file, or pieces of bytes.
            limit: Most bytes that are taken.
            encoding: Of a CSV file, such as "cp1252"; None is UTF-8.

        Returns:
            The data set; its profile is there when its run is done.

        Raises:
            UploadRefused: If the file is too large, empty, or of another kind.
            DiskFull: If it would fill the disk.
            UnwritableFile: If it cannot be stored.
        """
        suffix, shown = suffix_of(name), file_name(name)
        dataset_id, run_id = str(uuid4()), str(uuid4())
        upload = self.folder / UPLOADS / (dataset_id + suffix)
        size = store(source, upload, limit=limit, name=shown)
        folder = self.folder / DATASETS / dataset_id
        about = {
            "name": shown,
            "suffix": suffix,
            "size": size,
            "created": time.time(),
            "run": run_id,
        }
        unfinished = folder.with_name(f".{dataset_id}")
        unfinished.mkdir()
        (unfinished / ABOUT_NAME).write_text(json.dumps(about, indent=1), encoding="utf-8")
        os.rename(unfinished, folder)
        try:
            return self._import(Dataset.read(folder), encoding)
        except CalibrationError:
            # Without an import there would be a data set that nobody can use.
            delete_folder(folder)
            upload.unlink(missing_ok=True)
            raise

    def import_again(self, dataset_id: str, *, encoding: str | None = None) -> Dataset:
        """Import a data set once more from the file that was uploaded.

        Args:
            dataset_id: Which.
            encoding: Of a CSV file, such as "cp1252"; None is UTF-8.

        Raises:
            UnknownRun: If there is none.
            StillRunning: If a run that uses it is not over.
        """
        dataset = self.dataset(dataset_id)
        self._check_unused(dataset)
        with suppress(UnknownRun):  # Its import may have been deleted before.
            dataset.run.delete()
        about = json.loads((dataset.folder / ABOUT_NAME).read_text(encoding="utf-8"))
        with atomic_path(dataset.folder / ABOUT_NAME) as unfinished:
            unfinished.write_text(json.dumps(about | {"run": str(uuid4())}, indent=1))
        return self._import(self.dataset(dataset_id), encoding)

    def _import(self, dataset: Dataset, encoding: str | None) -> Dataset:
        # Names may begin with a hyphen, so they are not given as words of their own.
        words = [str(dataset.upload), "--out", str(dataset.imported), f"--name={dataset.name}"]
        if encoding is not None:
            words.append(f"--encoding={encoding}")
        about = {"dataset": dataset.id}
        self._submit(dataset.run_id, "profile", words, f"import of {dataset.name}", {}, about)
        return dataset

    def datasets(self) -> list[Dataset]:
        """All data sets, newest first."""
        found = []
        for folder in (self.folder / DATASETS).iterdir():
            if is_id(folder.name):
                try:
                    found.append(Dataset.read(folder))
                except UnknownRun:
                    continue  # It is being deleted.
        return sorted(found, key=lambda dataset: dataset.created, reverse=True)

    def dataset(self, dataset_id: str) -> Dataset:
        """The data set of an id.

        Raises:
            UnknownRun: If there is none.
        """
        return Dataset.read(self.folder / DATASETS / _checked_id(dataset_id, "data set"))

    def delete_dataset(self, dataset_id: str) -> None:
        """Remove a data set: the file that was uploaded, its table, and the run that imported it.

        What runs wrote that used it stays, until they are deleted.

        Raises:
            UnknownRun: If there is none.
            StillRunning: If a run that uses it is not over.
            UnwritableFile: If files cannot be removed.
        """
        dataset = self.dataset(dataset_id)
        self._check_unused(dataset, besides=dataset.run_id)
        with suppress(UnknownRun):  # Its import may have been deleted before.
            _ended(dataset.run).delete()
        delete_folder(dataset.folder)
        dataset.upload.unlink(missing_ok=True)

    def _check_unused(self, dataset: Dataset, besides: str = "") -> None:
        for run in self.runs():
            is_user = run.id != besides and any(dataset.id in word for word in run.words)
            if is_user and not run.state.is_over:
                raise StillRunning(
                    f'data set "{dataset.name}" is used by run "{run.name}", which is '
                    f"{run.state.value}. Cancel it, or wait for its end."
                )


def _ended(run: Run) -> Run:
    """The same run, cancelled and over."""
    run.cancel()
    deadline = time.monotonic() + SECONDS_FOR_AN_END
    while not run.state.is_over and time.monotonic() < deadline:
        time.sleep(0.1)
    return run


def _checked_slots(given: int | None) -> int:
    said = os.environ.get(SLOTS_VARIABLE, "1") if given is None else given
    try:
        n_slots = int(said)
    except ValueError:
        n_slots = 0
    if n_slots < 1:
        where = f"the environment variable {SLOTS_VARIABLE}" if given is None else "n_slots"
        raise InvalidOption(f"{where}={said!r} must be a whole number from 1.")
    return n_slots


def _own_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_dir("microcalibrate", appauthor=False))


def _make(folder: Path) -> None:
    """Make a workspace of a folder that is missing or empty, and leave any other folder alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (folder / MARKER).exists():
            if any(folder.iterdir()):
                raise UnwritableFile(
                    f"{folder} has files in it and is no workspace, so it is left alone. Choose a "
                    "new or empty folder."
                )
            (folder / MARKER).write_text("Data sets and runs of microcalibrate.\n")
        folder.chmod(0o700)
        for part in (UPLOADS, DATASETS, RUNS, QUEUE, SLOTS):
            (folder / part).mkdir(exist_ok=True)
    except OSError as error:
        if isinstance(error, UnwritableFile):
            raise
        raise UnwritableFile(
            f"{folder} cannot be a workspace: {error.strerror or error}. Choose another folder."
        ) from error


def _checked_id(text: str, what: str) -> str:
    if not is_id(text):
        raise UnknownRun(f"{text[:60]!r} is no id of a {what}.")
    return text


def _check_words(command: str, arguments: Sequence[str]) -> None:
    if not _COMMAND.fullmatch(command):
        raise InvalidOption(f"command={command!r} must be the name of a command.")
    for word in arguments:
        if not isinstance(word, str) or "\0" in word:
            raise InvalidOption(f"arguments: {word!r} is no text that a command line can have.")
        try:
            size = len(os.fsencode(word))
        except UnicodeEncodeError as error:
            raise InvalidOption(f"arguments: {word!r} cannot be encoded: {error}.") from error
        if size > MOST_BYTES_OF_AN_ARGUMENT:
            raise InvalidOption(
                f"arguments: one of {size:,} bytes is too long for a command line. Put it into "
                "a file."
            )


def _check_files(files: Mapping[str, bytes]) -> None:
    for name in files:
        if not _FILE.fullmatch(name) or name in _OWN_FILES:
            raise InvalidOption(
                f"files: {name[:100]!r} must be a plain name of letters, digits, _, - and ., and "
                f"none of {', '.join(sorted(_OWN_FILES))}."
            )
