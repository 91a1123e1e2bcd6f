"""The targets as a tree of rectangles, by the parts of their names between slashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from l0.reports.palette import AFTER, BEFORE, FONT, GRID, INK, PAPER
from microcalibrate.errors import InvalidOption
from microcalibrate.figures.plotting import blank_figure, escaped_lines, percent

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

MOST_BOXES = 5_000
SIZES = ("count", "error", "loss")
"""What the size of a rectangle can be: targets, their capped relative errors, or their squares."""
SAID = {
    "count": "number of targets",
    "error": "sum of the absolute relative errors, each capped at 100%",
    "loss": "sum of the squared relative errors, each capped at 100%",
}
WORST = (0.2, 1.0)
"""Mean error from which a rectangle is wholly orange: the first, unless all of them are far off."""
FAR_OFF = 0.1
"""Mean error of all targets from which they are."""
ROOT = ""


@dataclass(eq=False, slots=True)
class _Box:
    """A part of the tree, with sums over all targets below it, and the area of those that end here.

    Attributes:
        label: The last part of its name.
        parent: Key of the box around it.
        n_targets: Below it, itself among them.
        n_known: Those that have a relative error.
        error: Sum of their errors, each capped at 1.
        area: What the targets that end here add to the area.
    """

    label: str
    parent: str
    n_targets: int = 0
    n_known: int = 0
    error: float = 0.0
    area: float = 0.0

    @property
    def mean(self) -> float | None:
        """Mean error of the targets that have one."""
        return self.error / self.n_known if self.n_known else None

    def said(self) -> str:
        """How many targets, and how far off."""
        error = "n/a (target 0)" if self.mean is None else percent(self.mean)
        if self.n_targets == 1:
            return error
        return f"{self.n_targets:,} targets, mean error {error}"


def target_tree(state: pd.DataFrame, size: str = "count") -> Figure:
    """Targets as rectangles within those of their groups: a click opens a group.

    Args:
        state: Targets at an epoch: `name`, in which slashes part the levels, `target` and
            `rel_abs_error`, NaN where the target is 0.
        size: What the area of a rectangle is: "count", "error" or "loss".

    Returns:
        A Plotly figure. Where there are more than 5,000 rectangles the deepest levels are summed
        up in those above them.

    Raises:
        InvalidOption: If `size` is not known.
        MissingExtra: If Plotly is not installed.
    """
    if size not in SIZES:
        raise InvalidOption(f"size={size!r} is not known. Use one of {list(SIZES)}.")
    error = state.rel_abs_error.to_numpy(dtype=np.float64)
    capped = np.where(np.isnan(error), 0.0, np.minimum(error, 1.0))
    areas = {"count": np.ones(len(error)), "error": capped, "loss": capped**2}[size]
    paths = [_levels(str(name)) for name in state.name]
    whole = depth = max((len(path) for path in paths), default=1)
    boxes = _boxes(paths, error, areas, depth)
    while len(boxes) > MOST_BOXES and depth > 1:
        depth -= 1
        boxes = _boxes(paths, error, areas, depth)
    worst = WORST[(boxes[ROOT].mean or 0.0) > FAR_OFF]
    n_left = max(len(boxes) - MOST_BOXES, 0)
    boxes = dict(list(boxes.items())[:MOST_BOXES])
    figure = blank_figure(
        "Targets by the parts of their names",
        f"Area: {SAID[size]}. Shade: mean absolute relative error, blue at 0%, orange from "
        f"{worst:.0%}. A click opens a group, a click on its title closes it."
        + (f" Shows {depth} of {whole} levels." if depth < whole else "")
        + (f" Not drawn: {n_left:,} more." if n_left else "")
        + (" There is nothing to draw: no target is off." if not areas.any() else ""),
        height=640,
    )
    figure.add_treemap(
        ids=[f"/{key}" for key in boxes],
        labels=[escaped_lines(box.label) for box in boxes.values()],
        parents=["" if key == ROOT else f"/{box.parent}" for key, box in boxes.items()],
        values=[box.area for box in boxes.values()],
        branchvalues="remainder",
        marker={
            "colors": [box.mean for box in boxes.values()],
            "colorscale": [[0, AFTER], [0.4, GRID], [1, BEFORE]],
            "cmin": 0,
            "cmax": worst,
            "showscale": True,
            "colorbar": {"title": {"text": "mean error"}, "tickformat": ".0%", "thickness": 12},
            "line": {"color": PAPER, "width": 1},
        },
        text=[box.said() for box in boxes.values()],
        hovertext=[
            f"{escaped_lines(key or 'all targets')}<br>{box.said()}" for key, box in boxes.items()
        ],
        hoverinfo="text",
        texttemplate="%{label}<br>%{text}",
        textfont={"family": FONT, "size": 12},
        pathbar={"textfont": {"family": FONT, "color": INK}},
        maxdepth=3,
    )
    figure.update_layout(margin={"l": 10, "r": 10, "b": 10})
    return figure


def _levels(name: str) -> list[str]:
    """The parts of a name that have something in them."""
    return [part for part in name.split("/") if part.strip()] or [name or " "]


def _boxes(
    paths: Sequence[list[str]], error: NDArray[np.float64], areas: NDArray[np.float64], depth: int
) -> dict[str, _Box]:
    """The tree down to a depth; targets below it end in their group."""
    boxes = {ROOT: _Box("all targets", ROOT)}
    for path, miss, area in zip(paths, error.tolist(), areas.tolist(), strict=True):
        above = ROOT
        for level in range(min(len(path), depth) + 1):
            key = "/".join(path[:level])
            if key not in boxes:
                boxes[key] = _Box(path[level - 1], above)
            box = boxes[key]
            box.n_targets += 1
            if miss == miss:
                box.n_known += 1
                box.error += min(miss, 1.0)
            above = key
        box.area += area
    return boxes
