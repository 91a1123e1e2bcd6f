"""Two saved runs of one kind side by side: what they have in common, and where they differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microcalibrate.atomic import run_folder
from microcalibrate.errors import UnreadableFile
from microcalibrate.figures.plotting import percent, relative
from microcalibrate.io import write_json, write_table
from microcalibrate.logs import LogComparison, compare_logs
from microcalibrate.logs.comparing import change_of, settings_that_differ
from microcalibrate.reports.page import write_page
from microcalibrate.reports.saved import kind_of
from microcalibrate.reports.sides import SIDES, WITH_LOG, Side, side_of_log

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "microcalibrate.comparison/1"
LOG = "log"
"""What a file is, or a run that is compared with one."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs side by side.

    Attributes:
        kind: What both of them are.
        names: What they are called, in the order they were given.
        statistics: `statistic`, `first`, `second`, and both as they are written.
        targets: One row per target of either: `name`, `target`, `first_error`, `second_error`,
            `change` ("improved", "worsened", "alike", "unknown", "first only", "second only").
            Empty where the kind has no targets.
        weights: One row per record of either: `id`, `first`, `second` (0 where it has none).
            Empty where logs are compared, which have no weights.
        settings: Options that differ: `setting`, `first`, `second`.
        logs: What the two were at each epoch, where both say it.
        notes: What is odd about either, one sentence each.
    """

    kind: str
    names: tuple[str, str]
    statistics: pd.DataFrame
    targets: pd.DataFrame
    weights: pd.DataFrame
    settings: pd.DataFrame
    logs: LogComparison | None = None
    notes: tuple[str, ...] = ()

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
                errors = (
                    relative(e, row.target, signed=True)
                    for e in (row.first_error, row.second_error)
                )
                lines.append(f"  {' → '.join(errors):24}  {row.name}")
        if self.logs is not None:
            lines += ["", self.about_errors()]
        if len(self.weights):
            lines += ["", self.about_weights()]
        lines += [""] * (len(self.notes) > 0) + list(self.notes)
        if len(self.settings):
            lines += ["", "settings that differ"]
        for row in self.settings.head(most).to_dict("records"):
            lines.append(f"  {row['setting']}: {row['first']} → {row['second']}")
        return "\n".join(lines)

    def verdict(self) -> str:
        """What differs, in one line."""
        counts = self.counts()
        if not counts:
            return f"Two {self.kind} runs."
        alone = counts.get("first only", 0) + counts.get("second only", 0)
        closer = (
            "1 target is"
            if counts.get("improved") == 1
            else (f"{counts.get('improved', 0):,} targets are")
        )
        return (
            f"{closer} closer in {self.names[1]}, "
            f"{counts.get('worsened', 0):,} are farther, {counts.get('alike', 0):,} are alike"
            + (f", {alone:,} are in one of the runs only." if alone else ".")
        )

    def about_errors(self) -> str:
        """How the errors of one go with those of the other, in one line; of logs only."""
        if self.logs is None or not math.isfinite(self.logs.correlation):
            return "The errors of the two cannot be correlated: too few targets are in both."
        return (
            "The relative errors of the two have a correlation of "
            f"{self.logs.correlation:.2f}, and a slope of {self.logs.slope:.2f}."
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
                if name != "weights" or len(self.weights):
                    write_table(getattr(self, name), fresh / f"{name}.csv", guard_formulas=True)
            write_json(
                {
                    "format": FORMAT,
                    "kind": self.kind,
                    "names": list(self.names),
                    "targets": self.counts(),
                    "statistics": {
                        row["statistic"]: [
                            value if math.isfinite(value) else None
                            for value in (row["first"], row["second"])
                        ]
                        for row in self.statistics.to_dict("records")
                    },
                    **self._of_logs(),
                },
                fresh / "comparison.json",
            )
        return Path(folder)

    def _of_logs(self) -> dict[str, Any]:
        """What comparing their logs says beyond the tables, in plain types."""
        if self.logs is None:
            return {}
        fitted = {"correlation": self.logs.correlation, "slope": self.logs.slope}
        return {
            "errors": {
                name: value if math.isfinite(value) else None for name, value in fitted.items()
            },
            "excluded": self.logs.excluded,
            "notes": list(self.notes),
        }

    def report(self, path: str | Path) -> Path:
        """Write one page that works without a network.

        Raises:
            MissingExtra: If Plotly is not installed.
            UnwritableFile: If it cannot be written.
        """
        from microcalibrate.reports.comparison_page import render

        return write_page(render(self), path)


def compare_runs(
    first: str | Path, second: str | Path, names: tuple[str, str] | None = None
) -> Comparison:
    """Two saved runs of one kind, or two logs, side by side.

    Args:
        first: Folder of a run, or file of a log.
        second: Folder of another run of the same kind, or file of a log. A log may also be
            compared with a calibration, which has one.
        names: What to call them; their files' or folders' names where not given.

    Raises:
        UnreadableFile: If a folder holds no saved run, the kinds differ, runs of the kind cannot
            be compared, or a log cannot be read.
    """
    paths = Path(first), Path(second)
    if any(path.is_file() for path in paths):
        logs = compare_logs(*paths, names=names)
        sides = [side_of_log(log) for log in (logs.first, logs.second)]
        return _side_by_side(LOG, logs.names, sides, _targets_of(logs), logs)
    kinds = [kind_of(folder) for folder in paths]
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
    sides = [SIDES[kind.name](kind.load(path)) for path in paths]
    has_logs = kind.name in WITH_LOG
    names = names or _names(*paths)
    return _side_by_side(
        kind.name,
        names,
        sides,
        _targets(sides[0].targets, sides[1].targets),
        compare_logs(*paths, names=names) if has_logs else None,
    )


def _side_by_side(
    kind: str,
    names: tuple[str, str],
    sides: Sequence[Side],
    targets: pd.DataFrame,
    logs: LogComparison | None,
) -> Comparison:
    import pandas as pd

    rows = []
    for name in dict.fromkeys(name for side in sides for name in side.statistics):
        values = [side.statistics.get(name) for side in sides]
        rows.append(
            (
                name,
                *(float("nan") if value is None else float(value[0]) for value in values),
                *("–" if value is None else value[1](value[0]) for value in values),
            )
        )
    heads = ["statistic", "first", "second", "first_written", "second_written"]
    first_weights, second_weights = _of_one_kind(sides[0].weights, sides[1].weights)
    weights = first_weights.merge(second_weights, on="id", how="outer", suffixes=("", "_other"))
    weights.columns = pd.Index(["id", "first", "second"])
    return Comparison(
        kind=kind,
        names=names,
        statistics=pd.DataFrame(rows, columns=heads),
        targets=targets,
        weights=weights.fillna({"first": 0.0, "second": 0.0}),
        settings=settings_that_differ(sides[0].settings, sides[1].settings)
        if logs is None
        else logs.settings,
        logs=logs,
        notes=() if logs is None else logs.notes,
    )


# --- Tables ---------------------------------------------------------------------------------------


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Short names of two folders that tell them apart."""
    paths = [path.resolve() for path in (first, second)]
    if paths[0].name != paths[1].name:
        return paths[0].name, paths[1].name
    return str(first), str(second) if str(first) != str(second) else f"{second} (again)"


