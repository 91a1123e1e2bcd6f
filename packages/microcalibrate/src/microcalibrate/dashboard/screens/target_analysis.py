"""Target analysis: which targets are out of reach, contradictory, redundant or costly, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from microcalibrate.dashboard.browsing import Order, browse, ordered_by
from microcalibrate.dashboard.launching import Form, targets_form
from microcalibrate.dashboard.saved import result_and_form, saved, show
from microcalibrate.dashboard.screen import Screen

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context
    from microcalibrate.dashboard.outcomes import Outcome

FORM = Form(
    command="targets",
    shown=("max_ratio", "min_ratio", "tolerance", "resolve", "least_miss", "loosening"),
    label="Analyse the targets",
    what="analysis",
)


def render(context: Context) -> None:
    """Draw the screen."""
    result_and_form(
        context,
        ("target analysis",),
        _result,
        lambda: targets_form(context, FORM),
        "New analysis",
        "An analysis tells which targets no weights can meet, which say the same, which pull "
        "against each other, and what dropping or loosening each would gain.",
    )


def _result(outcome: Outcome) -> None:
    found = saved(outcome)

    def every_target() -> None:
        browse(
            found.result.table, ORDERS, _columns(), "analysed", searched=("name", "kind", "reason")
        )

    show(found, {"Every target": every_target})


ORDERS: dict[str, Order] = {
    "most trouble": ordered_by("rank", ascending=True),
    "gain when dropped": ordered_by("drop_objective"),
    "gain when loosened": ordered_by("loosen_objective"),
    "strongest conflict": ordered_by("conflict"),
    "kind": ordered_by("kind", ascending=True),
    "name": ordered_by("name", ascending=True),
}


def _columns() -> dict[str, Any]:
    config = st.column_config
    return {
        "rank": config.NumberColumn("rank", width=55),
        "name": config.TextColumn("target", width=220),
        "kind": config.TextColumn("kind", width=110),
        "reason": config.TextColumn("why", width=380),
        "initial_error": config.NumberColumn("error before", format="percent", width=100),
        "error": config.NumberColumn("error after", format="percent", width=95),
        "price": config.NumberColumn("price", format="scientific", width=90),
        "support": config.NumberColumn("records", format="localized", width=80),
        "conflict": config.NumberColumn("conflict", format="%.2f", width=75),
        "conflict_with": config.TextColumn("with", width=200),
    }


SCREEN = Screen(
    title="Target analysis",
    icon=":material/rule:",
    url="target_analysis",
    lead="Which targets are out of reach, contradictory, redundant or costly, and why.",
    render=render,
    group="Go further",
)
