"""What is known of a table after one reading: the report that a page or a person looks at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microcalibrate.profiling.counting import Counter, Level
from microcalibrate.profiling.roles import role_of

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "microcalibrate.profile/1"
TOP_LEVELS = 20
"""How many levels are listed."""


@dataclass(frozen=True)
class ColumnProfile:
    """One column.

    Attributes:
        name: As in the file.
        type: "integer", "number", "text", "truth value", "date" or "other".
        role: A guess: "id", "weight", "number", "category" or "link".
        reason: Why, in words.
        n_missing: Records without a value; NaN counts as none.
        n_negative: Records below zero; None where it holds no numbers, as in the next four.
        n_zero: Records that are zero.
        n_infinite: Records that are infinite; these count in none of the next three.
        min: Least value.
        max: Greatest value.
        mean: Unweighted mean.
        n_levels: Different values, at most as many as are counted.
        levels_capped: Whether there are more.
        levels: The commonest values with the records that have them, commonest first; none where
            there are more than are counted.
        memory_bytes: What it takes in memory.
    """

    name: str
    type: str
    role: str
    reason: str
    n_missing: int
    n_negative: int | None
    n_zero: int | None
    n_infinite: int | None
    min: float | None
    max: float | None
    mean: float | None
    n_levels: int
    levels_capped: bool
    levels: tuple[tuple[Level, int], ...]
    memory_bytes: int


@dataclass(frozen=True)
class DataProfile:
    """A table of records, as `import_data` found it.

    Attributes:
        name: What the table is called.
        n_rows: Number of records.
        bytes: Size of the file.
        memory_bytes: What the table takes in memory.
        columns: One for each column, in their order.
        problems: What should be looked at, in sentences.
    """

    name: str
    n_rows: int
    bytes: int
    memory_bytes: int
    columns: tuple[ColumnProfile, ...]
    problems: tuple[str, ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row per column of the data, without the levels."""
        import pandas as pd

        rows = [asdict(column) for column in self.columns]
        return pd.DataFrame(rows).drop(columns="levels")

    def to_json(self) -> dict[str, Any]:
        """The profile as dictionaries, lists, texts and numbers."""
        columns = []
        for column in self.columns:
            plain = asdict(column)
            plain["levels"] = [{"value": value, "count": count} for value, count in column.levels]
            columns.append(plain)
        return {
            "format": FORMAT,
            "name": self.name,
            "n_rows": self.n_rows,
            "bytes": self.bytes,
            "memory_bytes": self.memory_bytes,
            "columns": columns,
            "problems": list(self.problems),
        }

    @classmethod
    def load(cls, folder: str | Path) -> DataProfile:
        """Read the profile that `import_data` wrote.

        Args:
            folder: Folder of the import.

        Raises:
            UnreadableFile: If it is missing or damaged, or of another version.
        """
        from microcalibrate.saved_values import complete, read_values

        file = Path(folder) / "profile.json"
        values = read_values(file, FORMAT, "Import the data again.")
        with complete(file, "Import the data again."):
            columns = tuple(
                ColumnProfile(
                    **{
                        **column,
                        "levels": tuple(
                            (each["value"], each["count"]) for each in column["levels"]
                        ),
                    }
                )
                for column in values["columns"]
            )
            return cls(
                columns=columns,
                problems=tuple(values["problems"]),
                **{key: values[key] for key in ("name", "n_rows", "bytes", "memory_bytes")},
            )


def profile_of(
    name: str, n_bytes: int, found: Mapping[str, Counter], problems: Sequence[str]
) -> DataProfile:
    """The profile of counted columns.

    Args:
        name: What the table is called.
        n_bytes: Size of its file.
        found: What each column holds.
        problems: What was found wrong before.
    """
    columns = tuple(_column(label, counter) for label, counter in found.items())
    further: list[str] = []
    for column, counter in zip(columns, found.values(), strict=True):
        further += _problems(column, counter)
    if not any(column.role == "weight" for column in columns):
        further.append(
            "No column is named like a weight: choose the one with the design weights, or add a "
            "column of ones if every record counts alike."
        )
    return DataProfile(
        name=name,
        n_rows=max((counter.n_records for counter in found.values()), default=0),
        bytes=n_bytes,
        memory_bytes=sum(column.memory_bytes for column in columns),
        columns=columns,
        problems=(*problems, *further),
    )


def _column(name: str, found: Counter) -> ColumnProfile:
    role, reason = role_of(name, found)
    is_number = found.kind in ("integer", "number", "truth value")
    n_finite = found.n_records - found.n_missing - found.n_infinite
    mean = found.total / n_finite if n_finite else math.nan
    levels = found.levels or {}
    order = sorted(levels.items(), key=lambda item: (-item[1], str(item[0])))
    finite = [(value, count) for value, count in order if _is_plain(value)]
    different = found.n_different
    return ColumnProfile(
        name=name,
        type=found.kind,
        role=role,
        reason=reason,
        n_missing=found.n_missing,
        n_negative=found.n_negative if is_number else None,
        n_zero=found.n_zero if is_number else None,
        n_infinite=found.n_infinite if is_number else None,
        min=found.lowest if is_number and n_finite else None,
        max=found.highest if is_number and n_finite else None,
        mean=mean if is_number and math.isfinite(mean) else None,
        n_levels=found.max_levels if found.levels is None else different or 0,
        levels_capped=found.levels is None,
        levels=tuple(finite[:TOP_LEVELS]),
        memory_bytes=found.n_bytes,
    )


def _is_plain(value: Level) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _problems(column: ColumnProfile, found: Counter) -> list[str]:
    """What somebody should look at before calibrating."""
    name, n = repr(column.name), found.n_records
    if column.n_missing == n:
        return [f"{name} has no value in any record. Leave it out."]
    out = []
    if column.role == "weight":
        weight = f"{name} looks like a weight and is"
        if column.n_negative:
            out.append(f"{weight} negative in {_records(column.n_negative)}.")
        if column.n_missing:
            out.append(f"{weight} missing in {_records(column.n_missing)}.")
        if column.n_zero:
            out.append(
                f"{weight} zero in {_records(column.n_zero)}: it stays zero there whatever the "
                "targets are."
            )
    elif column.n_missing and column.n_zero is not None and column.role in ("number", "category"):
        out.append(
            f"{name} is missing in {column.n_missing:,} of {_records(n)}: a target can add it up "
            "only where it is there, or after these are filled."
        )
    if column.n_infinite:
        out.append(f"{name} is infinite in {_records(column.n_infinite)}, and no total takes that.")
    different = found.n_different
    if column.role == "id" and different is not None:
        without = f" and {column.n_missing:,} have none" if column.n_missing else ""
        if different < n:
            out.append(
                f"{name} looks like an id and does not name every record differently: "
                f"{_records(n)} have {different:,} different values{without}."
            )
    if column.type in ("date", "other"):
        what = "dates or times" if column.type == "date" else "neither text nor numbers"
        out.append(
            f"{name} holds {what}, which filters and targets cannot read. Turn it into numbers or "
            "text, for example a date into its year."
        )
    return out


def _records(number: int) -> str:
    return "1 record" if number == 1 else f"{number:,} records"
