"""Two saved runs of one kind side by side: what they have in common, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from microcalibrate.atomic import run_folder
from microcalibrate.errors import UnreadableFile
from microcalibrate.figures.plotting import amount, percent
from microcalibrate.io import write_json, write_table
from microcalibrate.reports.page import (
    Figure,
    Paragraph,
    Part,
    Section,
    Sentences,
    Table,
    Tiles,
    Verdict,
    render_page,
    write_page,
)
from microcalibrate.reports.saved import kind_of
from microcalibrate.reports.sides import SIDES

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "microcalibrate.comparison/1"
ALIKE = 1e-6
"""Errors that differ by no more than this are called alike."""
MOST_ROWS = 25


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs side by side.

    Attributes:
        kind: What both of them are.
        names: What they are called, in the order they were given.
        statistics: `statistic`, `first`, `second`, and both as they are written.
        targets: One row per target of either: `name`, `target`, `first_error`, `second_error`,
            `change` ("improved", "worsened", "alike", "first only", "second only"). Empty where
            the kind has no targets.
        weights: One row per record of either: `id`, `first`, `second` (0 where it has none).
        settings: Options that differ: `setting`, `first`, `second`.
    """

    kind: str
    names: tuple[str, str]
    statistics: pd.DataFrame
    targets: pd.DataFrame
    weights: pd.DataFrame
    settings: pd.DataFrame

    def counts(self) -> dict[str, int]:
        """How many targets improved, worsened and so on."""
        return {str(name): int(n) for name, n in self.targets.change.value_counts().items()}

    def ranked(self, change: str) -> pd.DataFrame:
        """Targets that improved or worsened, the largest change first."""
        chosen = self.targets[self.targets.change == change]
        size = (chosen.second_error.abs() - chosen.first_error.abs()).abs()
        return chosen.loc[size.sort_values(ascending=False, kind="stable").index]

    def summary(self, most: int = 10) -> str:
        """Statistics side by side, the targets that changed most, and weights, as text."""
        width = max(len(name) for name in self.statistics.statistic) + 2
        wide = [max(len(name), 14) + 2 for name in self.names]
        lines = [
            self.verdict(),
            "",
            " " * width + "".join(f"{n:>{w}}" for n, w in zip(self.names, wide, strict=True)),
        ]
        rows: Any = self.statistics.itertuples()
        for row in rows:
            cells = zip((row.first_written, row.second_written), wide, strict=True)
            lines.append(f"{row.statistic:{width}}" + "".join(f"{c:>{w}}" for c, w in cells))
        for change in ("improved", "worsened"):
            ranked = self.ranked(change)
            if len(ranked):
                lines += ["", f"targets that {change} most ({len(ranked):,})"]
            listed: Any = ranked.head(most).itertuples()
            for row in listed:
                errors = (percent(e, signed=True) for e in (row.first_error, row.second_error))
                lines.append(f"  {' → '.join(errors):24}  {row.name}")
        lines += ["", self.about_weights()]
        for row in self.settings.head(most).to_dict("records"):
            lines.append(f"  {row['setting']}: {row['first']} → {row['second']}")
        if len(self.settings):
            lines.insert(-min(len(self.settings), most), "settings that differ")
        return "\n".join(lines)

    def verdict(self) -> str:
        """What differs, in one line."""
        counts = self.counts()
        if not counts:
            return f"Two {self.kind} runs."
        alone = counts.get("first only", 0) + counts.get("second only", 0)
        return (
            f"{counts.get('improved', 0):,} targets are closer in {self.names[1]}, "
            f"{counts.get('worsened', 0):,} are farther, {counts.get('alike', 0):,} are alike"
            + (f", {alone:,} are in one of the runs only." if alone else ".")
        )

    def about_weights(self) -> str:
        """How much weight lies elsewhere, in one line."""
        first, second = self.weights["first"], self.weights["second"]
        moved = float((first - second).abs().sum() / 2 / max(first.sum(), second.sum(), 1e-300))
        in_both, gone, new = (
            int(chosen.sum())
            for chosen in (
                (first > 0) & (second > 0),
                (first > 0) & (second == 0),
                (first == 0) & (second > 0),
            )
        )
        return (
            f"{in_both:,} records have weight in both, {gone:,} in the first alone, {new:,} in the "
            f"second alone; {percent(moved)} of the weight lies on other records."
        )

    # --- Files ------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the tables into a folder, whole or not at all.

        Raises:
            UnwritableFile: If it cannot be written; nothing is left half done.
        """
        with run_folder(folder) as fresh:
            for name in ("statistics", "targets", "weights", "settings"):
                write_table(getattr(self, name), fresh / f"{name}.csv", guard_formulas=True)
            write_json(
                {
                    "format": FORMAT,
                    "kind": self.kind,
                    "names": list(self.names),
                    "targets": self.counts(),
                    "statistics": {
                        row["statistic"]: [
                            None if value != value else value
                            for value in (row["first"], row["second"])
                        ]
                        for row in self.statistics.to_dict("records")
                    },
                },
                fresh / "comparison.json",
            )
        return Path(folder)

    def report(self, path: str | Path) -> Path:
        """Write one page that works without a network.

        Raises:
            MissingExtra: If Plotly is not installed.
            UnwritableFile: If it cannot be written.
        """
        return write_page(render(self), path)


def compare_runs(first: str | Path, second: str | Path) -> Comparison:
    """Two saved runs of one kind side by side.

    Args:
        first: Folder of a run.
        second: Folder of another run of the same kind.

    Raises:
        UnreadableFile: If a folder holds no saved run, the kinds differ, or runs of the kind
            cannot be compared.
    """
    import pandas as pd

    kinds = [kind_of(folder) for folder in (first, second)]
    if kinds[0].name != kinds[1].name:
        raise UnreadableFile(
            f"{first} holds a {kinds[0].name} and {second} a {kinds[1].name}. Compare two runs of "
            "one kind."
        )
    kind = kinds[0]
    if kind.name not in SIDES:
        raise UnreadableFile(
            f"{first} holds a {kind.name}, and these can be compared: {', '.join(SIDES)}."
        )
    one, other = (SIDES[kind.name](kind.load(Path(folder))) for folder in (first, second))
    rows = []
    for name in dict.fromkeys([*one.statistics, *other.statistics]):
        values = [side.statistics.get(name) for side in (one, other)]
        rows.append(
            (
                name,
                *(float("nan") if value is None else float(value[0]) for value in values),
                *("–" if value is None else value[1](value[0]) for value in values),
            )
        )
    heads = ["statistic", "first", "second", "first_written", "second_written"]
    weights = one.weights.merge(other.weights, on="id", how="outer", suffixes=("", "_other"))
    weights.columns = pd.Index(["id", "first", "second"])
    return Comparison(
        kind=kind.name,
        names=_names(Path(first), Path(second)),
        statistics=pd.DataFrame(rows, columns=heads),
        targets=_targets(one.targets, other.targets),
        weights=weights.fillna({"first": 0.0, "second": 0.0}),
        settings=_settings(one.settings, other.settings),
    )


# --- Tables ---------------------------------------------------------------------------------------


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Short names of two folders that tell them apart."""
    paths = [path.resolve() for path in (first, second)]
    if paths[0].name != paths[1].name:
        return paths[0].name, paths[1].name
    return str(first), str(second) if str(first) != str(second) else f"{second} (again)"


