"""The options that several commands share, each with its one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Data: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Records: a CSV, Parquet or Feather table; a folder with a table for each entity; or "
        "one with matrix.npz, targets.csv (name, target) and weights.npz.",
    ),
]
Unit: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ENTITY",
        help="With several tables: the entity that carries the weight. [household, if DATA is a "
        "file; in a folder the one with the column of weights]",
    ),
]
EntityTables: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ENTITY=FILE",
        help="Further table, such as person=persons.csv, whose rows belong to those of DATA; may "
        "be given several times.",
    ),
]
Links: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CHILD.COLUMN=PARENT",
        help="Column of an entity that names what it belongs to, such as "
        "person.household_id=household, with .COLUMN after the parent if that has another name "
        "there; may be given several times. [columns with the name of another entity's id]",
    ),
]
Out: TypeAlias = Annotated[
    Path, typer.Option(help="Folder for the run; an earlier run is replaced.")
]
Weight: TypeAlias = Annotated[
    str | None, typer.Option(help="Column with the design weights, for a table.")
]
TargetsTable: TypeAlias = Annotated[
    Path | None, typer.Option(help="Table of declared targets, for a table.")
]
IdColumn: TypeAlias = Annotated[
    str | None, typer.Option("--id", metavar="COLUMN", help="Column that names the records.")
]
IdCheck: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="COLUMN",
        help="Column that names the records; checked to name each one differently.",
    ),
]
L0Lambda: TypeAlias = Annotated[
    float | None, typer.Option(help="Price of records: higher keeps fewer, 0 keeps all.")
]
Records: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Exact number of records (with --cluster, of clusters) to keep, instead of a price."
    ),
]
# Those that a search may take several values of say so, after the same words.
_AGAIN = "Repeat it to search among several."
_MAX_RATIO = "Greatest calibrated over design weight."
_CLOSENESS = "Price of distance: lower fits better, higher is more even."
_SELECTION = "How records are chosen."
_SELECTIONS = "closed_form|top_k|random|sampled_gates"

MaxRatio: TypeAlias = Annotated[float | None, typer.Option(help=f"{_MAX_RATIO} [none]")]
MaxRatios: TypeAlias = Annotated[
    list[float] | None, typer.Option(metavar="<float>", help=f"{_MAX_RATIO} {_AGAIN} [none]")
]
MinRatio: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Least calibrated over design weight; -inf allows negative ones. [0]"),
]
Tolerance: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="For targets without one of their own: fraction by which they may be missed, "
        "0 is exact. [soft: as well as can be]"
    ),
]
DistanceName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="chi2|raking|logit|truncated_linear|sinh|hellinger",
        help="Distance to keep small; logit needs --min-ratio and --max-ratio. [chi2]",
    ),
]
LossName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="squared|absolute|huber|capped",
        help="What errors of soft targets cost. huber:0.1 counts squares up to that error, "
        "capped:1 no error for more than that. [squared]",
    ),
]
MinWeight: TypeAlias = Annotated[
    float | None, typer.Option(help="Least calibrated weight of any record. [none]")
]
MaxWeight: TypeAlias = Annotated[
    float | None, typer.Option(help="Greatest calibrated weight of any record. [none]")
]
Frozen: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="True or 1 for records that keep their design weight."),
]
Heteroscedasticity: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Factors q, such as a size: weights of large ones move more. R's variance is 1 / q.",
    ),
]
Cluster: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Label, such as that of the household, within which weights stay in proportion.",
    ),
]
Partition: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Label, such as the state, of parts that share no target: solved side by side.",
    ),
]
Closeness: TypeAlias = Annotated[float | None, typer.Option(help=f"{_CLOSENESS} [1e-4]")]
ClosenessValues: TypeAlias = Annotated[
    list[float] | None, typer.Option(metavar="<float>", help=f"{_CLOSENESS} {_AGAIN} [1e-4]")
]
RefitCloseness: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="The same price in the refit of the records that are kept. [10 times --closeness]"
    ),
]
Kappa: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Price of concentrated weights when records are chosen. [1]"),
]
Selection: TypeAlias = Annotated[
    str | None, typer.Option(metavar=_SELECTIONS, help=f"{_SELECTION} [closed_form]")
]
Selections: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar=_SELECTIONS, help=f"{_SELECTION} {_AGAIN} [closed_form]"),
]
Temperature: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Final temperature of the gates, for --selection sampled_gates only."),
]
Device: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE",
        help="Where gates are trained, such as cuda, for --selection sampled_gates only. [cpu]",
    ),
]
Groups: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="correlation|family|names|none",
        help="Which targets are held out together: those whose columns are correlated, of one "
        "family, of one beginning of the name (before a /), or none.",
    ),
]
MaxIter: TypeAlias = Annotated[int, typer.Option(min=1, help="Most steps of each solve.")]
Report: TypeAlias = Annotated[bool, typer.Option(help="Write report.html into the run.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="Print nothing but problems.")]
Tables: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A CSV, Parquet or Feather table; or a folder with one for each entity, named after "
        "it (household.parquet, person.parquet).",
    ),
]
SchemaFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="JSON file that says what each column is. [schema.json in the folder]",
    ),
]
SurfaceGiven: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|MODULE:OBJECT",
        help="What is reported: a JSON file with `metrics` and `slices`, or a Surface in a module "
        "of your own. [chosen from the columns]",
    ),
]
Reforms: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:OBJECT",
        help="Reforms to look at too, in a module of your own: functions of the tables, or a "
        "ReformSpace to draw from.",
    ),
]
RandomReforms: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="[ENTITY.]COLUMN",
        help="Look at random tax schedules on this income too; needs no model.",
    ),
]
NReforms: TypeAlias = Annotated[
    int | None, typer.Option("--n-reforms", min=1, help="How many reforms to draw. [20]")
]
Threshold: TypeAlias = Annotated[
    float, typer.Option(help="Share of a statistic above which a record is influential.")
]
ReformFraction: TypeAlias = Annotated[
    float,
    typer.Option(
        help="Fraction of the reforms in which a record must be influential to be flagged for them."
    ),
]
FlagDominating: TypeAlias = Annotated[
    bool,
    typer.Option(
        help="Flag a record that carries most of a statistic by itself, or call the cell thin.",
    ),
]
