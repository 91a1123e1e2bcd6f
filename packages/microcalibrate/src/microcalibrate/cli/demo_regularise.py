"""`microcalibrate demo --regularise`: households that carry too much, found and spread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from microcalibrate.cli.app import REPORT_NAME, check_plotly, say
from microcalibrate.cli.outputs import Outcome, write_run
from microcalibrate.cli.train import epochs_bar

if TYPE_CHECKING:
    import pandas as pd

    from microcalibrate.regularise import Survey

N_REFORMS = 10
COVERAGE = 0.99
BATCH = 10
MAX_ROUNDS = 4
SHOWN = 5
DESIGN_WEIGHT = "design_weight"

# Published totals whose variables the household tables have too.
BY_REGION = (("population_by_state", "n_persons"), ("snap_by_state", "snap"))
TOTALS = (
    ("wages", "person", "wages"),
    ("dividends", "tax_unit", "dividends"),
    ("taxable_pensions", "tax_unit", "pensions"),
    ("social_security", "tax_unit", "social_security"),
    ("unemployment", "tax_unit", "unemployment"),
)


def demo_regularise(out: Path, seed: int, with_report: bool) -> None:
    """Calibrate, find the households that carry too much, train a model, and spread them.

    Args:
        out: Folder for the runs.
        seed: Of everything that is drawn.
        with_report: Whether pages are written.
    """
    from microcalibrate.atomic import check_run_folder

    if with_report:
        check_plotly(REPORT_NAME, "or add --no-report")
    names = ("diagnosis", "model", "regularised")
    for folder in [out / name for name in names] if out.is_dir() else [out]:
        check_run_folder(folder)
    from microcalibrate.datasets import load_cps_households
    from microcalibrate.diagnostics import RandomScheduleReforms, diagnose
    from microcalibrate.regularise.loop import regularise
    from microcalibrate.regularise.trained import train_model

    begun = time.perf_counter()
    survey = load_cps_households()
    targets = published_totals(survey)
    space = RandomScheduleReforms("income", low=10_000, high=300_000, entity="tax_unit")
    looked_at: dict[str, Any] = {
        "reforms": space,
        "n_reforms": N_REFORMS,
        "flag_dominating": True,
    }
    sizes = ", ".join(f"{len(table):,} {name} rows" for name, table in survey.tables.items())
    say(f"Households of the United States in 2023: {sizes}.")

    with _step(f"1  calibrate the households to {len(targets):,} published totals"):
        survey = calibrated(survey, targets)

    with _step(f"2  diagnose, at baseline and over {N_REFORMS} random tax schedules"):
        before = diagnose(survey, **looked_at, seed=seed, progress=False)
    for line in before.summary().splitlines()[:2]:
        say(f"   {line}")
    rows: Any = before.flagged.head(SHOWN).to_dict("records")
    for row in rows:
        is_baseline = row["share"] >= row["reform_max_share"]
        worst = row["worst_statistic"] if is_baseline else row["reform_worst_statistic"]
        share = max(row["share"], row["reform_max_share"])
        say(f"   household {row['id']}: {share:.1%} of {worst}")

    with _step("3  train a model that draws households (anyorder)"), epochs_bar(False) as told:
        model = train_model(survey, "anyorder", seed=seed, coverage=COVERAGE, progress=told)
    say(f"   {model.quality.summary().splitlines()[0]}")
    if not model.passed:
        say(
            "   It learned from few households. `regularise` refuses such a model unless you add "
            "--allow-poor-model; here it is taken all the same."
        )

    with _step("4  spread what is flagged over generated households, and calibrate anew"):
        result = regularise(
            survey,
            model,
            targets,
            allow_poor_model=True,
            **looked_at,
            batch=BATCH,
            max_rounds=MAX_ROUNDS,
            seed=seed,
            progress=False,
        )
    say("\n".join(f"   {line}" for line in result.summary().splitlines()))

    with _step("5  write tables and reports"):
        out.mkdir(exist_ok=True)
        runs: tuple[Outcome, ...] = (before, model, result)
        for name, run in zip(names, runs, strict=True):
            write_run(run, out / name, with_report=with_report)
    say(f"\n{time.perf_counter() - begun:.0f} s in all. Written to")
    for name in names:
        say(f"   {out / name / REPORT_NAME if with_report else out / name}")
    say(
        "Generated households are marked _mc_synthetic in the tables: nobody was interviewed for "
        "them."
    )


@contextmanager
def _step(title: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    typer.echo(f"\n{title} …", nl=False)
    begun = time.perf_counter()
    yield
    typer.echo(f" {time.perf_counter() - begun:.0f} s")


def published_totals(survey: Survey) -> pd.DataFrame:
    """Published totals of the United States for the embedded households.

    Args:
        survey: The embedded households.

    Returns:
        A row per target with `name`, `value`, `variable`, `filter`, `family` and `entity`.
    """
    import pandas as pd

    from microcalibrate.datasets import load_us_targets

    published = load_us_targets().set_index("name")
    places = survey.tables["household"][["state", "region"]].astype(str).drop_duplicates()
    region_of = dict(zip(places.state, places.region, strict=True))
    rows: list[tuple[str, float, str, str | None, str, str]] = []
    for family, variable in BY_REGION:
        of_states = published.value[published.family == family]
        sums = of_states.groupby(of_states.index.str[-2:].map(region_of)).sum()
        name = family.replace("state", "region")
        for region, value in sums.items():
            condition = f"region == '{region}'"
            rows.append((f"{name}/{region}", value, variable, condition, name, "household"))
    for name, entity, variable in TOTALS:
        value = float(published.value[f"totals/{name}"])
        rows.append((f"totals/{name}", value, variable, None, "totals", entity))
    columns = ["name", "value", "variable", "filter", "family", "entity"]
    return pd.DataFrame(rows, columns=columns).assign(aggregate="sum")


def calibrated(survey: Survey, targets: pd.DataFrame) -> Survey:
    """The survey with weights that meet the targets, and the former ones as those of its design.

    Args:
        survey: Households whose schema names one weight.
        targets: As `published_totals` gives them.

    Returns:
        A survey with one more weight column.
    """
    from dataclasses import replace

    import numpy as np

    from microcalibrate.calibration import Calibration
    from microcalibrate.regularise import Column
    from microcalibrate.regularise.survey import Survey
    from microcalibrate.regularise.target_rows import DeclaredRows

    weights = np.asarray(survey.weights, dtype=np.float64)
    matrix, goals = DeclaredRows(targets).build(survey, weights)
    calibration = Calibration(weights, goals.values, matrix, target_names=goals.names)
    fitted = calibration.calibrate(progress=False)
    schema = survey.schema
    entities = tuple(
        replace(entity, columns=(*entity.columns, Column(DESIGN_WEIGHT, "weight")))
        if entity.name == schema.unit
        else entity
        for entity in schema.entities
    )
    units = survey.tables[schema.unit]
    units = units.assign(**{DESIGN_WEIGHT: weights, schema.weight: fitted})
    return Survey(
        {**survey.tables, schema.unit: units},
        replace(schema, entities=entities, base_weight=DESIGN_WEIGHT),
    )
