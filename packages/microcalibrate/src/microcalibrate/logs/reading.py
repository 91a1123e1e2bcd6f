"""Reading logs of calibrations, whichever program wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microcalibrate.atomic import PathLike
from microcalibrate.errors import NotALog, UnreadableFile
from microcalibrate.logs.columns import Dialect, dialect_of, unguarded
from microcalibrate.logs.facts import check_rows, read_facts
from microcalibrate.logs.log import CalibrationLog, with_errors
from microcalibrate.logs.oddities import note_columns, note_errors, note_gaps
from microcalibrate.logs.parsing import header_of, not_a_log, numbers_of, parsed_columns

if TYPE_CHECKING:
    import pandas as pd

LOG_NAME = "log.csv"


def read_log(path: PathLike) -> CalibrationLog:
    r"""Log of a calibration: of this package, or in one of the dialects that others write.

    The columns say which dialect it is; their order does not matter, nor do row numbers before
    them:

    - A: `epoch`, `loss`, `target_name`, `target`, `estimate`, … (targets without names are
      numbered);
    - B: the same with `rel_error`, and a loss per target;
    - C: B with `achievable`;
    - D: `target` (the name), `true_value`, `estimate`, …: the final state only, as epoch 0.

    Whether `loss` is that of the run or of each target is told by whether it is the same for all
    targets of an epoch. Targets that were not calibrated to are known from the facts beside the
    log only; an estimate that never changes proves nothing.

    Args:
        path: CSV file in UTF-8 (.csv or .csv.gz), or the folder of a saved run.

    Returns:
        The log, all of its epochs.

    Raises:
        NotALog: If the columns are those of no dialect.
        TruncatedFile: If the file ends within a row, or has fewer rows than its facts say.
        UnreadableFile: If it is missing, empty, damaged, or not encoded in UTF-8.

    Examples:
        >>> from tempfile import mkdtemp
        >>> file = Path(mkdtemp()) / "diagnostics.csv"
        >>> size = file.write_text('target,true_value,estimate\n"people, all",4,5\n')
        >>> read_log(file).final[["name", "rel_abs_error"]].values.tolist()
        [['people, all', 0.25]]
    """
    import pandas as pd

    file = _log_file(Path(path))
    header = header_of(file)
    dialect = dialect_of(header)
    if dialect is None:
        raise not_a_log(file, header)
    facts = read_facts(file)
    columns = parsed_columns(file, header, dialect)
    n_rows = len(columns["estimate"])
    check_rows(file, facts, n_rows)
    if n_rows == 0:
        raise UnreadableFile(f"{file} has a header and no rows. Write it again.")
    notes: list[str] = []
    table = _table(file, columns, dialect, notes)
    names = table.target_name.cat.categories
    if facts:
        plain = pd.Index([unguarded(name) for name in names], dtype="object")
        table["target_name"] = pd.Categorical.from_codes(
            table.target_name.cat.codes, categories=plain
        )
    note_columns(header, notes)
    note_errors(columns, table, dialect, notes)
    note_gaps(file, table, notes)
    return CalibrationLog(
        name=file.parent.resolve().name if file.name == LOG_NAME else file.name,
        dialect=dialect.name,
        table=table,
        loss_kind=_loss_kind(table, dialect),
        excluded=tuple(map(str, facts.get("excluded", ()))),
        notes=tuple(notes),
        facts=facts,
    )


# --- Files ----------------------------------------------------------------------------------------


def _log_file(path: Path) -> Path:
    if path.is_dir():
        if not (path / LOG_NAME).is_file():
            raise NotALog(
                f"{path} has no {LOG_NAME} in it. Give the folder of a saved calibration, or a "
                "log's file."
            )
        return path / LOG_NAME
    if not path.exists():
        raise UnreadableFile(f"{path} does not exist. Check the path (from {Path.cwd()}).")
    if not path.name.lower().endswith((".csv", ".csv.gz")):
        raise NotALog(f"{path} ends in {path.suffix!r}, and logs end in .csv or .csv.gz.")
    if path.is_file() and path.stat().st_size == 0:
        raise UnreadableFile(f"{path} is empty. Write it again.")
    return path


# --- The table ------------------------------------------------------------------------------------


def _table(
    file: Path, columns: Mapping[str, Any], dialect: Dialect, notes: list[str]
) -> pd.DataFrame:
    import pandas as pd

    n_rows = len(columns["estimate"])
    target, estimate = numbers_of(columns[dialect.target]), numbers_of(columns["estimate"])
    epoch = _epochs(file, columns, n_rows)
    loss = numbers_of(columns["loss"]) if "loss" in columns else np.full(n_rows, np.nan)
    table = with_errors(
        pd.DataFrame(
            {
                "epoch": epoch,
                "target_name": _names(columns, dialect, epoch, notes),
                "target": target,
                "estimate": estimate,
            }
        )
    ).assign(loss=loss)
    if "achievable" in columns:
        words = columns["achievable"].to_pandas().astype("object")
        truth = {"true": True, "1": True, "false": False, "0": False}
        table["achievable"] = words.map(lambda word: truth.get(str(word).lower()))
    n_unknown = int((np.isnan(target) | np.isnan(estimate)).sum())
    if n_unknown:
        notes.append(f"{n_unknown:,} rows have no target or no estimate.")
    n_infinite = int((np.isinf(target) | np.isinf(estimate)).sum())
    if n_infinite:
        notes.append(f"{n_infinite:,} rows have an infinite target or estimate.")
    return table


def _epochs(file: Path, columns: Mapping[str, Any], n_rows: int) -> Any:
    if "epoch" not in columns:
        return np.zeros(n_rows, dtype=np.int64)
    values = numbers_of(columns["epoch"])
    whole = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**53)
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        raise UnreadableFile(
            f"{file} has the epoch {values[row]} in row {row + 1:,}, and epochs are whole numbers. "
            "Write it again."
        )
    return values.astype(np.int64)


def _names(columns: Mapping[str, Any], dialect: Dialect, epoch: Any, notes: list[str]) -> Any:
    """The names of the rows, no two alike within an epoch."""
    import pandas as pd

    if dialect.target_name not in columns:
        place = pd.Series(epoch).groupby(epoch).cumcount().to_numpy()
        labels = [f"target_{number}" for number in range(int(place.max()) + 1)]
        notes.append("The targets have no names; they are numbered in the order of the rows.")
        return pd.Categorical.from_codes(place, categories=pd.Index(labels, dtype="object"))
    column = columns[dialect.target_name]
    codes = column.indices.to_numpy(zero_copy_only=False)
    labels = [str(label) for label in column.dictionary.to_pylist()]
    pair = pd.factorize(epoch)[0] * np.int64(len(labels)) + codes
    again = pd.Series(pair).groupby(pair).cumcount().to_numpy() if _has_twice(pair) else None
    if again is not None:
        marked = pd.Series(np.array(labels, dtype="object")[codes])
        marked[again > 0] += [f" ({number + 1})" for number in again[again > 0]]
        twice = labels[int(codes[again > 0][0])]
        notes.append(
            f"Names stand more than once in an epoch ({twice!r} for one); later ones are numbered."
        )
        codes, unique = pd.factorize(marked)
        labels = list(map(str, unique))
    return pd.Categorical.from_codes(codes, categories=pd.Index(labels, dtype="object"))


def _has_twice(pair: NDArray[np.int64]) -> bool:
    """Whether a value stands twice; most logs are in order, where each is one more than before."""
    import pandas as pd

    rising = bool((pair[1:] > pair[:-1]).all())
    return not rising and bool(pd.Series(pair).duplicated().any())


def _loss_kind(table: pd.DataFrame, dialect: Dialect) -> str:
    """Whether a loss is the run's or its target's, told by whether it is constant in an epoch."""
    loss = table.loss.to_numpy()
    if np.isnan(loss).all():
        return "none"
    # Where no epoch has two targets, the dialect is all there is to go by.
    order = np.argsort(table.epoch.to_numpy(), kind="stable")
    epoch, loss = table.epoch.to_numpy()[order], loss[order]
    pairs = epoch[1:] == epoch[:-1]
    if not pairs.any():
        return "run" if dialect.name == "A" else "per target"
    alike = (loss[1:] == loss[:-1]) | (np.isnan(loss[1:]) & np.isnan(loss[:-1]))
    return "run" if alike[pairs].all() else "per target"
