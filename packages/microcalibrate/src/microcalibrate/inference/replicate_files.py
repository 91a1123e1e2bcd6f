"""Wide tables of replicate weights: ours and those of other software."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from microcalibrate.columns import did_you_mean
from microcalibrate.errors import InvalidReplicates

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

FORMAT = "microcalibrate.replicates/1"
# Types that say the scale of the sum of squares.
TYPES = ("BRR", "Fay", "JK1", "JKn", "SDR", "bootstrap")


def scale_of(type: str, n_replicates: int, rho: float) -> float:
    """Scale of the sum of squares, by type and number of replicates.

    Examples:
        >>> scale_of("SDR", 80, 0.0)
        0.05
    """
    n = n_replicates
    scales = {
        "BRR": 1 / n,
        "Fay": 1 / (n * (1 - rho) ** 2),
        "JK1": (n - 1) / n,
        "JKn": 1.0,
        "SDR": 4 / n,
        "bootstrap": 1 / (n - 1),
    }
    return scales[type]


def write_replicates(
    path: Path,
    full: Vector,
    weights: Matrix,
    about: dict[str, Any],
    *,
    record_ids: Any,
    weight: str,
    prefix: str,
) -> Path:
    """Write a wide table, and what else is known of it into a file beside it."""
    import pandas as pd

    from microcalibrate.io import write_json, write_table

    names = [f"{prefix}{number + 1}" for number in range(weights.shape[1])]
    table = pd.DataFrame(weights, columns=names)
    table.insert(0, weight, full)
    if record_ids is not None:
        table.insert(0, "id", np.asarray(record_ids))
    write_table(table, path)
    told = {"format": FORMAT, **about, "weight": weight, "replicates": names}
    write_json(told, _beside(path))
    return path


def read_replicates(
    table: Any,
    weight: str,
    replicates: str | Sequence[str],
    type: str | None,
    scale: float | None,
    rscales: Any,
    rho: float,
    centre: str | None,
    freedom: int | None,
) -> dict[str, Any]:
    """The parts of replicate weights, by their names; see `ReplicateWeights.load`."""
    from microcalibrate.io import read_json, read_table

    told: dict[str, Any] = {}
    if isinstance(table, (str, Path)):
        path = Path(table)
        table = read_table(path)
        if type is None and _beside(path).exists():
            told = read_json(_beside(path))
            if told.get("format") != FORMAT:
                raise InvalidReplicates(
                    f"{_beside(path)} has format {told.get('format')!r}, not {FORMAT!r}. Say what "
                    "the replicates are with type=."
                )
            weight, replicates = told["weight"], told["replicates"]
    columns = list(map(str, table.columns))
    if weight not in columns:
        raise InvalidReplicates(
            f'there is no column "{weight}" with the weights of the sample.'
            f"{did_you_mean(weight, columns)}"
        )
    names = _columns(replicates, columns)
    full = _numbers(table[weight], weight)
    weights = np.column_stack([_numbers(table[name], name) for name in names])
    n = len(names)
    type = told.get("type", type)
    if type is None and scale is None:
        raise InvalidReplicates(
            f"what the replicates are is not known: give type= (one of {list(TYPES)}), or "
            "scale= and rscales=."
        )
    if type is not None and type not in TYPES and scale is None and not told:
        raise InvalidReplicates(
            f"type={type!r} does not say the scale: use one of {list(TYPES)}, or give scale=."
        )
    if type == "JKn" and rscales is None and not told:
        raise InvalidReplicates(
            'type="JKn" needs rscales=: (n - 1) / n of the stratum of the unit left out.'
        )
    if rscales is None:
        rscales = told.get("rscales", np.ones(n))
    if scale is None:
        scale = told["scale"] if told else scale_of(str(type), n, rho)
    factors = np.asarray(rscales, dtype=np.float64)
    default_centre = "estimate" if type == "SDR" else "replicates"
    return {
        "full": full,
        "weights": weights,
        "scale": float(scale),
        "rscales": np.full(n, float(factors)) if factors.ndim == 0 else factors,
        "type": type or "other",
        "freedom": freedom or told.get("freedom") or _rank(weights) - 1,
        "centre": centre or told.get("centre", default_centre),
        "failed": tuple(told.get("failed", ())),
    }


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.meta.json")


def _columns(wanted: str | Sequence[str], columns: list[str]) -> list[str]:
    """Names of the replicates' columns, those of a pattern by their numbers."""
    if not isinstance(wanted, str):
        missing = [name for name in wanted if name not in columns]
        if missing:
            raise InvalidReplicates(
                f'there is no column "{missing[0]}".{did_you_mean(missing[0], columns)}'
            )
        return list(wanted)
    if wanted.count("*") != 1:
        raise InvalidReplicates(
            f'replicates="{wanted}" must be names of columns, or one name with a * where the '
            'number stands, such as "PWGTP*".'
        )
    pattern = re.compile("([0-9]+)".join(re.escape(part) for part in wanted.split("*")))
    found = [(int(hit[1]), name) for name in columns if (hit := pattern.fullmatch(name))]
    if len(found) < 2:
        raise InvalidReplicates(
            f'{len(found)} columns are called "{wanted}" with a number for the *: a variance '
            f"needs two.{did_you_mean(wanted, columns)}"
        )
    return [name for _, name in sorted(found)]


def _numbers(column: Any, name: str) -> Vector:
    try:
        values = np.asarray(column.to_numpy(), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidReplicates(f'column "{name}" does not hold numbers: {error}') from error
    if not np.isfinite(values).all():
        missing = int((~np.isfinite(values)).sum())
        raise InvalidReplicates(f'column "{name}" is missing or infinite in {missing} records.')
    return values


def _rank(weights: npt.NDArray[np.float64]) -> int:
    """Rank of the replicates, of their Gram matrix: records may be very many."""
    scaled = weights / np.maximum(np.linalg.norm(weights, axis=0), 1e-300)
    return int(np.linalg.matrix_rank(scaled.T @ scaled, tol=1e-10, hermitian=True))
