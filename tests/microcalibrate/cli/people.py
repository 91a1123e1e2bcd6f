"""Records and targets in files for a command, and as the library takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from microcalibrate.io import read_table
from microcalibrate.targets import build_targets


def write_people(folder: Path) -> None:
    """Records of four states, nine targets, variables that are none, and the same as a problem."""
    rng = np.random.default_rng(11)
    n = 240
    people = pd.DataFrame(
        {
            "name": [f"r{i}" for i in range(n)],
            "w": rng.uniform(50, 150, n),
            "state": rng.choice(["CA", "NY", "TX", "WY"], n),
            "age": rng.integers(0, 90, n),
            "income": rng.gamma(1.0, 20_000, n).round(),
            "rent": rng.gamma(2.0, 6_000, n).round(),
            "gaps": [np.nan, *rng.uniform(size=n - 1)],
        }
    )
    people.to_csv(folder / "people.csv", index=False)
    rows = []
    for state, part in people.groupby("state"):
        where = f"state == '{state}'"
        rows.append((f"people/{state}", 1.05 * part.w.sum(), None, where, "people"))
        total = (part.w * part.income).sum()
        rows.append((f"income/{state}", 1.1 * total, "income", where, "income"))
    rows.append(("elderly", 0.3 * people.w.sum(), None, "age >= 65", None))
    columns = ["name", "value", "variable", "filter", "family"]
    declared = pd.DataFrame(rows, columns=columns)
    declared.to_csv(folder / "targets.csv", index=False)
    built = build_targets(people, declared, initial_weights=people.w)
    problem = folder / "problem"
    problem.mkdir()
    sp.save_npz(problem / "matrix.npz", built.matrix)
    np.savez(problem / "weights.npz", weights=people.w.to_numpy())
    stored = pd.DataFrame({"name": built.names, "target": built.values, "family": built.families})
    stored.to_csv(problem / "targets.csv", index=False)
    np.savez(folder / "variables.npz", matrix=people[["rent", "age"]].to_numpy())


def problem() -> dict[str, Any]:
    """What is in the files of this folder, as the library takes it."""
    people, declared = read_table("people.csv"), read_table("targets.csv")
    built = build_targets(people, declared, initial_weights=people.w)
    return {
        "weights": people.w,
        "targets": built.values,
        "estimate_matrix": built.matrix,
        "target_names": built.names,
        "scales": built.scales,
    }
