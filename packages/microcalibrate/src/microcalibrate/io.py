"""Files in and out: tables and matrices are read whole or not at all, and written likewise."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from microcalibrate.atomic import PathLike, atomic_path
from microcalibrate.errors import (
    CalibrationError,
    InvalidOption,
    MissingExtra,
    UnreadableFile,
    UnwritableFile,
)

if TYPE_CHECKING:
    import pandas as pd

Vector: TypeAlias = npt.NDArray[np.float64]

TABLE_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".feather")

_OPTIONAL = {"tolerance": np.nan, "importance": 1.0, "scale": np.nan}  # what a blank stands for

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula


@dataclass(frozen=True, eq=False)
class StoredProblem:
    """A calibration problem as it lies in a folder; the names are those of `Calibration`.

    Attributes:
        weights: Design weights, shape `(n_records,)`.
        targets: Target totals, shape `(n_targets,)`.
        estimate_matrix: What each record adds to each target per unit of weight, float64 CSR of
            shape `(n_records, n_targets)`.
        target_names: One name per target.
        families: Group of each target, `""` for none.
        tolerances: Allowed relative errors, shape `(n_targets,)`: 0 exact, NaN soft.
        importances: Of each target, shape `(n_targets,)`.
        scales: What an error of 1 means, shape `(n_targets,)`; NaN is the target's size.
    """

    weights: Vector
    targets: Vector
    estimate_matrix: sp.csr_array
    target_names: tuple[str, ...]
    families: tuple[str, ...]
    tolerances: Vector
    importances: Vector
    scales: Vector


# --- Reading --------------------------------------------------------------------------------------


def read_table(path: PathLike) -> pd.DataFrame:
    """Table in a CSV, Parquet or Feather file.

    Args:
        path: File that ends in .csv, .csv.gz, .parquet or .feather. CSV files are separated by
            commas and encoded in UTF-8, with or without a byte order mark.

    Returns:
        The table, with the numbers that were written to the last bit.

    Raises:
        UnreadableFile: If the file is missing, empty, damaged or of another format.
        MissingExtra: If a library for the format is not installed.
    """
    file = existing_file(path, TABLE_SUFFIXES)
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra(_NEEDS_PANDAS) from error
    with reading(file):
        if file.name.lower().endswith(".parquet"):
            return pd.read_parquet(file)
        if file.name.lower().endswith(".feather"):
            return pd.read_feather(file)
        _check_csv_header(file)
        # Before 3.1 the default parser of pandas is off in the last place now and then.
        is_inexact = tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1)
        exact: dict[str, Any] = {"float_precision": "round_trip"} if is_inexact else {}
        return pd.DataFrame(pd.read_csv(file, encoding="utf-8-sig", **exact))


def read_matrix(path: PathLike) -> sp.csr_array:
    """Matrix in an NPZ file, saved by `scipy.sparse.save_npz` or as a dense array `matrix`.

    Args:
        path: File that ends in .npz.

    Returns:
        The matrix as float64 CSR, shape `(n_records, n_targets)`.

    Raises:
        UnreadableFile: If the file is missing, empty, damaged, of another format, or holds
            pickled objects.
    """
    file = existing_file(path, (".npz",))
    with reading(file):
        content = _read_npz(file)
        matrix: Any
        if "format" in content:
            matrix = sp.csr_array(sp.load_npz(file))
            # Positions outside of the matrix would be read from anywhere in memory.
            matrix.check_format(full_check=True)
        elif "matrix" in content:
            if content["matrix"].ndim != 2:
                raise UnreadableFile(
                    f"{file}: its array 'matrix' has shape {content['matrix'].shape}, and it must "
                    "have a row per record and a column per target."
                )
            matrix = sp.csr_array(_numbers(content["matrix"], file, "matrix"))
        else:
            raise UnreadableFile(
                f"{file} has the arrays {sorted(content)}, and neither a sparse matrix nor an "
                "array 'matrix'. Save it with scipy.sparse.save_npz, or with "
                "numpy.savez(path, matrix=...)."
            )
        return sp.csr_array(matrix, dtype=np.float64)


def read_problem(folder: PathLike) -> StoredProblem:
    """Calibration problem that lies in a folder.

    Args:
        folder: Folder with `matrix.npz` (see `read_matrix`), `weights.npz` (array `weights`) and
            `targets.csv` (`name`, `target`; optional `family`, `tolerance`, `importance`, `scale`).

    Returns:
        The problem, with as many rows as weights and as many columns as targets.

    Raises:
        UnreadableFile: If a file is missing or cannot be read, or the files do not fit together.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UnreadableFile(f"{root} is no folder with matrix.npz, targets.csv and weights.npz.")
    matrix = read_matrix(root / "matrix.npz")
    table = read_table(root / "targets.csv")
    weights_file = existing_file(root / "weights.npz", (".npz",))
    with reading(weights_file):
        content = _read_npz(weights_file)
    missing = [name for name in ("name", "target") if name not in table.columns]
    if missing:
        raise UnreadableFile(
            f"{root / 'targets.csv'} has no column {missing[0]!r} (it has "
            f"{', '.join(map(repr, table.columns))}). Add it."
        )
    if "weights" not in content:
        raise UnreadableFile(
            f"{weights_file} has the arrays {sorted(content)}, and no array 'weights'. "
            "Save it with numpy.savez(path, weights=...)."
        )
    weights = _numbers(content["weights"], weights_file, "weights")
    if matrix.shape != (weights.size, len(table)) or weights.ndim != 1:
        raise UnreadableFile(
            f"{root}: matrix.npz has shape {matrix.shape}, and there are weights of shape "
            f"{weights.shape} and {len(table)} targets. It needs a row per weight and a column "
            "per target."
        )
    families = table["family"].fillna("") if "family" in table.columns else [""] * len(table)
    optional = {name: table.get(name, blank) for name, blank in _OPTIONAL.items()}
    table = table.assign(**optional).fillna({"importance": 1.0})
    targets, *others = (
        _numbers(table[name].to_numpy(), root / "targets.csv", name)
        for name in ("target", *_OPTIONAL)
    )
    return StoredProblem(
        weights=weights,
        targets=targets,
        estimate_matrix=matrix,
        target_names=tuple(map(str, table["name"])),
        families=tuple(map(str, families)),
        **dict(zip(("tolerances", "importances", "scales"), others, strict=True)),
    )


