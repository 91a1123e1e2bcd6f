"""What can be found about a target, and how much it matters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ERROR, WARNING, NOTE = "error", "warning", "note"
OK, LEFT_OUT = "ok", "left out"
SEVERITIES = (ERROR, WARNING, NOTE, OK, LEFT_OUT)
"""From the worst on; the last two are of targets without findings, and of rows left out."""


@dataclass(frozen=True)
class Finding:
    """One thing about one target.

    Attributes:
        row: Row of the target table, from 1.
        name: Of the target.
        severity: "error" (no calibration, or no weights, can meet it), "warning" (should be looked
            at) or "note".
        kind: What it is about, in a few words that stay the same.
        message: A sentence for people.
    """

    row: int
    name: str
    severity: str
    kind: str
    message: str


def worst(findings: Iterable[Finding]) -> str:
    """The worst severity among findings, "ok" where there are none."""
    found = {finding.severity for finding in findings}
    return next((severity for severity in SEVERITIES if severity in found), OK)
