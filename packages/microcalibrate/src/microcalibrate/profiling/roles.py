"""A guess at what each column is for, with the reason."""

from __future__ import annotations

import re

from microcalibrate.profiling.counting import Counter

MOST_CODES = 20
"""Up to how many different whole numbers look like codes of a category."""

_WEIGHT = re.compile(
    r"(?i)(.*[_ .])?(weights?|wts?|wgts?|wght|w|[a-z]*supwt|p?wgtp\d*|perwt|hhwt)([_ .]?\d+)?$"
    r"|^weight[_ .].*|^w(gt|t)?\d+$"
)
_ID = re.compile(r"(?i)^(id|uuid|guid|key|serial(no)?|record|recid)$|.*[_ .-](id|uuid|key|no)$")
_CAMEL_ID = re.compile(r"^[a-z].*[a-z](Id|ID)$")


def looks_like_id(name: str) -> bool:
    """Whether a name says that its column names something.

    Examples:
        >>> [looks_like_id(name) for name in ("person_id", "householdId", "age", "paid")]
        [True, True, False, False]
    """
    return bool(_ID.match(name) or _CAMEL_ID.match(name))


def looks_like_weight(name: str) -> bool:
    """Whether a name says that its column is a survey weight.

    Examples:
        >>> [looks_like_weight(name) for name in ("w", "hh_weight", "PWGTP12", "weightlifter")]
        [True, True, True, False]
    """
    return bool(_WEIGHT.match(name))


def role_of(name: str, found: Counter) -> tuple[str, str]:
    """Role of a column ("id", "weight", "number", "category" or "link") and why.

    Args:
        name: Of the column.
        found: What it holds.
    """
    is_number = found.kind in ("integer", "number")
    n_present = found.n_records - found.n_missing
    if n_present == 0:
        return "number", "it has no value at all"
    if is_number and looks_like_weight(name):
        return "weight", "its name is that of a weight, and it holds numbers"
    different = found.n_different
    is_unique = found.n_missing == 0 and different == found.n_records
    may_name = found.kind in ("integer", "text")
    if (may_name or is_number) and looks_like_id(name):
        if is_unique:
            return "id", "its name is that of an id, and every record has a value of its own"
        if _is_nearly_unique(found, different):
            return "id", f"its name is that of an id, though only {different:,} values differ"
        return "link", "its name is that of an id, and records share values"
    if may_name and is_unique and found.n_records > MOST_CODES and _counts_up(found):
        return "id", "every record has a whole number or text of its own"
    if found.kind == "truth value":
        return "category", "it holds truth values"
    if found.kind == "text":
        if different is None or found.levels is None:
            return "category", f"it is text, of more than {found.max_levels:,} different values"
        return "category", f"it is text, of {different:,} different values"
    if not is_number:
        return "category", "it is neither numbers nor text"
    few = found.kind == "integer" and different is not None and different <= MOST_CODES
    if few and n_present > 2 * (different or 0):
        return "category", f"it is whole numbers, of only {different:,} different values: codes?"
    return "number", "it holds many different numbers"


def _is_nearly_unique(found: Counter, different: int | None) -> bool:
    return different is not None and different >= 0.95 * found.n_records and found.n_records > 1


def _counts_up(found: Counter) -> bool:
    """Whether distinct whole numbers are numbered records, not amounts that happen to differ."""
    return found.kind == "text" or (found.highest - found.lowest) < 2 * found.n_records
