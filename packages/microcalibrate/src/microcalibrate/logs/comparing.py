"""Two logs, or saved runs, side by side: which targets they share, and which are met better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.arrays import Vector
from microcalibrate.atomic import PathLike
from microcalibrate.io import read_table
from microcalibrate.logs.log import CalibrationLog
from microcalibrate.logs.reading import read_log

if TYPE_CHECKING:
    import pandas as pd

ALIKE = 1e-6
"""Errors that differ by no more than this are called alike."""
WEIGHTS_NAME = "weights.parquet"
CHANGES = ("improved", "worsened", "alike", "unknown", "first only", "second only")


@dataclass(frozen=True, eq=False)
class LogComparison:
    """Two logs side by side, in their final states.

    Attributes:
        names: What they are called.
        first: The first log.
        second: The second.
        targets: One row per target of either, those of the first in its order and then the
            others: `name`, `first_target`, `second_target`, `first_estimate`, `second_estimate`,
            `first_error`, `second_error` (relative and signed, NaN where the target is 0),
            `first_abs_error`, `second_abs_error` (in its units), `first_excluded`,
            `second_excluded`, and `change`: one of `CHANGES`, by the size of the relative error,
            or of the absolute one where a target is 0.
        settings: Options that differ: `setting`, `first`, `second`, as text.
        weights: `id`, `first`, `second`, where both are saved runs of the same records.
        notes: What is odd about either, or about comparing them, one sentence each.
    """

    names: tuple[str, str]
    first: CalibrationLog = field(repr=False)
    second: CalibrationLog = field(repr=False)
    targets: pd.DataFrame = field(repr=False)
    settings: pd.DataFrame = field(repr=False)
    weights: pd.DataFrame | None = field(repr=False)
    notes: tuple[str, ...]

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many targets improved, worsened and so on: a number for each of `CHANGES`."""
        found = self.targets.change.value_counts()
        return {change: int(found.get(change, 0)) for change in CHANGES}

    @property
    def common(self) -> pd.DataFrame:
        """The targets that both have."""
        return self.targets[~self.targets.change.isin(["first only", "second only"])]

    @cached_property
    def excluded(self) -> dict[str, int]:
        """How many targets are calibrated to in neither, or only in the other one."""
        first, second = self.targets.first_excluded, self.targets.second_excluded
        return {
            "both": int((first & second).sum()),
            "first only": int((first & ~second).sum()),
            "second only": int((~first & second).sum()),
        }

    @property
    def correlation(self) -> float:
        """Pearson's, of the relative errors of the common targets; NaN where undefined."""
        x, y = self._errors
        if len(x) < 2 or x.std() == 0 or y.std() == 0:
            return float("nan")
        return float(np.corrcoef(x, y)[0, 1])

    @property
    def slope(self) -> float:
        """By how much the second's relative error rises with the first's: least squares."""
        x, y = self._errors
        if len(x) < 2 or x.std() == 0:
            return float("nan")
        return float(np.polynomial.polynomial.polyfit(x, y, 1)[1])

    def ranked(self, change: str) -> pd.DataFrame:
        """Targets with one kind of change, the largest change of the error first.

        Targets of zero, whose errors have no common unit with the others', come last.
        """
        chosen = self.targets[self.targets.change == change]
        relative = (chosen.second_error.abs() - chosen.first_error.abs()).abs().to_numpy()
        absolute = (chosen.second_abs_error - chosen.first_abs_error).abs().to_numpy()
        return chosen.iloc[np.lexsort((-absolute, -relative))]

    @cached_property
    def _errors(self) -> tuple[Vector, Vector]:
        """Signed relative errors of the common targets that have them in both."""
        both = self.common[["first_error", "second_error"]].to_numpy(dtype=np.float64)
        both = both[np.isfinite(both).all(axis=1)]
        return both[:, 0], both[:, 1]


