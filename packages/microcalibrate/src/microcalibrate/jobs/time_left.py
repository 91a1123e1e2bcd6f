"""How long a run will still take, from what it has told so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

# What contains the others stands first: its end is the end of the run.
COUNTED = ("rounds", "trials", "folds", "reforms", "training", "gates")
SOLVES = ("dense", "refit")
CERTIFIED_GAP = 1e-8
STEPS_LOOKED_AT = 8


def seconds_left(lines: Sequence[dict[str, Any]], seconds: float) -> float | None:
    """Seconds until the work is done, or None as long as nobody can tell.

    Counted work goes on at the pace it had; an engine's solve ends when the relative gap, whose
    logarithm falls evenly, is below 1e-8.

    Args:
        lines: The lines of progress of one run.
        seconds: What the clock of these lines shows now.

    Examples:
        >>> line = {"activity": "trials", "total": 10, "figures": {}}
        >>> told = [line | {"done": 0, "seconds": 0.0}, line | {"done": 4, "seconds": 20.0}]
        >>> seconds_left(told, seconds=21.0)
        29.0
    """
    activities = COUNTED + tuple(line["activity"] for line in lines[-1:])
    for activity in activities:
        own = [line for line in lines if line["activity"] == activity and line["total"]]
        if own:
            return _by_count(own, seconds)
    if lines and lines[-1]["activity"] in SOLVES:  # "writing" takes its time, too, but how much?
        return _by_gap(lines, seconds)
    return None


def _by_count(lines: Sequence[dict[str, Any]], seconds: float) -> float | None:
    last = lines[-1]
    first = last
    for line in reversed(lines):
        if line["done"] > first["done"]:
            break  # An earlier pass of the same kind.
        first = line
    done, took = last["done"] - first["done"], last["seconds"] - first["seconds"]
    if done <= 0 or took <= 0:
        return None
    left: float = (last["total"] - last["done"]) * took / done
    return max(0.0, left - (seconds - float(last["seconds"])))


def _by_gap(lines: Sequence[dict[str, Any]], seconds: float) -> float | None:
    last = lines[-1]
    steps: list[dict[str, Any]] = []
    for line in reversed(lines):
        is_of_this_solve = line["activity"] == last["activity"] and (
            not steps or line["done"] < steps[-1]["done"]
        )
        if not is_of_this_solve or len(steps) == STEPS_LOOKED_AT:
            break
        steps.append(line)
    steps = [line for line in reversed(steps) if line["figures"].get("gap", 0.0) > 0]
    if len(steps) < 3:
        return None
    fall = math.log10(steps[0]["figures"]["gap"] / steps[-1]["figures"]["gap"])
    took: float = steps[-1]["seconds"] - steps[0]["seconds"]
    if fall <= 0 or took <= 0:
        return None
    to_go = max(0.0, math.log10(steps[-1]["figures"]["gap"] / CERTIFIED_GAP))
    return max(0.0, to_go * took / fall - (seconds - float(last["seconds"])))
