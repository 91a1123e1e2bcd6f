"""The history of the targets of a run: which steps are kept, and the table they form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from microcalibrate.arrays import Vector

if TYPE_CHECKING:
    import pandas as pd

MOST_VALUES = 2_000_000
"""Values, steps times targets, up to which every step is kept."""
KEPT_OF_A_PHASE = 10
"""Of longer runs about this many steps of each phase are kept, and its last."""
INDEX = ("epoch", "phase", "step")


@dataclass(frozen=True, eq=False)
class PhaseTrail:
    """What the targets were in one phase of a run.

    Attributes:
        phase: "dense" or "refit".
        step_errors: Errors after each step, in scales, shape `(n_steps, n_targets)`.
        final: Estimates with the weights that the phase ended with, shape `(n_targets,)`.
    """

    phase: str
    step_errors: Vector
    final: Vector


def history_of_targets(
    trails: Sequence[PhaseTrail], names: Sequence[str], targets: Vector, scales: Vector
) -> pd.DataFrame:
    """Estimates of the targets at each kept step, in the targets' own units.

    Args:
        trails: The phases of a run, in order.
        names: Of the targets.
        targets: Shape `(n_targets,)`.
        scales: What an error of 1 means, shape `(n_targets,)`.

    Returns:
        A row per kept step and a column per target. The index has the `epoch`, counted from 0
        through all steps of all phases, the `phase`, and the `step` within it. The last row of a
        phase is what its weights give, to the last bit. A phase without steps has its end as
        step 0.

    Examples:
        >>> goal = np.array([4.0])
        >>> trail = PhaseTrail("dense", np.array([[-0.5], [0.1]]), final=goal)
        >>> history_of_targets([trail], ["people"], goal, scales=goal).people.tolist()
        [2.0, 4.0]
    """
    import pandas as pd

    n_values = sum(trail.step_errors.size for trail in trails)
    rows, index = [], []
    epoch = 0
    for trail in trails:
        n_steps = max(len(trail.step_errors), 1)
        every = 1 if n_values <= MOST_VALUES else max(n_steps // KEPT_OF_A_PHASE, 1)
        kept = [*range(0, n_steps - 1, every), n_steps - 1]
        estimates = np.empty((len(kept), len(targets)))
        estimates[:-1] = targets + scales * trail.step_errors[kept[:-1]]
        estimates[-1] = trail.final
        rows.append(estimates)
        index += [(epoch + step, trail.phase, step) for step in kept]
        epoch += n_steps
    return pd.DataFrame(
        np.concatenate(rows),
        index=pd.MultiIndex.from_tuples(index, names=INDEX),
        columns=pd.Index(list(names), dtype="object"),
    )


def phases_of(history: pd.DataFrame, steps: pd.DataFrame) -> list[dict[str, object]]:
    """Where each phase of a run begins and ends, and which of its steps are kept.

    Args:
        history: As `history_of_targets` returns it.
        steps: The engine's table of all steps, with `phase` and `records`.

    Returns:
        Per phase its name, its first and last epoch, the number of its `steps`, how many of them
        are `kept`, whether that is `every_step`, and the `records` it worked on (None where the
        phase took no step).
    """
    records = dict(zip(steps.phase, steps.records, strict=True)) if len(steps) else {}
    found: list[dict[str, object]] = []
    for phase, part in history.groupby("phase", sort=False):
        epochs = part.index.get_level_values("epoch")
        n_steps = int(epochs[-1] - epochs[0] + 1)
        found.append(
            {
                "phase": str(phase),
                "first_epoch": int(epochs[0]),
                "last_epoch": int(epochs[-1]),
                "steps": n_steps,
                "kept": len(part),
                "every_step": len(part) == n_steps,
                "records": int(records[phase]) if phase in records else None,
            }
        )
    return found
