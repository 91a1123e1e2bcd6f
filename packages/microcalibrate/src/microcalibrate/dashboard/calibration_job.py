"""A calibration as the page asks for it: a command line, and the same in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from microcalibrate.dashboard import linking
from microcalibrate.dashboard.option_schema import Kind, Option, arguments

if TYPE_CHECKING:
    from microcalibrate.dashboard.drafts import Roles
    from microcalibrate.jobs import Dataset

SUPPLIED = (
    *("data", "out", "weight", "targets", "id_column", "quiet", "progress_file", "report"),
    *("unit", "table", "link"),
)
"""Arguments that the page fills in by itself."""

# What the library calls the options of the command line; the others have the same name.
_ARGUMENTS = {
    "records": "target_records",
    "max_ratio": "max_weight_ratio",
    "min_ratio": "min_weight_ratio",
}


def calibration_arguments(
    dataset: Dataset, roles: Roles, options: Mapping[str, Option], values: Mapping[str, Any]
) -> list[str]:
    """Arguments of `microcalibrate calibrate`; `{run}` stands for the folder of the run.

    Args:
        dataset: Records.
        roles: Which column is the weight, and which tables belong to the records.
        options: Those of the form.
        values: What was filled in.
    """
    names = ["--id", roles.id] if roles.id else []
    return [
        str(dataset.table),
        *linking.arguments(dataset, roles),
        *("--targets", "{run}/targets.csv", "--weight", roles.weight, *names),
        *("--out", "{run}/result"),
        *arguments(options, values),
    ]


def calibration_details(dataset: Dataset, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the page remembers of a run that it started."""
    # JSON has no infinities.
    plain = {
        name: str(value)
        if isinstance(value, float) and value in (float("inf"), float("-inf"))
        else value
        for name, value in values.items()
    }
    return {"dataset": dataset.id, "dataset_name": dataset.name, "values": plain}


def python_program(
    dataset: Dataset, roles: Roles, options: Mapping[str, Option], values: Mapping[str, Any]
) -> str:
    """A program with the same result as the command line.

    Args:
        dataset: Records.
        roles: Which column is the weight, and which tables belong to the records.
        options: Those of the form.
        values: What was filled in.
    """
    given = {
        name: value
        for name, value in values.items()
        if value is not None and value != options[name].default
    }
    max_iter = given.pop("max_iter", None)
    tolerance = given.pop("tolerance", None)
    lines = [
        "from microcalibrate import Calibration",
        "from microcalibrate.io import read_table",
        "",
        f"data = read_table({str(dataset.table)!r})",
        'targets = read_table("targets.csv")',
    ]
    if tolerance is not None:
        lines += [
            'if "tolerance" not in targets:',
            '    targets["tolerance"] = float("nan")',
            f'targets["tolerance"] = targets["tolerance"].fillna({_literal(tolerance)})',
        ]
    lines += ["", *_beginning(dataset, roles), f"    weight={roles.weight!r},"]
    for name, value in given.items():
        literal = f"data[{value!r}]" if options[name].kind is Kind.COLUMN else _literal(value)
        lines.append(f"    {_ARGUMENTS.get(name, name)}={literal},")
    lines += [
        ")",
        f"weights = calibration.calibrate({'' if max_iter is None else f'max_iter={max_iter}'})",
        "print(calibration.summary())",
        'calibration.result.save("result")',
    ]
    return "\n".join(lines)


def _beginning(dataset: Dataset, roles: Roles) -> list[str]:
    """A calibration of the data with their targets, up to its options."""
    if not roles.tables:
        names = [f"    record_ids=data[{roles.id!r}],"] if roles.id else []
        return ["calibration = Calibration.from_table(", "    data,", "    targets,", *names]
    ids, links = linking.ids_and_links(dataset, roles)
    files = linking.tables(dataset, roles).items()
    others = [
        f"    {entity!r}: read_table({str(file)!r}),"
        for entity, file in files
        if entity != roles.unit
    ]
    return [
        *("tables = {", f"    {roles.unit!r}: data,", *others, "}"),
        *("calibration = Calibration.from_tables(", "    tables,", "    targets,"),
        *(f"    unit={roles.unit!r},", f"    ids={ids!r},", f"    links={links!r},"),
    ]


def _literal(value: Any) -> str:
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    return repr(value)
