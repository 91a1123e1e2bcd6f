"""Seconds to train the any-order generator and to draw from it, beside the hot deck.

    python benchmarks/anyorder.py [--threads 1] [--epochs 80]

The example has 3,000 households. So two runs: one trains on them to the end, which tells how many
steps and epochs training takes and how well it predicts held-out households; the other takes
10,000 households drawn from them with replacement, and trains three epochs, which tells the
seconds of an epoch of that size. Their product is an extrapolation, and is called so in the file:
the steps of the first run are taken to suffice for more records too. Processor seconds are given
beside those of the clock, for other work may run on the machine. The hot deck draws with the
structure of households free: with some of it held at random, a few of them have no donor.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _table import save

FRACTIONS = (0.2, 0.4, 0.5, 0.6, 0.8)
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
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=80)
    options = parser.parse_args()

    from microcalibrate.datasets import load_cps_households
    from microcalibrate.regularise import Codec
    from microcalibrate.regularise.generators import AnyOrder, HotDeck

    survey = load_cps_households()
    codec = Codec.fit(survey, coverage=0.999)
    rows = codec.encode(survey)
    weights = survey.base_weights.loc[rows.index].to_numpy()
    held_out = np.random.default_rng(0).random(len(rows)) < 0.2
    train, test = rows[~held_out], rows[held_out]

    settings = {"max_epochs": options.epochs, "n_threads": options.threads}
    AnyOrder(max_epochs=1).fit(train.head(100), codec.columns, np.ones(100), seed=0)  # imports
    model, used = timed(
        lambda: AnyOrder(**settings).fit(train, codec.columns, weights[~held_out], seed=1)
    )
    epochs = len(model.history) - 1
    batch = model.options.batch_size
    steps = epochs * int(np.ceil(0.9 * len(train) / batch))
    small = {
        "households": len(train),
        "columns": len(codec.columns),
        "parameters": model.n_parameters,
        "epochs": epochs,
        "steps": steps,
        **used,
        "holdout_loss": [round(loss, 4) for loss in model.history["holdout_loss"]],
        "gain_on_test_households": gains(model, test, weights[held_out]),
        "draws": draws(model, codec, test),
    }
    print(small)

    chosen = np.random.default_rng(2).integers(0, len(rows), 10_000)
    many, many_weights = rows.iloc[chosen].reset_index(drop=True), weights[chosen]
    short = {**settings, "max_epochs": 3}
    marks: list[tuple[float, float]] = []
    large_model = AnyOrder(**short).fit(
        many,
        codec.columns,
        many_weights,
        seed=1,
        progress=lambda *_: marks.append((time.perf_counter(), time.process_time())),
    )
    clock, processor = ((marks[-1][i] - marks[0][i]) / 3 for i in (0, 1))
    enough = steps / np.ceil(0.9 * len(many) / batch)
    large = {
        "households": len(many),
        "columns": len(codec.columns),
        "seconds_per_epoch": round(clock, 2),
        "processor_seconds_per_epoch": round(processor, 2),
        "extrapolated": {
            "epochs_for_as_many_steps": round(float(enough), 1),
            "training_processor_seconds": round(float(enough * processor), 1),
            "training_processor_seconds_at_all_epochs": round(options.epochs * processor, 1),
        },
        "draws": draws(large_model, codec, test),
    }
    print(large)

    deck, used = timed(lambda: HotDeck().fit(train, codec.columns, weights[~held_out], seed=0))
    hot = {"households": len(train), **used, "draws": draws(deck, codec, test, True)}
    print(hot)
    load = os.getloadavg()[0]
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