def _of_one_kind(one: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Weights by identifiers that can be compared; numbers beside texts are read as texts."""
    if (one.id.dtype.kind in "iuf") == (other.id.dtype.kind in "iuf"):
        return one, other
    return one.assign(id=one.id.astype(str)), other.assign(id=other.id.astype(str))


def _targets(one: pd.DataFrame | None, other: pd.DataFrame | None) -> pd.DataFrame:
    import pandas as pd

    columns = ["name", "target", "first_error", "second_error", "change"]
    if one is None or other is None:
        return pd.DataFrame({name: pd.Series(dtype="object") for name in columns})
    both = one.merge(other, on="name", how="outer", suffixes=("", "_other"), indicator=True)
    change = change_of(both.error.abs(), both.error_other.abs())
    change[both._merge == "left_only"] = "first only"
    change[both._merge == "right_only"] = "second only"
    return pd.DataFrame(
        {
            "name": both.name,
            "target": both.target.fillna(both.target_other),
            "first_error": both.error,
            "second_error": both.error_other,
            "change": change,
        }
    )


def _targets_of(logs: LogComparison) -> pd.DataFrame:
    table = logs.targets
    table = table.assign(target=table.first_target.fillna(table.second_target))
    return table[["name", "target", "first_error", "second_error", "change"]]
