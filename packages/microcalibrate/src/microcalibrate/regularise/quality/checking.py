"""Compare generated rows with real ones in every respect, and judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from microcalibrate.errors import ConditionNotMet, InvalidOption
from microcalibrate.regularise.quality.families import (
    conditional_family,
    joint_family,
    privacy_family,
    shapes,
    split_statistics,
    unseen_baseline,
)
from microcalibrate.regularise.quality.gates import Figure, Gate, judged, with_baselines
from microcalibrate.regularise.quality.joint import load_sklearn
from microcalibrate.regularise.quality.limits import GATES, KNOWN_FAILURES
from microcalibrate.regularise.quality.marginal import (
    marginal_figures,
    marginal_table,
    weighted_share,
)
from microcalibrate.regularise.quality.pairs import pair_figures, pair_table
from microcalibrate.regularise.quality.report import QualityReport
from microcalibrate.regularise.quality.samples import Coded, Sample, joined, random_split
from microcalibrate.regularise.quality.settings import QualitySettings
from microcalibrate.regularise.quality.structure import HouseholdColumns, structure_figures
from microcalibrate.regularise.quality.utility import (
    Statistics,
    default_statistics,
    statistics_table,
)
from microcalibrate.regularise.quality.zeros import impossible_rows, zero_figures
from microcalibrate.result import installed_versions

if TYPE_CHECKING:
    from microcalibrate.regularise.codec import Codec
    from microcalibrate.regularise.generators.protocol import Generator
    from microcalibrate.regularise.slots import SlotColumn
    from microcalibrate.regularise.survey import Survey

MOST_SCREENINGS = 20
TRIES_OF_SLOTS = 5


def check_generator(
    generator: Generator,
    train: Sample,
    holdout: Sample,
    columns: Sequence[SlotColumn],
    *,
    n: int | None = None,
    codec: Codec | None = None,
    source: Survey | None = None,
    seed: int = 0,
    **options: Any,
) -> QualityReport:
    """Draw rows from a fitted generator and judge them.

    With a codec, rows that are no households or break a constraint are drawn again, as they are
    when records are spread; the report has the share that was rejected. Up to four times they keep
    their slots: otherwise large households, which are rejected more often, would become rare.

    Args:
        generator: Fitted to the rows of `train`.
        train: Rows that it learned from.
        holdout: Real rows that it has not seen: other units, not other persons of the same ones.
        columns: Columns of the rows.
        n: Rows to draw; as many as `train` has by default.
        codec: Of the rows.
        source: Survey with the constraints that rows must keep.
        seed: The same seed gives the same report.
        options: Further ones of `check_quality`.

    Raises:
        ConditionNotMet: If hardly any row that is drawn is possible.
    """
    wanted = len(train.rows) if n is None else n
    if wanted < 2:
        raise InvalidOption(f"n={wanted}, and it must be at least 2.")
    seeds = np.random.SeedSequence(seed).generate_state(MOST_SCREENINGS, np.uint64)
    kept: list[pd.DataFrame] = []
    n_drawn = n_kept = 0
    slots = np.array([column.kind == "present" for column in columns])
    again: pd.DataFrame | None = None  # Rejected rows, to be drawn with the same slots.
    for number, each in enumerate(seeds):
        if again is None or number % TRIES_OF_SLOTS == 0:
            n_more = wanted if codec is None else max(wanted - n_kept, 50)
            rows = generator.sample(n_more, int(each))
        else:
            rows, _ = generator.sample_conditional(again, ~slots, int(each))
        n_drawn += len(rows)
        if codec is not None:
            rows = codec.canonical(rows).reset_index(drop=True)
            bad = impossible_rows(rows, columns, codec, source)
            again = rows[bad] if slots.any() and bad.any() else None
            rows = rows[~bad]
        kept.append(rows)
        n_kept += len(rows)
        if n_kept >= wanted or codec is None:
            break
    if n_kept < wanted and codec is not None:
        raise ConditionNotMet(
            f"{n_kept} of {n_drawn} rows that were drawn are possible households, and {wanted} "
            "were asked for. Train longer, or look at the constraints.",
            requested=wanted,
            obtained=n_kept,
        )
    rejected = 1 - n_kept / n_drawn
    synthetic = pd.concat(kept, ignore_index=True).iloc[:wanted]
    return check_quality(
        train,
        holdout,
        Sample(synthetic),
        columns,
        generator=generator,
        codec=codec,
        source=source,
        rejected_share=None if codec is None else rejected,
        seed=seed,
        **options,
    )


def check_quality(
    train: Sample,
    holdout: Sample,
    synthetic: Sample,
    columns: Sequence[SlotColumn],
    *,
    generator: Generator | None = None,
    codec: Codec | None = None,
    source: Survey | None = None,
    households: HouseholdColumns | None = None,
    statistics: Statistics | None = None,
    free: Sequence[str] | None = None,
    rejected_share: float | None = None,
    gates: Sequence[Gate] = GATES,
    settings: QualitySettings | None = None,
    seed: int = 0,
) -> QualityReport:
    """Judge generated rows against real ones that the generator has not seen.

    Everything is weighted, and rows are units, so that no household is on both sides of a split.
    Beside each figure stands the same of real rows against real rows, over random splits.

    Args:
        train: Rows that the generator learned from.
        holdout: Real rows that it has not seen.
        synthetic: Rows that it drew, without conditions.
        columns: Columns of the rows.
        generator: The generator, for its conditional draws; without it they are not measured.
        codec: Of the rows; with it, whether they are households is looked at too.
        source: Survey with declared constraints; with it, whether they hold is looked at too.
        households: Which columns tell who lives together; guessed from names by default.
        statistics: What each unit adds to what is published; by default totals of every amount
            and numbers by category.
        free: Columns that were drawn, for exact copies; all by default.
        rejected_share: Share of drawn rows that were rejected before, to report.
        gates: The limits.
        settings: How much is looked at.
        seed: The same seed gives the same report.

    Returns:
        The report.

    Raises:
        MissingExtra: If scikit-learn is not installed.
        InvalidSurvey: If rows lack a column.
        InvalidOption: If there are fewer than 20 real or generated rows on a side.
    """
    load_sklearn()
    settings = settings or QualitySettings()
    columns = tuple(columns)
    learned, held, made = (Coded.of(part, columns) for part in (train, holdout, synthetic))
    for name, part in (("train", learned), ("holdout", held), ("synthetic", made)):
        if len(part) < 20:
            raise InvalidOption(f"{name} has {len(part)} rows, and at least 20 are needed.")
    rng = np.random.default_rng(seed)
    pool = joined(learned, held)
    # (left out, rest): the roles of the holdout and of the generated rows.
    splits = [
        random_split(pool, (len(held), len(learned)), rng) for _ in range(settings.n_splits)
    ]  # fmt: skip
    figures: dict[tuple[str, str], Figure] = {}
    unmeasured: dict[str, str] = {}

    def add(
        family: str,
        values: dict[str, float],
        of_splits: list[dict[str, float]],
        of_learned: dict[str, float] | None = None,
    ) -> None:
        figures.update(with_baselines(values, of_splits, gates, family, of_learned))

    marginals = marginal_table(held, made)
    of_splits = [marginal_figures(marginal_table(*split)) for split in splits]
    real_marginals = marginal_table(held, learned)
    add("Marginal", marginal_figures(marginals), of_splits, marginal_figures(real_marginals))

    n_pairs = min(settings.max_rows_pairs, len(held), len(learned), len(made))
    pairs = pair_table(held.at_most(n_pairs, rng), made.at_most(n_pairs, rng))
    of_splits = [
        pair_figures(pair_table(left.at_most(n_pairs, rng), right.at_most(n_pairs, rng)))
        for left, right in splits[:10]
    ]
    add("Pairs", pair_figures(pairs), of_splits)

    figures.update(joint_family(pool, learned, made, settings, rng, seed))

    households = households or HouseholdColumns.guess(columns)
    if households is None:
        unmeasured["Structure"] = "no columns tell who lives together"
    else:
        of_splits = [structure_figures(left, right, households) for left, right in splits]
        of_learned = structure_figures(held, learned, households)
        add("Structure", structure_figures(held, made, households), of_splits, of_learned)

    bad = impossible_rows(synthetic.rows, columns, codec, source)
    figures["Zeros", "impossible_share"] = Figure(
        weighted_share(bad, made.weights),
        note="" if source is not None else "values only: no survey with constraints was given",
    )
    if rejected_share is not None:
        figures["Zeros", "rejected_share"] = Figure(rejected_share)
    figures.update({
        ("Zeros", name): Figure(value) for name, value in zero_figures(learned, held, made).items()
    })  # fmt: skip
    figures.update(unseen_baseline(figures, splits))

    if generator is None:
        unmeasured["Conditional"] = "no generator was given"
        conditional = pd.DataFrame(columns=["column", "fraction", "gain", "effective", "is_judged"])
        conditional = conditional.astype({"column": str, "is_judged": bool})
    else:
        conditional, found = conditional_family(generator, learned, holdout, settings, rng, seed)
        figures.update(found)

    figures.update(privacy_family(pool, learned, held, made, splits, free, gates, settings, rng))

    def contributions(sample: Sample, coded: Coded) -> pd.DataFrame:
        return default_statistics(coded, pool) if statistics is None else statistics(sample.rows)

    real = pd.concat(
        [contributions(train, learned), contributions(holdout, held)], ignore_index=True
    )
    table = statistics_table(
        real, contributions(synthetic, made), pool.weights, made.weights,
        n_replicates=settings.n_replicates, rng=rng,
    )  # fmt: skip
    of_splits = [
        {"within_share": float(split_statistics(real, pool, len(held), settings, rng))}
        for _ in range(10)
    ]
    add("Utility", {"within_share": float(table.is_within.mean())}, of_splits)

    statistic = marginals.ks.isna().map({True: "tv", False: "ks"})
    shown = marginals.assign(
        statistic=statistic,
        value=marginals.ks.fillna(marginals.tv),
        baseline=real_marginals.ks.fillna(real_marginals.tv),
    )
    backend = getattr(generator, "name", None)
    return QualityReport(
        gates=judged(figures, gates, KNOWN_FAILURES.get(backend or "", {})),
        marginals=shown.drop(columns=["ks", "tv", "zero_gap", "missing_gap"]),
        pairs=pairs.sort_values("gap", ascending=False, kind="stable", ignore_index=True),
        conditional=conditional,
        statistics=table,
        shapes=shapes(learned, held, made),
        unmeasured=unmeasured,
        settings={
            **asdict(settings),
            "fractions": list(settings.fractions),
            "seed": seed,
            "backend": backend,
            "n_train": len(learned),
            "n_holdout": len(held),
            "n_synthetic": len(made),
            "n_columns": len(columns),
            "n_rows_pairs": n_pairs,
            "households": None if households is None else _plain(households),
        },
        versions=installed_versions(),
    )


def _plain(households: HouseholdColumns) -> dict[str, Any]:
    """Settings as a file gives them back."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(households).items()
    }