def read_json(path: PathLike) -> Any:
    """Object in a file that ends in .json: dictionaries, lists, texts, numbers and None.

    Raises:
        UnreadableFile: If the file is missing, empty or damaged.
    """
    file = existing_file(path, (".json",))
    with reading(file):
        return json.loads(file.read_text(encoding="utf-8"))


_NEEDS_PANDAS = "tables need pandas and pyarrow. Install them with: pip install pandas pyarrow"


def existing_file(path: PathLike, suffixes: tuple[str, ...]) -> Path:
    """A file that is there, is not empty and has one of the endings; `UnreadableFile` if not."""
    file = Path(path)
    if file.is_dir():
        raise UnreadableFile(f"{file} is a folder, and a file is needed.")
    if not file.exists():
        raise UnreadableFile(f"{file} does not exist. Check the path (from {Path.cwd()}).")
    if not file.name.lower().endswith(suffixes):
        raise UnreadableFile(
            f"{file} ends in {file.suffix!r}, and one of {', '.join(suffixes)} is needed. "
            "Save it in one of these formats."
        )
    if file.is_file() and file.stat().st_size == 0:
        raise UnreadableFile(f"{file} is empty. Write it again.")
    return file


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn what libraries raise on a damaged file into one error that says what to do."""
    try:
        yield
    except CalibrationError:
        raise
    except ImportError as error:
        raise MissingExtra(f"{file}: {_NEEDS_PANDAS}") from error
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            f"{file} is not encoded in UTF-8 (byte {error.start}: {error.reason}). "
            "In a spreadsheet, save it as 'CSV UTF-8'."
        ) from error
    except PermissionError as error:
        raise UnreadableFile(f"{file} may not be read by you. Change its permissions.") from error
    except (
        OSError,
        EOFError,
        ValueError,  # of pandas and pyarrow: their parser errors are value errors
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        NotImplementedError,
        MemoryError,
        RecursionError,  # of JSON that is nested without end
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UnreadableFile(
            f"{file} is damaged or of another format than its name says ({reason}). Write it again."
        ) from error


def _check_csv_header(file: Path) -> None:
    """Refuse what pandas would read without a word: one wide column, or a header twice."""
    opener = gzip.open if file.name.lower().endswith(".gz") else open
    with opener(file, "rt", encoding="utf-8-sig", newline="") as lines:
        header = next(csv.reader(lines), [])
    if not any(cell.strip() for cell in header):
        raise UnreadableFile(f"{file} has no header line. Put the column names in its first line.")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise UnreadableFile(
            f"{file} is not separated by commas (its header is {header[0]!r}). "
            "Save it with commas between the columns."
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise UnreadableFile(
            f"{file} has more than one column {twice[0]!r}. Give each column a name of its own."
        )


def _read_npz(file: Path) -> dict[str, npt.NDArray[Any]]:
    if not zipfile.is_zipfile(file):
        raise UnreadableFile(
            f"{file} is damaged or no NPZ file. Save it with numpy.savez or scipy.sparse.save_npz."
        )
    with np.load(file, allow_pickle=False) as content:
        try:
            return {name: content[name] for name in content.files}
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise UnreadableFile(
                f"{file} holds pickled objects, which can run code when they are read. "
                "Save plain numbers instead."
            ) from error


def _numbers(values: npt.NDArray[Any], file: Path, name: str) -> Vector:
    if values.dtype.kind not in "biuf":
        raise UnreadableFile(f"{file}: {name!r} is of type {values.dtype}, and must be numbers.")
    return values.astype(np.float64)


# --- Writing --------------------------------------------------------------------------------------


def write_table(frame: Any, path: PathLike, *, guard_formulas: bool = False) -> None:
    """Write a table, whole or not at all. The index of a pandas table is not written.

    Args:
        frame: pandas or polars DataFrame.
        path: File that ends in .csv, .csv.gz, .parquet or .feather.
        guard_formulas: Put an apostrophe before each text in a CSV that a spreadsheet would take
            for a formula (it starts with = + - @ or a tab).

    Raises:
        UnwritableFile: If the file cannot be written, or the format cannot hold the table.
        InvalidOption: If formulas are to be guarded in a format that no spreadsheet opens.
    """
    name = os.fspath(path).lower()
    if not name.endswith(TABLE_SUFFIXES):
        raise UnwritableFile(
            f"{path} cannot be written: tables end in {', '.join(TABLE_SUFFIXES)}. Rename it."
        )
    is_csv = name.endswith((".csv", ".csv.gz"))
    if guard_formulas and not is_csv:
        raise InvalidOption(f"guard_formulas is for CSV files, and {path} is none. Leave it out.")
    table: pd.DataFrame = frame.to_pandas() if hasattr(frame, "to_pandas") else frame
    if guard_formulas:
        table = _guarded(table)
    with atomic_path(path) as unfinished:
        try:
            if name.endswith(".parquet"):
                table.to_parquet(unfinished, index=False)
            elif name.endswith(".feather"):
                table.reset_index(drop=True).to_feather(unfinished)
            else:
                # A time stamp in the archive would make equal tables unequal files.
                packed = {"method": "gzip", "mtime": 0} if name.endswith(".gz") else None
                table.to_csv(unfinished, index=False, encoding="utf-8", compression=packed)
        except ImportError as error:
            raise MissingExtra(f"{path}: {_NEEDS_PANDAS}") from error
        except (TypeError, ValueError) as error:
            raise UnwritableFile(
                f"{path} cannot hold this table ({str(error).splitlines()[0]}). Give each column "
                "a name that is text and values of one type."
            ) from error


def write_json(obj: Any, path: PathLike) -> None:
    """Write an object as JSON, whole or not at all.

    Args:
        obj: Dictionaries with text keys, lists, tuples, texts, numbers, truth values and None;
            NumPy arrays and numbers and paths are turned into these.
        path: File to write.

    Raises:
        UnwritableFile: If the file cannot be written, or JSON has no word for a value in it
            (NaN and infinities among them); the message says where it is.
    """
    text = json.dumps(_plain(obj, path, "$"), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any, path: PathLike, where: str) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise UnwritableFile(
            f"{path} cannot be written: {where} is {value}, which JSON cannot say. Use None."
        )
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [_plain(item, path, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, path, f"{where}.{key}") for key, item in value.items()}
    raise UnwritableFile(
        f"{path} cannot be written: {where} is a {type(value).__name__}, which JSON cannot say. "
        "Use dictionaries with text keys, lists, texts and numbers."
    )


def _guarded(table: pd.DataFrame) -> pd.DataFrame:
    def guard(cell: Any) -> Any:
        return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell

    guarded = table.rename(columns=guard)
    for position, dtype in enumerate(table.dtypes):
        if dtype.kind not in "biufcmM":
            column = table.iloc[:, position].astype(object).map(guard).to_numpy()
            guarded.isetitem(position, column)
    return guarded
