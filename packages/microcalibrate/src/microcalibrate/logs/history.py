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
        weights: Those that the phase ended with, shape `(n_records,)`.
    """

    phase: str
    step_errors: Vector
    weights: Vector


@dataclass(frozen=True, eq=False)
class State:
    """What targets are at some weights, in their own units.

    Attributes:
        estimates: Shape `(n_targets,)`.
        scales: How far an error of 1 is from the target, shape `(n_targets,)`. Of a quotient, its
            denominator is in it.
    """

    estimates: Vector
    scales: Vector


def history_of_targets(
    trails: Sequence[PhaseTrail],
    names: Sequence[str],
    targets: Vector,
    start: State,
    ends: Sequence[State],
) -> pd.DataFrame:
    """Estimates of the targets at each kept step, in the targets' own units.

    Quotients have the denominator of the design weights at the first step, and of the weights that
    their phase ends with at all others.

    Args:
        trails: The phases of a run, in order.
        names: Of the targets.
        targets: Shape `(n_targets,)`, in their own units.
        start: At the design weights.
        ends: At the weights that each phase ended with.

    Returns:
        A row per kept step and a column per target. The index has the `epoch`, counted from 0
        through all steps of all phases, the `phase`, and the `step` within it. The last row of a
        phase is what its weights give, to the last bit. A phase without steps has its end as
        step 0.

    Examples:
        >>> goal = np.array([4.0])
        >>> trail = PhaseTrail("dense", np.array([[-0.5], [0.1]]), weights=goal)
        >>> states = State(goal / 2, scales=goal), [State(goal, scales=goal)]
        >>> history_of_targets([trail], ["people"], goal, *states).people.tolist()
        [2.0, 4.0]
    """
    import pandas as pd

    n_values = sum(trail.step_errors.size for trail in trails)
    rows: list[Vector] = []
    index: list[tuple[int, str, int]] = []
    epoch = 0
    for trail, end in zip(trails, ends, strict=True):
        n_steps = max(len(trail.step_errors), 1)
        every = 1 if n_values <= MOST_VALUES else max(n_steps // KEPT_OF_A_PHASE, 1)
        kept = [*range(0, n_steps - 1, every), n_steps - 1]
        estimates = np.empty((len(kept), len(targets)))
        estimates[:-1] = targets + end.scales * trail.step_errors[kept[:-1]]
        if not rows and len(kept) > 1:
            estimates[0] = targets + start.scales * trail.step_errors[0]
        estimates[-1] = end.estimates
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
