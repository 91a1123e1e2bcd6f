"""What a check of targets found: tables, a summary, and their saved form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microcalibrate.target_checks.findings import (
    ERROR,
    LEFT_OUT,
    NOTE,
    SEVERITIES,
    WARNING,
    Finding,
)

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "microcalibrate.checks/1"

COLUMNS = {
    "row": "int64",
    "name": "object",
    "severity": "object",
    "description": "object",
    "target": "float64",
    "initial": "float64",
    "ratio": "float64",
    "lowest": "float64",
    "highest": "float64",
    "reachable": "bool",
    "support": "int64",
    "effective_support": "float64",
    "largest_share": "float64",
    "tolerance": "float64",
    "importance": "float64",
    "family": "object",
    "findings": "object",
}
"""Columns of the table, with their types."""

FINDING_COLUMNS = {
    "row": "int64",
    "name": "object",
    "severity": "object",
    "kind": "object",
    "message": "object",
}
"""Columns of the table of findings, with their types."""

_NUMBERS = tuple(name for name, kind in COLUMNS.items() if kind == "float64")


@dataclass(frozen=True, eq=False)
class TargetChecks:
    """What is wrong with targets, doubtful, or worth a word.

    Attributes:
        table: One row per row of the target table, in its order: `row` (from 1), `name`,
            `severity` (the worst of its findings: "error", "warning", "note"; "ok" without any;
            "left out" where `include` is false), `description` (a sentence), `target`, `initial`
            (estimate at the design weights), `ratio` (`initial / target`), `lowest` and `highest`
            estimate within the bounds, `reachable`, `support` (records that contribute),
            `effective_support`, `largest_share` (of one record, in `[0, 1]`), `tolerance`,
            `importance`, `family`, and `findings` in one text. What is not known is NaN.
        findings: One row per finding: `row`, `name`, `severity`, `kind`, `message`; by row, the
            worst first.
        notes: What could not be looked at, in sentences.
        bounds: The bounds on the weights, in words.
    """

    table: pd.DataFrame
    findings: pd.DataFrame
    notes: tuple[str, ...]
    bounds: str

    @property
    def ok(self) -> bool:
        """Whether no target has an error."""
        return not bool((self.table["severity"] == ERROR).any())

    def count(self, severity: str) -> int:
        """How many targets have this as their worst finding."""
        return int((self.table["severity"] == severity).sum())

    def summary(self, n_findings: int = 20) -> str:
        """A few lines for people: how many targets are in order, and what the worst are.

        Args:
            n_findings: Most findings to list.
        """
        n = len(self.table) - self.count(LEFT_OUT)
        counts = (
            f"{self.count(severity):,} with {word}"
            for severity, word in ((ERROR, "errors"), (WARNING, "warnings"), (NOTE, "notes"))
        )
        lines = [f"{_plural(n, 'target')}: {', '.join(counts)}, {self.count('ok'):,} in order"]
        if left := self.count(LEFT_OUT):
            lines.append(f"{_plural(left, 'row')} left out, because include is false")
        order = {severity: place for place, severity in enumerate(SEVERITIES)}
        listed = self.findings.sort_values(
            "severity", key=lambda column: column.map(order), kind="stable"
        )
        lines += [
            f'{found.severity}: "{found.name}" (row {found.row}): {found.message}'
            for found in listed.head(n_findings).itertuples()
        ]
        rest = len(listed) - n_findings
        if rest > 0:
            lines.append(f"… and {rest:,} more")
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """The checks as dictionaries, lists, texts and numbers.

        A number that is not known is None, and so is a limit of the range that there is not.
        """
        found: dict[int, list[dict[str, str]]] = {}
        for each in self.findings.to_dict("records"):
            said = {key: str(each[key]) for key in ("severity", "kind", "message")}
            found.setdefault(int(each["row"]), []).append(said)
        targets = []
        for line in self.table.to_dict("records"):
            plain = {
                str(name): cell if not isinstance(cell, float) or math.isfinite(cell) else None
                for name, cell in line.items()
            }
            targets.append(plain | {"findings": found.get(int(line["row"]), [])})
        return {
            "format": FORMAT,
            "ok": self.ok,
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "bounds": self.bounds,
            "notes": list(self.notes),
            "targets": targets,
        }

    def save(self, folder: str | Path) -> Path:
        """Write `checks.csv` (a row per target) and `checks.json` into a folder.

        Args:
            folder: Where to; made if it does not exist. A former run there is replaced as a whole.

        Returns:
            The folder.

        Raises:
            UnwritableFile: If it cannot be written; nothing is left half done.
        """
        from microcalibrate.atomic import run_folder

        folder = Path(folder)
        with run_folder(folder) as fresh:
            self.write_into(fresh)
        return folder

    def write_into(self, folder: Path) -> None:
        """Write the files of `save` into a folder that exists, each as a whole."""
        from microcalibrate.io import write_json, write_table

        write_table(self.table, folder / "checks.csv", guard_formulas=True)
        write_json(self.to_json(), folder / "checks.json")

    @classmethod
    def load(cls, folder: str | Path) -> TargetChecks:
        """Read what `save` wrote.

        Raises:
            UnreadableFile: If a file is missing or damaged, or of another version.
        """
        import pandas as pd

        from microcalibrate.saved_values import complete, read_values

        file = Path(folder) / "checks.json"
        values = read_values(file, FORMAT, "Check again.")
        with complete(file, "Check again."):
            lines, findings = [], []
            for target in values["targets"]:
                said = target["findings"]
                about = {"row": target["row"], "name": target["name"]}
                findings += [Finding(**about, **each) for each in said]
                texts = " ".join(each["message"] for each in said)
                lines.append({**target, **_limits(target), "findings": texts})
            table = pd.DataFrame(lines, columns=list(COLUMNS)).astype(COLUMNS)
            return cls(
                table=table,
                findings=finding_table(findings),
                notes=tuple(values["notes"]),
                bounds=str(values["bounds"]),
            )


def _limits(target: dict[str, Any]) -> dict[str, float]:
    """Numbers of a target, with infinities where its range has no end."""
    numbers = {name: math.nan if target[name] is None else float(target[name]) for name in _NUMBERS}
    if target["effective_support"] is not None:
        ends = {"lowest": -math.inf, "highest": math.inf}
        numbers |= {name: end for name, end in ends.items() if target[name] is None}
    return numbers


def finding_table(findings: Sequence[Finding]) -> pd.DataFrame:
    """Findings as a table, a row each."""
    import pandas as pd

    rows = [asdict(finding) for finding in findings]
    return pd.DataFrame(rows, columns=list(FINDING_COLUMNS)).astype(FINDING_COLUMNS)


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