def compare_logs(
    first: CalibrationLog | PathLike,
    second: CalibrationLog | PathLike,
    names: tuple[str, str] | None = None,
) -> LogComparison:
    """Two logs or saved runs side by side, in any mix.

    Args:
        first: A log, its file, or the folder of a saved calibration.
        second: Another.
        names: What to call them; their files' or folders' names where not given.

    Returns:
        Their targets, settings that differ, and the weights where both are runs of the same
        records.

    Raises:
        UnreadableFile: If a log or run cannot be read.

    Examples:
        >>> from tempfile import mkdtemp
        >>> from microcalibrate.logs import write_log
        >>> folder = Path(mkdtemp())
        >>> same = dict(epochs=[0], losses=[1.0], target_names=["a", "b"], targets=np.ones(2))
        >>> old = write_log(folder / "old.csv", estimates=np.array([[1.5, 1.0]]), **same)
        >>> new = write_log(folder / "new.csv", estimates=np.array([[1.1, 1.2]]), **same)
        >>> compare_logs(old, new).targets[["name", "change"]].values.tolist()
        [['a', 'improved'], ['b', 'worsened']]
    """
    one, other = _opened(first), _opened(second)
    names = names or _told_apart(first, second, one, other)
    notes = [f"{name}: {note}" for name, log in zip(names, (one, other), strict=True)
             for note in log.notes]  # fmt: skip
    targets = _targets(one, other)
    both = targets.first_target.notna() & targets.second_target.notna()
    moved = int((both & (targets.first_target != targets.second_target)).sum())
    if moved:
        notes.append(
            f"{moved:,} targets have another value in {names[1]}: each error is relative to its "
            "own."
        )
    weights = None
    runs = [what for what in (first, second) if not isinstance(what, CalibrationLog)]
    files = [Path(run) / WEIGHTS_NAME for run in runs]
    if len(files) == 2 and all(file.is_file() for file in files):
        weights = _weights(files[0], files[1])
        if weights is None:
            notes.append("The runs are of different records, so their weights are not compared.")
    return LogComparison(
        names=names,
        first=one,
        second=other,
        targets=targets,
        settings=_settings(one, other, names, notes),
        weights=weights,
        notes=tuple(notes),
    )


def changes_within(log: CalibrationLog) -> pd.DataFrame:
    """What became of each target from the first state of a log to the last.

    Args:
        log: A log.

    Returns:
        One row per target: `name`, `target`, `first_estimate`, `last_estimate`, `first_error`,
        `last_error` (relative and signed, NaN where the target is 0), and `change`: "improved",
        "worsened", "alike" or "unknown", judged as in `compare_logs`.
    """
    import pandas as pd

    first, last = log.first, log.final
    relative = [side.relative_error.abs() for side in (first, last)]
    absolute = [side.abs_error for side in (first, last)]
    return pd.DataFrame(
        {
            "name": last.name,
            "target": last.target,
            "first_estimate": first.estimate,
            "last_estimate": last.estimate,
            "first_error": first.relative_error,
            "last_error": last.relative_error,
            "change": _changes(relative, absolute),
        }
    )


def settings_that_differ(first: Mapping[str, Any], second: Mapping[str, Any]) -> pd.DataFrame:
    """Options of two runs that are not the same: `setting`, `first`, `second`, as text.

    Examples:
        >>> settings_that_differ({"seed": 0, "kappa": 1.0}, {"seed": 1, "kappa": 1.0}).values
        array([['seed', '0', '1']], dtype=object)
    """
    import pandas as pd

    rows = [
        (name, str(first.get(name)), str(second.get(name)))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]
    return pd.DataFrame(rows, columns=["setting", "first", "second"], dtype="str")


