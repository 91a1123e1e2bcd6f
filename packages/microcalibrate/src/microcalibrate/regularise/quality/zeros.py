"""Combinations that do not occur: declared impossible, never seen, or seen only elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from microcalibrate.regularise.constraints import violations
from microcalibrate.regularise.quality.samples import NUMERIC, Coded, Mask, Vector
from microcalibrate.regularise.values import read_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microcalibrate.regularise.codec import Codec
    from microcalibrate.regularise.slots import SlotColumn
    from microcalibrate.regularise.survey import Survey

MOST_LEVELS = 60
"""Levels above which a category takes no part in pairs: most of its pairs are empty by chance."""


def impossible_rows(
    rows: pd.DataFrame,
    columns: Sequence[SlotColumn],
    codec: Codec | None = None,
    source: Survey | None = None,
) -> Mask:
    """Rows that cannot be a unit: undeclared values, broken links, or a broken constraint.

    Args:
        rows: Slot rows.
        columns: Their columns.
        codec: What decodes them; without it only values are looked at, cell by cell.
        source: Real survey with the constraints; without it they are not looked at.

    Returns:
        Shape `(n_rows,)`.
    """
    bad = np.zeros(len(rows), dtype=np.bool_)
    if codec is None:
        filled = {c.name: rows[c.name].to_numpy(bool) for c in columns if c.kind == "present"}
        for column in columns:
            cells, wrong = read_cells(rows[column.name], column)
            exists = filled[column.presence] if column.presence else np.ones(len(rows), bool)
            bad |= exists & (wrong | (cells.missing & (not column.missing)))
            bad |= ~exists & ~cells.missing
        return bad
    bad = ~codec.acceptable(rows)
    if source is not None and not bad.all():
        good = rows[~bad]
        origins = np.repeat(source.unit_ids[:1].to_numpy(), len(good))
        decoded = codec.decode(good, source=source, origins=origins, weights=1.0)
        broken = violations(decoded)["unit"]
        bad[np.flatnonzero(~bad)[decoded.unit_ids.get_indexer(pd.Index(broken.unique()))]] = True
    return bad


def pair_shares(sample: Coded) -> tuple[Vector, npt.NDArray[np.intp]]:
    """Share of the weight in each pair of states of two columns.

    A state is a level, a truth value, no value, or the sign of a number: below, at or above 0.

    Args:
        sample: Rows.

    Returns:
        Shares, shape `(n_states, n_states)`, and the column of each state. The states are the
        same for all samples of the same columns.
    """
    parts, owner = [], []
    for place, column in enumerate(sample.columns):
        values, exists = sample.values[:, place], sample.exists[:, place]
        if column.type in NUMERIC:
            states = [values < 0, values == 0, values > 0]
        elif len(column.levels or ()) > MOST_LEVELS:
            continue
        else:
            n_levels = len(column.levels) if column.levels is not None else 2
            states = [values == level for level in range(n_levels)]
        states.append(exists & np.isnan(values))
        parts += states
        owner += [place] * len(states)
    matrix = np.column_stack(parts).astype(np.float64)
    shares: Vector = (matrix * (sample.weights / sample.weights.sum())[:, None]).T @ matrix
    return shares, np.array(owner, dtype=np.intp)


def zero_figures(train: Coded, holdout: Coded, synthetic: Coded) -> dict[str, float]:
    """How generated rows treat pairs of states that training rows do not have.

    Args:
        train: Rows that the generator learned from.
        holdout: Real rows that it has not seen.
        synthetic: Generated rows.

    Returns:
        `never_seen_share`: share of generated pairs that no real row has.
        `unseen_share`: share of generated pairs that no training row has.
        `sampling_zero_recovery`: of the pairs that the holdout has and the training rows lack,
        the share by weight that generated rows have; left out where there are none.
    """
    (seen, owner), (held, _), (made, _) = map(pair_shares, (train, holdout, synthetic))
    pairs = owner[:, None] < owner
    made_weight = made[pairs].sum()
    unseen = pairs & (seen == 0)
    figures = {
        "never_seen_share": float(made[unseen & (held == 0)].sum() / made_weight),
        "unseen_share": float(made[unseen].sum() / made_weight),
    }
    new = unseen & (held > 0)
    if new.any():
        figures["sampling_zero_recovery"] = float(held[new & (made > 0)].sum() / held[new].sum())
    return figures
