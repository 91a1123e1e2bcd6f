"""What commands on households read: surveys, surfaces, reforms, and objects of the user's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from microcalibrate.errors import CalibrationError, InvalidOption, UnreadableFile

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.diagnostics import RandomScheduleReforms
    from microcalibrate.regularise import Survey

HDF5 = (".h5", ".hdf5", ".hdf")
# Of the positive incomes: between these, brackets of drawn reforms begin.
LOW_QUANTILE, HIGH_QUANTILE = 0.2, 0.99


# --- Tables ---------------------------------------------------------------------------------------


def read_survey(data: Path, schema: Path | None) -> Survey:
    """Survey in a file or folder, with the schema beside it or given.

    Raises:
        CalibrationError: If a file is missing or damaged, or tables and schema do not fit.
    """
    from microcalibrate.regularise.survey import SCHEMA_FILE, Survey

    refuse_hdf5(data)
    if schema is None and not (data / SCHEMA_FILE).is_file():
        raise typer.BadParameter(
            f"{data} needs --schema, a JSON file that says what each column is. "
            "`microcalibrate schema` writes a first one."
        )
    return Survey.read(data, schema)


def read_tables(data: Path, entities: Sequence[str], unit: str | None) -> dict[str, pd.DataFrame]:
    """Tables in a folder, named after their files, or the table of the unit alone.

    Args:
        data: Folder, or file of the only table.
        entities: Those to read, the unit among them; none for all that are there.
        unit: What the only table is called; for a folder None where it need not be there.

    Raises:
        UnreadableFile: If there is no table, a table twice, or a file is damaged.
    """
    from microcalibrate.io import TABLE_SUFFIXES, read_table

    refuse_hdf5(data)
    if not data.is_dir() and unit is not None:
        return {unit: read_table(data)}
    files: dict[str, Path] = {}
    for file in sorted(data.iterdir()):
        suffix = next((end for end in TABLE_SUFFIXES if file.name.lower().endswith(end)), None)
        if suffix is None:
            continue
        name = file.name[: -len(suffix)]
        if entities and name not in entities:
            continue
        if name in files:
            raise UnreadableFile(
                f"{data} has {files[name].name} and {file.name}, and an entity has one table. "
                "Move one of them away."
            )
        files[name] = file
    wanted = (*entities, *(() if unit is None else (unit,)))
    absent = [name for name in wanted if name not in files]
    if absent:
        there = ", ".join(files) or "no table at all"
        raise UnreadableFile(
            f"{data} has no table of {absent[0]!r} (there is {there}). Tables are named after "
            f"their entities: {absent[0]}.parquet, {absent[0]}.csv, …"
        )
    return {name: read_table(file) for name, file in files.items()}


def table_format(data: Path) -> Literal["csv", "parquet"]:
    """Format in which tables are written that were read from here: "csv" or "parquet"."""
    names = [data.name] if not data.is_dir() else [file.name for file in data.iterdir()]
    is_csv = any(name.lower().endswith((".csv", ".csv.gz")) for name in names)
    return "csv" if is_csv else "parquet"


def refuse_hdf5(data: Path) -> None:
    """Say how tables come out of a format that needs a library of its own.

    Raises:
        UnreadableFile: If the file is of that format.
    """
    files = [data] if not data.is_dir() else sorted(data.iterdir())
    for file in files:
        if file.name.lower().endswith(HDF5):
            raise UnreadableFile(
                f"{file} is an HDF5 file, and its tables need a library that is not part of "
                "microcalibrate. Save each of them as Parquet: "
                f"pandas.read_hdf({str(file)!r}, key).to_parquet('<entity>.parquet')."
            )


# --- Surfaces and reforms -------------------------------------------------------------------------


def read_surface(given: str | None) -> Any:
    """A reporting surface: a JSON file, or an object of the user's own; None stays None.

    Raises:
        CalibrationError: If it cannot be read, or is no surface.
    """
    if given is None:
        return None
    from microcalibrate.diagnostics import Surface

    if not _is_object(given):
        return Surface.from_file(Path(given))
    found = load_object(given, "--surface")
    if callable(found):
        found = found()
    if not isinstance(found, Surface | Mapping):
        raise InvalidOption(
            f'--surface "{given}" is a {type(found).__name__}, and a Surface is needed, or a '
            "mapping with `metrics` and `slices`."
        )
    return found


def read_reforms(given: str | None, income: str | None, data: Any) -> Any:
    """Reforms: an object of the user's own, or a space of random schedules; None if neither.

    Args:
        given: `module:object`, or None.
        income: `entity.column` (or a column of the only table) that schedules are drawn on.
        data: The tables, a survey or a DataFrame.

    Raises:
        CalibrationError: If the object cannot be loaded, or there is no such income.
    """
    if income is not None:
        return _schedules(income, data)
    if given is None:
        return None
    from microcalibrate.diagnostics import ReformSpace

    if not _is_object(given):
        raise typer.BadParameter(
            f"--reforms {given} is no module:object, such as policy:REFORMS for the object "
            "REFORMS in policy.py."
        )
    found = load_object(given, "--reforms")
    if isinstance(found, ReformSpace) and not isinstance(found, type):
        return found
    # A single function is a reform; a type is made first.
    return found() if isinstance(found, type) else [found] if callable(found) else found


def _schedules(income: str, data: Any) -> RandomScheduleReforms:
    """Random schedules whose brackets begin where incomes are."""
    import numpy as np

    from microcalibrate.columns import Columns, did_you_mean
    from microcalibrate.diagnostics import RandomScheduleReforms
    from microcalibrate.errors import InvalidProblem

    tables = getattr(data, "tables", None)
    entity, dot, column = income.partition(".")
    if tables is None:
        entity, column, table = "", income, data
    elif not dot and len(tables) == 1:
        (entity, table), column = next(iter(tables.items())), income
    elif entity in tables:
        table = tables[entity]
    else:
        raise typer.BadParameter(
            f"--random-reforms {income} must be entity.column, with one of the entities "
            f"{', '.join(tables)}."
        )
    if column not in table.columns:
        raise InvalidProblem(
            f'--random-reforms: there is no column "{column}" to tax.'
            f"{did_you_mean(column, table.columns)}"
        )
    values = Columns(table).numbers(column)
    positive = values[values > 0]
    low, high = (
        np.quantile(positive, (LOW_QUANTILE, HIGH_QUANTILE)) if len(positive) else (0.0, 0.0)
    )
    if not low < high:
        raise InvalidProblem(
            f'--random-reforms: column "{column}" has no two positive amounts to draw brackets '
            "between. Name an income."
        )
    return RandomScheduleReforms(column, low=float(low), high=float(high), entity=entity or None)


def _is_object(given: str) -> bool:
    # A drive letter is one letter; a module that is called so cannot be told from it.
    module, colon, name = given.rpartition(":")
    return bool(colon) and len(module) > 1 and name.isidentifier()


def load_object(given: str, option: str) -> Any:
    """An object of the user's own, `module:object`; modules in this folder come first.

    Args:
        given: Name of a module that can be imported, a colon, and a name in it.
        option: On the command line, for messages.

    Raises:
        InvalidOption: If there is no such module or object, or importing it fails.
    """
    module, _, name = given.rpartition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        loaded = importlib.import_module(module)
    except CalibrationError:
        raise
    except Exception as error:  # whatever a user's module raises is about that module
        raise InvalidOption(
            f'{option} "{given}": importing {module} failed with {type(error).__name__}: {error}. '
            "Modules are looked for in this folder and where Python finds its packages."
        ) from error
    if not hasattr(loaded, name):
        raise InvalidOption(f'{option} "{given}": the module {module} has no {name}.')
    return getattr(loaded, name)