def _targets(one: pd.DataFrame | None, other: pd.DataFrame | None) -> pd.DataFrame:
    import pandas as pd

    columns = ["name", "target", "first_error", "second_error", "change"]
    if one is None or other is None:
        return pd.DataFrame({name: pd.Series(dtype="object") for name in columns})
    both = one.merge(other, on="name", how="outer", suffixes=("", "_other"), indicator=True)
    worse = (both.error_other.abs() - both.error.abs()).to_numpy()
    change = np.where(worse > ALIKE, "worsened", np.where(worse < -ALIKE, "improved", "alike"))
    change = np.where(both._merge == "left_only", "first only", change)
    change = np.where(both._merge == "right_only", "second only", change)
    return pd.DataFrame(
        {
            "name": both.name,
            "target": both.target.fillna(both.target_other),
            "first_error": both.error,
            "second_error": both.error_other,
            "change": change,
        }
    )


def _settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (name, str(one.get(name)), str(other.get(name)))
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]
    return pd.DataFrame(rows, columns=["setting", "first", "second"], dtype="str")


# --- Page -----------------------------------------------------------------------------------------


def render(comparison: Comparison) -> str:
    """The page as text; see `Comparison.report`."""
    from microcalibrate.figures import comparison as figures

    first, second = comparison.names
    counts = comparison.counts()
    shared = comparison.targets[comparison.targets.change.isin(["improved", "worsened", "alike"])]
    lead: list[Part] = [
        Verdict(
            comparison.verdict(),
            comparison.about_weights(),
            counts.get("worsened", 0) <= counts.get("improved", 0),
        )
    ]
    sections = [Section("Side by side", [_statistics(comparison)])]
    if len(comparison.targets):
        lead.append(
            Tiles(
                [
                    (f"{counts.get(change, 0):,}", words, f"of {len(comparison.targets):,} targets")
                    for change, words in (
                        ("improved", "closer in the second"),
                        ("worsened", "farther"),
                        ("alike", "alike"),
                    )
                ]
            )
        )
        sections.append(
            Section(
                "Targets",
                [
                    Figure("errors", figures.errors(shared, first, second)),
                    *_changed(comparison, "improved"),
                    *_changed(comparison, "worsened"),
                    *_alone(comparison),
                ],
            )
        )
    sections.append(
        Section("Weights", [Figure("weights", figures.weights(comparison.weights, first, second))])
    )
    if len(comparison.settings):
        rows = comparison.settings.values.tolist()
        table = Table(["Setting that differs", first, second], rows, words=frozenset({1, 2}))
        sections.append(Section("Settings", [table]))
    return render_page(f"{first} and {second}: two {comparison.kind} runs", lead, sections)


def _statistics(comparison: Comparison) -> Table:
    rows = [
        [row["statistic"], row["first_written"], row["second_written"]]
        for row in comparison.statistics.to_dict("records")
    ]
    return Table(["", *comparison.names], rows)


def _changed(comparison: Comparison, change: str) -> list[Part]:
    ranked = comparison.ranked(change)
    if not len(ranked):
        return [Paragraph(f"No target {change}.")]
    rows = [
        [
            row["name"],
            amount(row["target"]),
            percent(row["first_error"], signed=True),
            percent(row["second_error"], signed=True),
        ]
        for row in ranked.head(MOST_ROWS).to_dict("records")
    ]
    heads = [f"Target that {change}", "Value", "Error in the first", "Error in the second"]
    left = len(ranked) - len(rows)
    more: list[Part] = [Paragraph(f"{left:,} more targets are not shown.")] if left > 0 else []
    return [Table(heads, rows), *more]


def _alone(comparison: Comparison) -> list[Part]:
    said = []
    for change, name in zip(("first only", "second only"), comparison.names, strict=True):
        names = comparison.targets.name[comparison.targets.change == change]
        if len(names):
            listed = ", ".join(names.head(MOST_ROWS))
            more = f" and {len(names) - MOST_ROWS:,} more" if len(names) > MOST_ROWS else ""
            said.append(f"Only in {name}: {listed}{more}.")
    return [Sentences(said)] if said else []
