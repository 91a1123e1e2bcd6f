"""Seconds to train the any-order generator and to draw from it, and copies, beside the hot deck.

    python benchmarks/anyorder.py [--threads 2]

At the defaults of `microcalibrate train`. The example has 3,000 households: one run trains on four
fifths of them and tells how much likelier it finds the others than independent columns do; the
other trains on 10,000 households drawn from them with replacement. Processor seconds are given
beside those of the clock, for other work may run on the machine. Copies are draws that equal a
training household in every column that was drawn, the same columns for all rows. The hot deck
draws with the structure of households free: with some of it held at random, a few of them have no
donor.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _table import save

FRACTIONS = (0.2, 0.4, 0.6, 0.8)
N_DRAWS = 1000


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, {
        "seconds": round(time.perf_counter() - clock, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
    }


def draws(generator: Any, codec: Any, rows: Any, structure_is_free: bool = False) -> dict:
    """1,000 conditional draws at each fraction, cells held at random, and how many are valid."""
    found = {}
    is_structure = np.array([column.block == "structure" for column in codec.columns])
    chosen = rows.iloc[np.arange(N_DRAWS) % len(rows)]
    for fraction in FRACTIONS:
        order = np.random.default_rng(0).random((N_DRAWS, len(codec.columns))).argsort(axis=1)
        free = order >= round(fraction * len(codec.columns))
        free |= structure_is_free & is_structure
        (drawn, achieved), used = timed(
            lambda free=free: generator.sample_conditional(chosen, free, seed=0)
        )
        good = codec.acceptable(codec.canonical(drawn.reset_index(drop=True)))
        found[str(fraction)] = {
            **used,
            "acceptable": float(good.mean()),
            "held_as_asked": float(achieved.sum() / (~free).sum()),
        }
    return found


def copies(generator: Any, codec: Any, train: Any, rows: Any) -> dict[str, float]:
    """Share of draws that equal a training household in all columns that were drawn."""
    from microcalibrate.regularise.quality.privacy import exact_copies
    from microcalibrate.regularise.quality.samples import Coded, Sample

    is_structure = np.array([column.block == "structure" for column in codec.columns])
    chosen = rows.iloc[np.arange(N_DRAWS) % len(rows)]
    learned, found = Coded.of(Sample(train), codec.columns), {}
    for fraction in (0.0, *FRACTIONS):
        held = np.random.default_rng(3).random(len(codec.columns)) < fraction
        held &= ~is_structure
        free = np.repeat(~held[None], N_DRAWS, axis=0)
        drawn, _ = generator.sample_conditional(chosen, free, seed=0)
        names = [
            column.name for column, is_held in zip(codec.columns, held, strict=True) if not is_held
        ]
        made = Coded.of(Sample(drawn.reset_index(drop=True)), codec.columns)
        found[str(fraction)] = float(exact_copies(made, learned, names).mean())
    return found


def gains(model: Any, rows: Any, weights: Any) -> dict[str, dict[str, float]]:
    """By how much held-out cells are likelier than under independent marginals."""
    marginal, found = model.marginal_log_prob(rows), {}
    for fraction in FRACTIONS:
        free = np.random.default_rng(1).random(marginal.shape) >= fraction
        gain = model.column_log_prob(rows, free) - marginal
        there = ~np.isnan(gain)
        total = np.where(there, gain, 0) * weights[:, None]
        enough = there.sum(axis=0) >= 50
        found[str(fraction)] = {
            "nats_per_household": float(total.sum() / weights.sum()),
            "columns_better": float((total.sum(axis=0) > 0)[enough].mean()),
            "columns_with_50_cells": int(enough.sum()),
        }
    return found


def main() -> None:
    """Run both, once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    load = os.getloadavg()[0]

    from microcalibrate.datasets import load_cps_households
    from microcalibrate.regularise import Codec
    from microcalibrate.regularise.generators import AnyOrder, HotDeck

    survey = load_cps_households()
    codec = Codec.fit(survey, coverage=0.999)
    rows = codec.encode(survey)
    weights = survey.base_weights.loc[rows.index].to_numpy()
    held_out = np.random.default_rng(0).random(len(rows)) < 0.2
    train, test = rows[~held_out], rows[held_out]

    settings = {"n_threads": options.threads}
    AnyOrder(max_epochs=1).fit(train.head(100), codec.columns, np.ones(100), seed=0)  # imports
    model, used = timed(
        lambda: AnyOrder(**settings).fit(train, codec.columns, weights[~held_out], seed=1)
    )
    small = {
        "households": len(train),
        "columns": len(codec.columns),
        "parameters": model.n_parameters,
        "epochs": len(model.history) - 1,
        **used,
        "holdout_loss": [round(loss, 4) for loss in model.history["holdout_loss"]],
        "gain_on_test_households": gains(model, test, weights[held_out]),
        "draws": draws(model, codec, test),
        "copies": copies(model, codec, train, test),
    }
    print(small)

    chosen = np.random.default_rng(2).integers(0, len(rows), 10_000)
    many, many_weights = rows.iloc[chosen].reset_index(drop=True), weights[chosen]
    large_model, used = timed(
        lambda: AnyOrder(**settings).fit(many, codec.columns, many_weights, seed=1)
    )
    large = {
        "households": len(many),
        "columns": len(codec.columns),
        "epochs": len(large_model.history) - 1,
        **used,
        "draws": draws(large_model, codec, test),
    }
    print(large)

    deck, used = timed(lambda: HotDeck().fit(train, codec.columns, weights[~held_out], seed=0))
    hot = {
        "households": len(train),
        **used,
        "draws": draws(deck, codec, test, True),
        "copies": copies(deck, codec, train, test),
    }
    print(hot)
    save(
        "anyorder",
        {
            "threads": options.threads,
            "load_of_the_machine": round(load, 1),
            "seed": 1,
            "anyorder": small,
            "anyorder, 10,000 households": large,
            "hotdeck": hot,
        },
    )


if __name__ == "__main__":
    main()
