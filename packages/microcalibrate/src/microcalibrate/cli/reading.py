"""How commands read their data: a table, linked tables, or the folder of a problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from microcalibrate.cli.inputs import Inputs
from microcalibrate.cli.linked import Source, linked_arguments

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.diagnostics.frame import Frame
    from microcalibrate.targets import Targets


def read_inputs(
    source: Source,
    tolerance: float | None,
    untargeted: Sequence[str] = (),
    per_record: Mapping[str, str] | None = None,
    *,
    differences: bool = False,
) -> Inputs:
    """Data of a command: a table of records, linked tables, or the folder of a problem.

    Args:
        source: Where they lie.
        tolerance: Of targets without one of their own.
        untargeted: Columns of a table, or for a folder one NPZ file with a matrix.
        per_record: Columns of a table that options take their values from, by option.
        differences: Whether targets may be differences of quotients.

    Raises:
        CalibrationError: If something cannot be read, or does not fit together.
    """
    columns = per_record or {}
    if source.is_linked:
        return _from_tables(source, tolerance, untargeted, columns, differences)
    source.refuse_links()
    if source.is_problem:
        if columns:
            raise typer.BadParameter(
                f"--{next(iter(columns))} names a column, and {source.data} is a folder without "
                "any. Calibrate a table, or use the library."
            )
        return _from_folder(source, tolerance, untargeted)
    return _from_table(source, tolerance, untargeted, columns, differences)


def _from_table(
    source: Source,
    tolerance: float | None,
    untargeted: Sequence[str],
    per_record: Mapping[str, str],
    differences: bool,
) -> Inputs:
    data, weight, targets = source.data, source.weight, source.targets
    if weight is None or targets is None:
        raise typer.BadParameter(
            f"{data} needs --weight (the column with the design weights) and --targets (a table "
            "of targets). Only a folder with matrix.npz brings its own."
        )
    from microcalibrate.arrays import checked_weights
    from microcalibrate.columns import did_you_mean
    from microcalibrate.errors import InvalidProblem
    from microcalibrate.io import read_table
    from microcalibrate.structure import columns_for
    from microcalibrate.targets import build_targets

    declared, table = read_table(targets), read_table(data)
    if weight not in table.columns:
        raise InvalidProblem(
            f'{data} has no column "{weight}" to take design weights from.'
            f"{did_you_mean(weight, table.columns)}"
        )
    refuse_entities(declared, data)
    names = None if source.id_column is None else _record_names(data, table, source.id_column)
    weights = checked_weights(table[weight].to_numpy())
    built = build_targets(
        table,
        _with_tolerance(declared, tolerance),
        initial_weights=weights,
        differences=differences,
    )
    return _inputs(
        built,
        weights,
        record_ids=names,
        untargeted=_columns(data, table, untargeted) if untargeted else None,
        per_record=columns_for(table, per_record),
    )


def _from_tables(
    source: Source,
    tolerance: float | None,
    untargeted: Sequence[str],
    per_record: Mapping[str, str],
    differences: bool,
) -> Inputs:
    if source.targets is None:
        raise typer.BadParameter(f"{source.data} needs --targets, a table of targets.")
    from microcalibrate.io import read_table
    from microcalibrate.linked_tables import linked_units, without_rows
    from microcalibrate.structure import columns_for
    from microcalibrate.targets import targets_of_units

    declared = _with_tolerance(read_table(source.targets), tolerance)
    frame, weights = linked_units(**linked_arguments(source))
    built = targets_of_units(
        frame.tables,
        frame.unit,
        lambda name: frame.rows_of(name, frame.unit),
        declared,
        weights,
        differences=differences,
    )
    table = frame.tables[frame.unit]
    return _inputs(
        built,
        weights,
        record_ids=frame.unit_ids,
        untargeted=_columns_of_units(frame, untargeted) if untargeted else None,
        per_record=columns_for(table, per_record),
        notes=without_rows(frame),
    )


def _inputs(built: Targets, weights: Any, **further: Any) -> Inputs:
    return Inputs(
        weights=weights,
        targets=built.values,
        estimate_matrix=built.matrix,
        target_names=built.names,
        families=[family or None for family in built.families],
        tolerances=built.tolerances,
        importances=built.importances,
        scales=built.scales,
        differences=built.differences,
        quotients=built.quotients,
        **further,
    )


def _with_tolerance(declared: pd.DataFrame, tolerance: float | None) -> pd.DataFrame:
    """The targets, with a tolerance for those that have none of their own."""
    if tolerance is not None:
        own = declared["tolerance"] if "tolerance" in declared.columns else None
        declared["tolerance"] = tolerance if own is None else own.fillna(tolerance)
    return declared


def refuse_entities(declared: pd.DataFrame, data: Path) -> None:
    """Refuse targets of several entities where there is one table: they would all count its rows.

    Args:
        declared: The table of targets.
        data: The only table.
    """
    if "entity" not in declared.columns:
        return
    named = declared["entity"].astype("object").where(declared["entity"].notna(), "")
    found = sorted(set(map(str, named)))
    if len(found) > 1:
        others = " and ".join(repr(name) for name in found if name)
        raise typer.BadParameter(
            f"the targets are of several entities ({others} in the column `entity`), and {data} is "
            "one table. Add the others with --table, or leave out their targets."
        )


def _record_names(data: Path, table: pd.DataFrame, column: str) -> Any:
    from microcalibrate.errors import InvalidProblem

    if column not in table.columns:
        raise InvalidProblem(f"{data} has no column {column!r} to name the records with.")
    names = table[column]
    if names.isna().any() or names.duplicated().any():
        raise InvalidProblem(
            f"column {column!r} of {data} does not name every record differently. Choose "
            "another column, or leave --id out to number the records from 0."
        )
    return names


def _columns(data: Path | str, table: pd.DataFrame, wanted: Sequence[str]) -> pd.DataFrame:
    """Columns of numbers, each as a variable to follow."""
    import numpy as np
    import pandas as pd

    from microcalibrate.columns import Columns
    from microcalibrate.errors import InvalidExpression, InvalidProblem

    columns, read = Columns(table), {}
    for name in wanted:
        try:
            read[name] = values = columns.numbers(name)
        except InvalidExpression as error:
            raise InvalidProblem(f"--untargeted {name}: {error}") from error
        if missing := int(np.count_nonzero(~np.isfinite(values))):
            raise InvalidProblem(
                f'--untargeted: column "{name}" of {data} is missing or infinite in {missing} '
                "records. Fill in or drop them."
            )
    return pd.DataFrame(read)


def _columns_of_units(frame: Frame, wanted: Sequence[str]) -> pd.DataFrame:
    """The same of linked tables, where `person.income` is what the members of a unit add up to."""
    import numpy as np
    import pandas as pd

    read = {}
    for name in wanted:
        entity, dot, column = name.partition(".")
        if not dot or entity not in frame.tables:
            entity, column = frame.unit, name
        rows = frame.rows_of(entity, frame.unit)
        values = _columns(f"the table {entity!r}", frame.tables[entity], [column])[column]
        read[name] = np.bincount(rows, values, frame.n_units)
    return pd.DataFrame(read)


def _from_folder(source: Source, tolerance: float | None, untargeted: Sequence[str]) -> Inputs:
    data = source.data
    given_ones = {"--weight": source.weight, "--targets": source.targets, "--id": source.id_column}
    for name, value in given_ones.items():
        if value is not None:
            raise typer.BadParameter(
                f"{name} is for tables, and {data} is a folder that brings weights.npz and "
                "targets.csv. Leave it out."
            )
    if len(untargeted) > 1:
        raise typer.BadParameter(
            f"--untargeted is given {len(untargeted)} times, and {data} is a folder: give one NPZ "
            "file with a matrix that has a column per variable."
        )
    import numpy as np

    from microcalibrate.io import read_matrix, read_problem

    stored = read_problem(data)
    tolerances = stored.tolerances
    if tolerance is not None:
        tolerances = np.where(np.isnan(tolerances), tolerance, tolerances)
    return Inputs(
        weights=stored.weights,
        targets=stored.targets,
        estimate_matrix=stored.estimate_matrix,
        target_names=stored.target_names,
        families=[family or None for family in stored.families],
        tolerances=tolerances,
        importances=stored.importances,
        scales=stored.scales,
        untargeted=read_matrix(untargeted[0]) if untargeted else None,
    )
