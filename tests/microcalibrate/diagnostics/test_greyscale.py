"""The five charts of a diagnosis without their colours: everything is still told apart."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest

from l0.reports.palette import AFTER, BEFORE, GRID, INK, MUTED, PAPER
from microcalibrate.diagnostics import Diagnosis, diagnose

# WCAG 2: 3 for parts of a chart against the page, 4.5 for text.
MARKS, TEXT = 2.0, 4.5


def luminance(colour: str) -> float:
    """Relative luminance of a hexadecimal colour, in [0, 1] (WCAG 2)."""
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def diagnosed(offender: float) -> Diagnosis:
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {
            "id": np.arange(600),
            "amount": rng.gamma(2.0, 100, 600),
            "region": rng.choice(["north", "south"], 600),
            "weight": rng.lognormal(3, 0.5, 600),
        }
    )
    data.loc[7, "weight"] = offender
    surface = {"metrics": ["amount"], "slices": ["region"]}
    return diagnose(data, "weight", surface=surface, id_column="id", flag_dominating=True)


def looks(trace: Any) -> tuple[str, tuple[Any, ...]]:
    """Colour of a series, and whatever else it is told apart by."""
    marker = trace.to_plotly_json().get("marker", {})
    line = trace.to_plotly_json().get("line", {})
    colour = line.get("color") or marker.get("color") or PAPER
    colour = colour if isinstance(colour, str) and re.fullmatch("#[0-9a-f]{6}", colour) else PAPER
    others = (
        marker.get("symbol"),
        str(marker.get("pattern")),
        line.get("dash"),
        trace.mode if (trace.type == "scatter") else trace.type,
    )
    return colour, others


def test_colours_differ_in_lightness() -> None:
    assert contrast(BEFORE, AFTER) >= MARKS
    assert contrast(BEFORE, INK) >= MARKS
    assert contrast(INK, PAPER) >= TEXT
    assert contrast(MUTED, PAPER) >= TEXT
    for colour in (BEFORE, AFTER):
        assert contrast(colour, PAPER) >= MARKS


@pytest.mark.parametrize("drawing", ["plot_weights", "plot_influence", "plot_kish"])
def test_series_of_one_chart_differ_in_lightness_or_form(drawing: str) -> None:
    before, after = diagnosed(4_000.0), diagnosed(20.0)
    options = {} if drawing == "plot_kish" else {"before": before}
    figure = getattr(after, drawing)(**options)
    named = {trace.name or trace.type: looks(trace) for trace in figure.data}

    assert len(named) >= 2
    for (first, one), (second, other) in combinations(named.items(), 2):
        tells = contrast(one[0], other[0]) >= MARKS or one[1] != other[1]
        assert tells, f"{first} and {second} look alike without colour"


def test_the_heat_map_grows_darker_with_the_share() -> None:
    heat = diagnosed(4_000.0).plot_heat_map().data[0]
    shades = [luminance(colour) for _, colour in heat.colorscale]

    assert shades == sorted(shades, reverse=True)
    assert contrast(heat.colorscale[0][1], heat.colorscale[-1][1]) >= TEXT
    assert heat.colorscale[0][1] == GRID
