"""Saved generators: JSON and plain arrays, which run nothing when they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from microcalibrate.atomic import PathLike, run_folder
from microcalibrate.errors import ModelMismatch, UnreadableFile
from microcalibrate.io import read_json, write_json
from microcalibrate.regularise.slots import SlotColumn

FORMAT = "microcalibrate.generator/1"
MODEL, ARRAYS = "model.json", "arrays.safetensors"
PACKAGES = ("microcalibrate", "numpy", "torch")
PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".dill", ".ckpt")


@dataclass(frozen=True, eq=False)
class StoredModel:
    """What a folder of a generator holds.

    Attributes:
        backend: Name of the generator.
        columns: Slot columns that it was fitted to.
        settings: Its options and what else is not an array.
        arrays: Arrays by name.
        versions: Releases of the packages that wrote it.
    """

    backend: str
    columns: tuple[SlotColumn, ...]
    settings: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]
    versions: dict[str, str]


def columns_hash(columns: Sequence[SlotColumn]) -> str:
    """SHA-256 of the declaration of slot columns."""
    text = json.dumps([_plain_column(column) for column in columns], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_model(
    folder: PathLike,
    backend: str,
    columns: Sequence[SlotColumn],
    settings: Mapping[str, Any],
    arrays: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Save a generator as `model.json` and `arrays.safetensors`; the same one, the same bytes.

    Args:
        folder: New, empty, or of an earlier run, which is replaced.
        backend: Name of the generator.
        columns: Its slot columns.
        settings: What JSON can say.
        arrays: Numbers and truth values by name.

    Raises:
        UnwritableFile: If the folder cannot be written.
    """
    from safetensors.numpy import save

    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    content = {
        "format": FORMAT,
        "backend": backend,
        "versions": _versions(),
        "columns_hash": columns_hash(columns),
        "arrays_hash": hashlib.sha256(data).hexdigest(),
        "settings": dict(settings),
        "columns": [_plain_column(column) for column in columns],
    }
    with run_folder(folder) as unfinished:
        write_json(content, unfinished / MODEL)
        (unfinished / ARRAYS).write_bytes(data)


def read_model(
    folder: PathLike,
    *,
    backend: str | None = None,
    columns: Sequence[SlotColumn] | None = None,
    other_versions: bool = False,
) -> StoredModel:
    """Read a saved generator. Nothing in the folder is executed.

    Args:
        folder: Folder that `write_model` wrote.
        backend: Generator that it must be of; None for any.
        columns: Slot columns that it must have been fitted to; None for any.
        other_versions: Accept one written with other releases of NumPy, torch or this package.
            It may then draw other records from the same seed.

    Raises:
        UnreadableFile: If a file is missing, damaged or a pickle.
        ModelMismatch: If it is of another format, backend, other columns or other releases.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UnreadableFile(f"{root} is no folder. Give the one that a generator was saved in.")
    pickles = [file.name for file in sorted(root.iterdir()) if file.suffix in PICKLE_SUFFIXES]
    if pickles:
        raise UnreadableFile(
            f"{root} has the file {pickles[0]!r}, which can run code when it is read, and no "
            "generator is saved so. Train one anew with `fit`, and `save` it."
        )
    content = read_json(root / MODEL)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelMismatch(f"{root / MODEL} is no generator that is understood here ({FORMAT}).")
    try:
        stored = tuple(_column(entry) for entry in content["columns"])
        found = StoredModel(
            backend=str(content["backend"]),
            columns=stored,
            settings=dict(content["settings"]),
            arrays=_read_arrays(root / ARRAYS, str(content["arrays_hash"])),
            versions=dict(content["versions"]),
        )
        stored_hash = content["columns_hash"]
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableFile(f"{root / MODEL} is damaged ({error!r}). Save it again.") from error
    if stored_hash != columns_hash(stored):
        raise UnreadableFile(f"{root / MODEL} was changed by hand: its columns hash differs.")
    if backend is not None and found.backend != backend:
        raise ModelMismatch(
            f"{root} has a generator {found.backend!r}, and {backend!r} is wanted. Use "
            "`load_generator`, which takes any."
        )
    if columns is not None:
        _check_columns(root, stored, columns)
    if not other_versions:
        _check_versions(root, found.versions)
    return found


def _read_arrays(file: Path, wanted: str) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != wanted:
            raise UnreadableFile(
                f"{file} is damaged, a pickle, or of another model: it does not fit {MODEL}. "
                "Save the generator again."
            )
        return dict(load(data))
    except OSError as error:
        raise UnreadableFile(f"{file} cannot be read: {error.strerror or error}.") from error
    except SafetensorError as error:
        raise UnreadableFile(
            f"{file} is no safetensors file ({error}). Pickles are never read; save the generator "
            "again."
        ) from error


def _check_columns(root: Path, stored: Sequence[SlotColumn], wanted: Sequence[SlotColumn]) -> None:
    if columns_hash(stored) == columns_hash(wanted):
        return
    mine, theirs = ({c.name: _plain_column(c) for c in cs} for cs in (stored, wanted))
    different = sorted(
        name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)
    )
    what = (
        f"{len(different)} columns differ, first {different[0]!r}"
        if different
        else "their order differs"
    )
    raise ModelMismatch(
        f"{root} was fitted to other slot columns ({what}). Train a generator with the codec of "
        "these records, or load the codec that was saved with it."
    )


def _check_versions(root: Path, stored: Mapping[str, str]) -> None:
    for package, here in _versions().items():
        there = str(stored.get(package, "none"))
        if _series(there) != _series(here):
            raise ModelMismatch(
                f"{root} was written with {package} {there}, and {here} is installed, so it may "
                "draw other records. Install that release, train anew, or load it with "
                "other_versions=True."
            )


def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def _series(release: str) -> list[str]:
    return release.split("+")[0].split(".")[:2]


def _plain_column(column: SlotColumn) -> dict[str, Any]:
    plain = asdict(column)
    for name in ("levels", "bounds"):
        values = plain[name]
        if values is not None:
            plain[name] = [v.item() if isinstance(v, np.generic) else v for v in values]
    return plain


def _column(entry: Mapping[str, Any]) -> SlotColumn:
    plain = {field.name: entry[field.name] for field in fields(SlotColumn)}
    plain["levels"] = None if plain["levels"] is None else tuple(plain["levels"])
    plain["bounds"] = tuple(plain["bounds"])
    return SlotColumn(**plain)