def change_of(first: Any, second: Any, tolerance: Any = ALIKE) -> NDArray[np.object_]:
    """What became of the sizes of errors, one word each.

    Args:
        first: Sizes of errors, NaN where unknown.
        second: The same of the second run.
        tolerance: Differences up to which they are alike.

    Examples:
        >>> change_of([0.5, 0.1, 0.2, np.inf], [0.1, 0.5, 0.2, np.inf]).tolist()
        ['improved', 'worsened', 'alike', 'alike']
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        worse = np.where(first == second, 0.0, second - first)
    words = np.where(
        worse > tolerance, "worsened", np.where(worse < -tolerance, "improved", "alike")
    )
    return np.where(np.isnan(worse), "unknown", words).astype(object)


def _settings(
    one: CalibrationLog, other: CalibrationLog, names: tuple[str, str], notes: list[str]
) -> pd.DataFrame:
    """Settings that differ, where both are known."""
    known = [log.facts.get("config") for log in (one, other)]
    unknown = [name for name, settings in zip(names, known, strict=True) if settings is None]
    if unknown:
        said = " and ".join(unknown)
        notes.append(f"The settings of {said} are not known, so settings are not compared.")
        return settings_that_differ({}, {})
    return settings_that_differ(known[0] or {}, known[1] or {})


# --- Sides ----------------------------------------------------------------------------------------


def _opened(what: CalibrationLog | PathLike) -> CalibrationLog:
    return what if isinstance(what, CalibrationLog) else read_log(what)


def _told_apart(
    first: CalibrationLog | PathLike,
    second: CalibrationLog | PathLike,
    one: CalibrationLog,
    other: CalibrationLog,
) -> tuple[str, str]:
    """Short names of two logs that tell them apart."""
    if one.name != other.name:
        return one.name, other.name
    paths = [
        log.name if isinstance(what, CalibrationLog) else str(what)
        for what, log in ((first, one), (second, other))
    ]
    return paths[0], paths[1] if paths[0] != paths[1] else f"{paths[1]} (again)"


def _targets(one: CalibrationLog, other: CalibrationLog) -> pd.DataFrame:
    kept = {
        "target": "target",
        "estimate": "estimate",
        "relative_error": "error",
        "abs_error": "abs_error",
        "excluded": "excluded",
    }
    sides = []
    for side, log in (("first", one), ("second", other)):
        columns = {old: f"{side}_{new}" for old, new in kept.items()}
        sides.append(log.final[["name", *kept]].rename(columns=columns))
    both = sides[0].merge(sides[1], on="name", how="outer", sort=False, indicator=True)
    # An outer merge sorts by name: back to the order of the logs.
    order = {
        name: place for place, name in enumerate([*one.target_names, *other.target_names][::-1])
    }
    both = both.iloc[np.argsort([-order[name] for name in both.name], kind="stable")]
    both = both.reset_index(drop=True)
    for side in ("first", "second"):
        both[f"{side}_excluded"] = both[f"{side}_excluded"].eq(True)
    change = _changes(
        [both[f"{side}_error"].abs() for side in ("first", "second")],
        [both[f"{side}_abs_error"] for side in ("first", "second")],
    )
    change = np.where(both._merge == "left_only", "first only", change)
    both["change"] = np.where(both._merge == "right_only", "second only", change)
    order_of_columns = [f"{side}_{new}" for new in kept.values() for side in ("first", "second")]
    return both[["name", *order_of_columns, "change"]]


def _changes(relative: Sequence[Any], absolute: Sequence[Any]) -> NDArray[np.object_]:
    """Changes of sizes of errors: of the relative ones, or of the absolute where one has none."""
    relative = [np.asarray(size, dtype=np.float64) for size in relative]
    absolute = [np.asarray(size, dtype=np.float64) for size in absolute]
    larger = np.fmax(absolute[0], absolute[1])
    in_units = change_of(absolute[0], absolute[1], ALIKE * np.where(np.isinf(larger), 0.0, larger))
    defined = ~np.isnan(relative[0]) & ~np.isnan(relative[1])
    return np.where(defined, change_of(relative[0], relative[1]), in_units)


def _weights(first: Path, second: Path) -> pd.DataFrame | None:
    """Weights of two runs side by side; None where they are not of the same records."""
    sides = [read_table(file) for file in (first, second)]
    ids = [side["id"].to_numpy() for side in sides]
    columns = {"design_weight": "design_weight", "weight": "first"}
    table = sides[0].rename(columns=columns)[["id", "design_weight", "first"]]
    if len(ids[0]) == len(ids[1]) and (ids[0] == ids[1]).all():
        return table.assign(second=sides[1]["weight"].to_numpy())
    are_names = all(len(np.unique(labels)) == len(labels) for labels in ids)
    if not are_names or set(ids[0]) != set(ids[1]):
        return None
    second_weights = sides[1].set_index("id")["weight"]
    return table.assign(second=second_weights.loc[ids[0]].to_numpy())
