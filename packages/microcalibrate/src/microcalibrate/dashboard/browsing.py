"""A table of targets with a search and an order that stand in the address of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from microcalibrate.dashboard import links, parts, words

Order = Callable[[pd.DataFrame], pd.DataFrame]


def ordered_by(column: str, *, ascending: bool = False, size: bool = False) -> Order:
    """Rows in the order of a column, the largest first; with `size` whatever its sign."""

    def order(table: pd.DataFrame) -> pd.DataFrame:
        key = (lambda values: values.abs()) if size else None
        return table.sort_values(column, ascending=ascending, kind="stable", key=key)

    return order


def browse(
    table: pd.DataFrame,
    orders: Mapping[str, Order],
    columns: Mapping[str, Any],
    key: str,
    searched: tuple[str, ...] = ("name",),
    noun: str = "target",
) -> None:
    """Show a table of targets with a search (`q` in the address) and an order (`sort`).

    Args:
        table: One row per target, with those columns.
        orders: What people call an order, to what brings it about; the first is the default.
        columns: Column to Streamlit's configuration of it; others are not shown.
        key: Of the widget.
        searched: Columns of text that are searched.
        noun: What a row is.
    """
    # A fragment: a search draws these rows anew, and nothing else of the screen.
    st.fragment(_browse)(table, orders, columns, key, searched, noun)


def _browse(
    table: pd.DataFrame,
    orders: Mapping[str, Order],
    columns: Mapping[str, Any],
    key: str,
    searched: tuple[str, ...],
    noun: str,
) -> None:
    search, order = st.columns([3, 2])
    names = list(orders)
    with search:
        wanted = st.text_input("Search", placeholder="a part of the name", **links.kept("q", ""))
    with order:
        by = st.selectbox("Order", names, **links.kept("sort", names[0], names))
    shown = orders[by](found(table, wanted, searched))
    parts.note(f"{words.count(len(shown), noun)} of {len(table):,}.")
    parts.table(
        shown[[name for name in columns if name in shown.columns]],
        key=key,
        alt=f"{noun.capitalize()}s",
        column_config=dict(columns),
        height=520 if len(shown) > 13 else "auto",
    )


def in_digits_that_count(table: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """A table whose totals from 1,000 on are whole; smaller ones stay as they are.

    A column as wide as every digit would show fewer totals, and a narrower one cuts them off.

    Examples:
        >>> in_digits_that_count(pd.DataFrame({"x": [1234.56, 0.25]}), ["x"]).x.tolist()
        [1235.0, 0.25]
    """
    shown = {}
    for name in columns:
        values = table[name].to_numpy(dtype=np.float64)
        shown[name] = np.where(np.abs(values) >= 1000, np.rint(values), values)
    return table.assign(**shown)


def found(table: pd.DataFrame, wanted: str, searched: tuple[str, ...]) -> pd.DataFrame:
    """Rows with every word of a search in one of their texts, whatever the case.

    Examples:
        >>> table = pd.DataFrame({"name": ["snap/CA", "snap/TX", "eitc/CA"]})
        >>> found(table, "ca SNAP", ("name",)).name.tolist()
        ['snap/CA']
    """
    texts = pd.Series("", index=table.index)
    for column in searched:
        texts = texts + " " + table[column].astype(str).str.lower()
    keep = pd.Series(True, index=table.index)
    for word in wanted.lower().split():
        keep &= texts.str.contains(word, regex=False)
    return table[keep]
