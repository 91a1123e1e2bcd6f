"""What microcalibrate[all] installs has licences that anyone may use."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

import pytest

# “LGPL” is another licence: it lets others build on a library.
FORBIDDEN = re.compile(
    r"business source|\bBUSL\b|\bBSL[ -]?1\.1|(?<!lesser )\bgeneral public licen|\bA?GPL|affero",
    re.I,
)
REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?\s*[^;]*(?:;(.*))?$")


def licence_texts(found: Distribution) -> list[str]:
    """Licence as metadata state it: the expression, or field and classifiers."""
    metadata = found.metadata
    if metadata.get("License-Expression"):
        return [metadata["License-Expression"]]
    texts = [str(line) for line in metadata.get_all("Classifier") or [] if "License ::" in line]
    # Some put the whole text here, which may quote others; the first line is the name.
    return [*texts, (metadata.get("License") or "").strip().split("\n")[0]]


def is_forbidden(text: str) -> bool:
    """Whether an expression leaves no choice but a forbidden licence."""
    choices = re.split(r"\s+OR\s+", text)
    return all(FORBIDDEN.search(choice) for choice in choices)


def applies(marker: str, extras: set[str]) -> bool:
    """Whether a requirement belongs to what is asked for; markers of machines are taken to hold."""
    asked = re.findall(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
    return not asked or bool(extras & set(asked))


def closure(name: str, extras: set[str]) -> dict[str, Distribution]:
    """Installed distributions that a requirement pulls."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(name, frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if (key, wanted) in seen:
            continue
        seen.add((key, wanted))
        try:
            found[key] = distribution(key)
        except PackageNotFoundError:
            continue  # of another machine or an extra that this run does not have
        for line in found[key].requires or []:
            match = REQUIREMENT.match(line)
            assert match, line
            if applies(match[3] or "", set(wanted)):
                more = {part.strip() for part in (match[2] or "").split(",") if part.strip()}
                waiting.append((match[1], frozenset(more)))
    return found


def test_nothing_in_all_has_a_business_source_or_gpl_licence():
    found = closure("microcalibrate", {"all"})

    assert {"microcalibrate", "numpy", "torch"} <= set(found)
    assert "sdv" not in found
    texts = {name: [text for text in licence_texts(of) if text] for name, of in found.items()}
    forbidden = {name: of for name, of in texts.items() if any(map(is_forbidden, of))}
    assert not forbidden


@pytest.mark.parametrize(
    "text",
    [
        "BUSL-1.1",
        "Business Source License 1.1",
        "GPL-3.0-or-later",
        "License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
        "AGPL-3.0",
    ],
)
def test_forbidden_licences_are_known_by_each_of_their_names(text):
    assert is_forbidden(text)


@pytest.mark.parametrize("text", ["MIT", "BSD-3-Clause", "LGPL-2.1", "MIT OR GPL-2.0", "BSL-1.0"])
def test_permissive_licences_and_choices_are_none_of_them(text):
    assert not is_forbidden(text)
