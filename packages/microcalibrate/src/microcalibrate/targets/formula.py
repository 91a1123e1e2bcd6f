"""Formulas of margins: `~ sex + age:region`, as statisticians write them."""

from __future__ import annotations

import re
from itertools import combinations
from typing import TypeAlias

from microcalibrate.errors import InvalidOption

Term: TypeAlias = tuple[str, ...]
"""Columns of one margin."""

# Three operators on names are a few lines; a library would bring a matrix language with it.
_TOKEN = re.compile(r"\s*(?:`(?P<quoted>[^`]+)`|(?P<name>[^\W\d][\w.]*)|(?P<sign>[+:*]))")


def terms_of(formula: str) -> tuple[Term, ...]:
    """The margins that a formula asks for, each once.

    Args:
        formula: Columns with `+` between margins, `:` between the columns of a cross, and `a * b`
            for `a + b + a:b`. A name that is no plain word stands between backticks; a `~` in
            front may be left out.

    Raises:
        InvalidOption: If it cannot be read; the message points to the place.

    Examples:
        >>> terms_of("~ sex + age:region")
        (('sex',), ('age', 'region'))
        >>> terms_of("sex * `age band`")
        (('sex',), ('age band',), ('sex', 'age band'))
    """
    text = formula.strip().removeprefix("~")
    # Sums of products of crosses.
    products: list[list[list[str]]] = [[[]]]
    position, wants_name = 0, True
    while text[position:].strip():
        found = _TOKEN.match(text, position)
        name = found and (found["quoted"] or found["name"])
        if not found or bool(name) != wants_name:
            rest = text[position:].strip()
            raise InvalidOption(
                f"the formula {formula!r} cannot be read at {rest!r}: "
                f"{'a column' if wants_name else 'one of + : *'} is expected there. Write margins "
                "as in '~ sex + age:region'; a total of all is a target of its own."
            )
        if name:
            products[-1][-1].append(name)
        elif found["sign"] == "+":
            products.append([[]])
        elif found["sign"] == "*":
            products[-1].append([])
        position, wants_name = found.end(), not wants_name
    if wants_name:
        raise InvalidOption(f"the formula {formula!r} ends where a column is expected.")
    terms: dict[frozenset[str], Term] = {}
    for factors in products:
        for size in range(1, len(factors) + 1):
            for chosen in combinations(factors, size):
                term = tuple(dict.fromkeys(name for factor in chosen for name in factor))
                terms.setdefault(frozenset(term), term)
    return tuple(terms.values())


def shown_term(term: Term) -> str:
    """A margin as names and messages have it.

    Examples:
        >>> shown_term(("age", "region"))
        'age:region'
    """
    return ":".join(term)
