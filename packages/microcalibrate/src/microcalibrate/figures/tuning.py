"""Figures of a tuning, for notebook, report and page alike: pure functions, SVG, no network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from l0.reports.palette import AFTER, BEFORE, INK, MUTED, PAPER
from microcalibrate.errors import InvalidOption
from microcalibrate.figures.plotting import (
    blank_figure,
    broken_line,
    escaped_lines,
    named_axis,
    percent,
    whole_axis,
)
from microcalibrate.figures.trials import (
    add_mark,
    fact,
    facts,
    finished,
    goal_of,
    left_out,
    log_axis,
    meaning,
    number_text,
    place_of,
    thinned,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from microcalibrate.hyperparameter_tuning.result import TuningResult

Vector = NDArray[np.float64]

MOST_MARKS = 5_000
# So that all traces of a figure together stay below that.
MOST_ON_FRONT = 700
MOST_FOLDS = 30

TRIAL_MARK = {"color": PAPER, "size": 8, "symbol": "circle", "line": {"color": MUTED, "width": 1.5}}
FRONT_MARK = {"color": AFTER, "size": 9, "symbol": "diamond"}
BEST_MARK = {"color": BEFORE, "size": 17, "symbol": "star", "line": {"color": INK, "width": 1.5}}
RULE_MARK = {"color": PAPER, "size": 13, "symbol": "square", "line": {"color": INK, "width": 2}}
LOST_MARK = {"color": MUTED, "size": 8, "symbol": "x-thin", "line": {"color": MUTED, "width": 2}}
FOLD_SYMBOLS = (
    "circle-open",
    "square-open",
    "triangle-up-open",
    "cross-open",
    "triangle-down-open",
    "pentagon-open",
    "hexagon-open",
    "bowtie-open",
)
FOLD_DASHES = ("dot", "dash", "dashdot", "longdash", "longdashdot")


def history(result: TuningResult) -> Figure:
    """Score (or held-out error) of each trial in order, and the best so far as a line."""
    trials, goal = result.trials, goal_of(result)
    done = finished(result)
    value = done[goal].to_numpy(dtype=np.float64)
    so_far = np.minimum.accumulate(value)
    # Trials that lowered the best are never left out.
    is_step = np.concatenate([[True], so_far[1:] < so_far[:-1]])
    kept = thinned(len(done), np.append(np.flatnonzero(is_step), place_of(done, result.best)))
    lost = trials[trials.state.isin(["FAIL", "PRUNED"])]
    n_lost, lost = len(lost), lost.iloc[thinned(len(lost))]
    is_score = goal == "score"
    figure = blank_figure(
        "Score by trial" if is_score else "Held-out error by trial",
        f"{meaning(result)} Line: the best so far. Trial {result.best['number']} is chosen"
        f"{' (one-standard-error rule)' if result.settings.get('one_standard_error') else ''}."
        + (f" {n_lost:,} pruned or failed ones stand at the foot." if len(lost) else "")
        + left_out(len(kept) + len(lost), len(done) + n_lost, "trials"),
        height=430,
    )
    figure.add_scatter(
        x=done.number.to_numpy()[kept],
        y=so_far[kept],
        mode="lines",
        line={"color": AFTER, "width": 2, "shape": "hv"},
        name="best so far",
        hoverinfo="skip",
    )
    shown = done.iloc[kept]
    figure.add_scatter(
        x=shown.number,
        y=value[kept],
        mode="markers",
        marker=TRIAL_MARK,
        name="trial",
        text=facts(result, shown),
        hoverinfo="text",
    )
    add_mark(figure, result, result.best, "number", goal, BEST_MARK, "chosen")
    low, high = float(value.min()), float(value.max())
    margin = 0.08 * (high - low or max(high, 0.01))
    if len(lost):
        reasons = [
            f"trial {number} {state.lower()}<br>{escaped_lines((infeasible or error)[:300])}"
            for number, state, infeasible, error in zip(
                lost.number, lost.state, lost.infeasible, lost.error, strict=True
            )
        ]
        figure.add_scatter(
            x=lost.number,
            y=np.full(len(lost), low - margin),
            mode="markers",
            marker=LOST_MARK,
            name="pruned or failed",
            text=reasons,
            hoverinfo="text",
            cliponaxis=False,
        )
    figure.update_layout(showlegend=True)
    last = int(trials.number.max())
    figure.update_xaxes(
        title="trial", range=[-0.02 * last - 0.5, 1.02 * last + 0.5], **whole_axis(last)
    )
    figure.update_yaxes(
        title="score (units of held-out error)" if is_score else "held-out error",
        range=[low - 1.5 * margin, high + margin],
        tickformat=".3~f" if is_score else "~%",
        nticks=7,
    )
    return figure


def importance(result: TuningResult) -> Figure:
    """How much each parameter matters; where that cannot be told, the figure says why."""
    try:
        shares, reason = result.importances(), ""
    except InvalidOption as error:
        shares, reason = {}, str(error)
    aim = "the score" if result.settings["objective"] == "balanced" else "the Pareto front"
    figure = blank_figure(
        "What matters among the options searched",
        f"How far values in the best trials are from those in all, for {aim} (PED-ANOVA). Shares "
        "sum to 100%; with few trials they are rough.",
        height=190 + 46 * len(shares),
    )
    heights = np.arange(len(shares), 0, -1.0)
    figure.add_bar(
        x=list(shares.values()),
        y=heights,
        orientation="h",
        width=0.5,
        marker={"color": AFTER},
        text=[f" {percent(share)}" for share in shares.values()],
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
    )
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title="share of importance", tickformat="~%", range=[0, 1.08])
    figure.update_yaxes(**named_axis(heights, list(shares)), showgrid=False)
    if reason:
        figure.add_annotation(
            text=f"Not known: {escaped_lines(reason)}.",
            font={"color": MUTED, "size": 14},
            x=0.5,
            y=0.5,
            xref="x domain",
            yref="y domain",
            showarrow=False,
        )
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False, range=[0, 1])
    return figure


def front(result: TuningResult) -> Figure:
    """Held-out error against records: every trial, and the front that none beats."""
    done, edge = finished(result), result.front
    shown_edge = edge.iloc[thinned(len(edge), most=MOST_ON_FRONT)]
    kept = thinned(len(done), np.array([place_of(done, result.best)]))
    shown = done.iloc[kept]
    shown = shown[~shown.number.isin(shown_edge.number)]
    spread = shown_edge.standard_error.fillna(0).to_numpy()
    bars = f" Bars: one standard error over {result.settings['n_folds']} folds." * bool(
        spread.any()
    )
    figure = blank_figure(
        "Held-out error against records",
        "No trial has both fewer records and a smaller error than one on the front, which is the "
        f"line.{bars}" + left_out(len(kept), len(done), "trials"),
        height=500,
    )
    size, error = shown_edge.records.to_numpy(), shown_edge.held_out_error.to_numpy()
    figure.add_scatter(
        x=broken_line(size, size),
        y=broken_line(np.maximum(error - spread, 0), error + spread),
        mode="lines",
        line={"color": MUTED, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_scatter(
        x=shown.records,
        y=shown.held_out_error,
        mode="markers",
        marker=TRIAL_MARK,
        name="beaten by another",
        text=facts(result, shown),
        hoverinfo="text",
        visible=len(shown) > 0,
    )
    figure.add_scatter(
        x=size,
        y=error,
        mode="lines+markers",
        line={"color": AFTER, "width": 2, "shape": "hv"},
        marker=FRONT_MARK,
        name="front",
        text=facts(result, shown_edge),
        hoverinfo="text",
    )
    rule, lowest = result.one_standard_error, result.lowest
    if rule["number"] != lowest["number"]:
        # Of the two that could have been chosen, the other one.
        is_rule = result.best["number"] == lowest["number"]
        goal = "lowest score" if goal_of(result) == "score" else "smallest error"
        name = "one-standard-error rule" if is_rule else goal
        other = rule if is_rule else lowest
        add_mark(figure, result, other, "records", "held_out_error", RULE_MARK, name)
    if not math.isnan(lowest["standard_error"]):
        limit = lowest["held_out_error"] + lowest["standard_error"]
        figure.add_hline(y=limit, line={"color": MUTED, "width": 1, "dash": "dash"})
        figure.add_annotation(
            text=f"trial {lowest['number']} plus one standard error",
            font={"color": MUTED},
            x=0.99,
            xref="x domain",
            xanchor="right",
            y=limit,
            yanchor="bottom",
            showarrow=False,
        )
    add_mark(figure, result, result.best, "records", "held_out_error", BEST_MARK, "chosen")
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title="records (mean over folds, log scale)", **log_axis(done.records))
    figure.update_yaxes(title="held-out error", tickformat="~%", nticks=8)
    return figure


def folds(result: TuningResult) -> Figure:
    """Held-out error of each fold against the price of records, with the mean over folds."""
    done = finished(result)
    n_folds = int(result.settings["n_folds"])
    n_drawn = min(n_folds, MOST_FOLDS)
    room = (MOST_MARKS - 1) // (n_drawn + 1)
    shown = done.iloc[thinned(len(done), np.array([place_of(done, result.best)]), room)]
    shown = shown.sort_values("l0_lambda", kind="stable")
    errors = result.fold_errors.pivot(index="number", columns="fold", values="held_out_error")
    errors = errors.loc[shown.number]
    # Lines would join trials that differ in more than the price.
    is_alone = len(result.best_params) == 1
    figure = blank_figure(
        "Held-out error of each fold",
        "Each fold's targets, seen by no weight of theirs. Where folds lie far apart they are "
        "unlike; where they cross, the price suits them differently."
        + left_out(len(shown), len(done), "trials")
        + left_out(n_drawn, n_folds, "folds"),
        height=500,
    )
    price = shown.l0_lambda.to_numpy(dtype=np.float64)
    for fold in range(n_drawn):
        few = n_folds <= len(FOLD_SYMBOLS)
        symbol = FOLD_SYMBOLS[fold] if few else FOLD_SYMBOLS[0]
        figure.add_scatter(
            x=price,
            y=errors[fold],
            mode="lines+markers" if is_alone else "markers",
            line={"color": MUTED, "width": 1, "dash": FOLD_DASHES[fold % len(FOLD_DASHES)]},
            marker={"symbol": symbol, "color": MUTED, "size": 8 if few else 6},
            name=f"fold {fold}" if few else "folds",
            showlegend=few or fold == 0,
            text=[
                f"fold {fold}, trial {number}: {percent(error)}<br>l0_lambda {number_text(at)}"
                for number, error, at in zip(shown.number, errors[fold], price, strict=True)
            ],
            hoverinfo="text",
        )
    mean = errors.mean(axis=1).to_numpy()
    figure.add_scatter(
        x=price,
        y=mean,
        mode="lines+markers" if is_alone else "markers",
        line={"color": AFTER, "width": 2.5},
        marker=FRONT_MARK,
        name="mean of the folds",
        text=facts(result, shown),
        hoverinfo="text",
    )
    at_best = int(np.flatnonzero(shown.number.to_numpy() == result.best["number"])[0])
    figure.add_scatter(
        x=[price[at_best]],
        y=[mean[at_best]],
        mode="markers",
        marker=BEST_MARK,
        name="chosen",
        text=[fact(result, result.best)],
        hoverinfo="text",
    )
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title="l0_lambda, the price of records (log scale)", **log_axis(price))
    figure.update_yaxes(title="held-out error", tickformat="~%", nticks=8, rangemode="tozero")
    return figure
