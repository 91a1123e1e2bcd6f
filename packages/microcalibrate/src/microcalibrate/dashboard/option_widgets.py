"""A form made of the options of a command, and what it says in words of other tools."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import streamlit as st

from microcalibrate.dashboard import parts, words
from microcalibrate.dashboard.option_schema import Kind, Option
from microcalibrate.errors import InvalidOption

COLUMNS = 3


def fields(
    prefix: str,
    options: Mapping[str, Option],
    shown: Sequence[str],
    *,
    columns: Sequence[str] = (),
    of_members: Sequence[str] = (),
    folded: str = "More options",
) -> dict[str, Any]:
    """Fields for options; those that are not named stand folded below the others.

    Args:
        prefix: Of the keys of the widgets, which are `{prefix}_{name}`.
        options: All of them.
        shown: Names of those that stand first, in their order.
        columns: Of the data, for options that name one.
        of_members: Of further tables, each `entity.column`, for options that follow several.
        folded: Heading of the others.

    Returns:
        Name to value, None where nothing is given. A value that cannot be read raises no error
        here: it stands below its field, and the name is missing.
    """
    values: dict[str, Any] = {}
    first = [options[name] for name in shown if name in options]
    others = [option for name, option in options.items() if name not in shown]
    listed = {1: columns, 0: (*columns, *of_members)}
    _grid(prefix, first, listed, values)
    if others:
        with st.expander(folded, key=f"{prefix}_more"):
            _grid(prefix, others, listed, values)
    return values


def is_complete(options: Collection[str], values: Mapping[str, Any]) -> bool:
    """Whether every field could be read."""
    return set(options) == set(values)


def fill(prefix: str, options: Mapping[str, Option], values: Mapping[str, Any]) -> None:
    """Put values into the fields, and the defaults into the others; for a callback."""
    for name, option in options.items():
        st.session_state[f"{prefix}_{name}"] = _widget_value(option, values.get(name))


def command_line(words: Sequence[str]) -> str:
    """A command as it is typed, long ones with an option on each line.

    Examples:
        >>> print(command_line(["microcalibrate", "calibrate", "a b.csv", "--seed", "1"]))
        microcalibrate calibrate 'a b.csv' --seed 1
    """
    line = shlex.join(words)
    if len(line) <= 80:
        return line
    broken: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--"):
            broken.append([])
        broken[-1].append(word)
    return " \\\n  ".join(shlex.join(part) for part in broken if part)


def _grid(
    prefix: str,
    options: Sequence[Option],
    columns: Mapping[int, Sequence[str]],
    values: dict[str, Any],
) -> None:
    for start in range(0, len(options), COLUMNS):
        places = st.columns(COLUMNS)
        for place, option in zip(places, options[start : start + COLUMNS], strict=False):
            with place:
                named = columns[min(option.count, 1)]
                _field(f"{prefix}_{option.name}", option, named, values)
                st.caption(words.of_the_page(option.help))


def _field(key: str, option: Option, columns: Sequence[str], values: dict[str, Any]) -> None:
    if key not in st.session_state:
        st.session_state[key] = _widget_value(option, None)
    if option.kind is Kind.SWITCH:
        values[option.name] = st.checkbox(option.label, key=key, persist_state="session")
    elif option.count != 1 and option.kind in (Kind.CHOICE, Kind.COLUMN):
        values[option.name] = _several(key, option, columns)
    elif option.kind in (Kind.CHOICE, Kind.COLUMN):
        listed = option.choices if option.kind is Kind.CHOICE else columns
        standard = f"default: {option.standard}" if option.standard else "none"
        if st.session_state[key] not in ("", *listed) and not option.is_open:
            # Of a data set that was looked at before.
            st.session_state[key] = ""
        chosen = st.selectbox(
            option.label,
            ["", *listed],
            format_func=lambda choice: choice or standard,
            accept_new_options=option.is_open,
            key=key,
            persist_state="session",
        )
        values[option.name] = None if chosen in ("", standard) else chosen
    else:
        written = st.text_input(
            option.label,
            key=key,
            placeholder=option.standard,
            persist_state="session",
        )
        if option.kind is Kind.TEXT:
            values[option.name] = written.strip() or None
            return
        try:
            read = option.read if option.count == 1 else option.read_all
            values[option.name] = read(written)
        except InvalidOption as error:
            parts.notice("Not read.", str(error))


def _several(key: str, option: Option, columns: Sequence[str]) -> list[str] | None:
    listed = option.choices if option.kind is Kind.CHOICE else columns
    # Others are of a data set that was looked at before.
    st.session_state[key] = [each for each in st.session_state[key] if each in listed]
    chosen = st.multiselect(
        option.label,
        listed,
        key=key,
        placeholder=f"default: {option.standard}" if option.standard else "none",
        persist_state="session",
    )
    return list(chosen) or None


def _widget_value(option: Option, value: Any) -> Any:
    if option.kind is Kind.SWITCH:
        return bool(option.default) if value is None else bool(value)
    if option.count != 1 and option.kind in (Kind.CHOICE, Kind.COLUMN):
        return list(value or ())
    if value is None:
        return ""
    if option.count != 1:
        return " ".join(str(each) for each in value)
    return f"{value}"
