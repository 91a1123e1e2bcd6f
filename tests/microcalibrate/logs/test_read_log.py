"""Logs of other programs: each dialect opens, and nothing in it is dropped, shifted or guessed."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate.errors import InvalidOption, NotALog, TruncatedFile, UnreadableFile
from microcalibrate.logs import parsing, read_log
from microcalibrate.logs.quality import error_histogram, ranked

# Commas, quotes and a line break in names; a target of zero, and a negative one.
NAMES = ["people, all", 'wages "gross"', "net\nloss", "us/ca/zero", "left out"]
TARGETS = np.array([100.0, 5e9, -40.0, 0.0, 10.0])
EPOCHS = [0, 7, 30, 31]
ESTIMATES = np.array(
    [
        [80.0, 6e9, -60.0, 3.0, 4.0],
        [90.0, 5.5e9, -44.0, 2.0, 4.0],
        [101.0, 5.2e9, -38.0, -1.0, 4.0],
        [100.5, 4.6e9, -40.0, -0.5, 4.0],
    ]
)
A = ["epoch", "loss", "target_name", "target", "estimate", "error", "abs_error", "rel_abs_error"]
B = [
    "target_name",
    "estimate",
    "target",
    "epoch",
    "error",
    "rel_error",
    "abs_error",
    "rel_abs_error",
    "loss",
]
D = ["target", "true_value", "estimate", "rel_error", "abs_rel_error", "achievable"]


def long_table() -> pd.DataFrame:
    """All rows, with the columns of all dialects."""
    table = pd.DataFrame(
        {
            "epoch": np.repeat(EPOCHS, len(NAMES)),
            "target_name": NAMES * len(EPOCHS),
            "target": np.tile(TARGETS, len(EPOCHS)),
            "estimate": ESTIMATES.ravel(),
        }
    )
    table["error"] = table.estimate - table.target
    table["abs_error"] = table.error.abs()
    table["rel_error"] = table.error / table.target
    table["rel_abs_error"] = table.rel_error.abs()
    return table


def written(dialect: str) -> str:
    """The text of a log, with what each dialect does of its own."""
    table = long_table()
    zero = table.target == 0
    if dialect == "A":
        table["loss"] = np.repeat([4.0, 3.0, 2.0, 2.5], len(NAMES))
        table.loc[zero, "rel_abs_error"] = np.nan
        return table[A].to_csv()
    table["loss"] = table.rel_abs_error**2
    if dialect == "B":
        return table[B].to_csv(index=False)
    table["achievable"] = True
    table.loc[table.target_name == "left out", "achievable"] = False
    table.loc[zero, ["rel_error", "rel_abs_error", "loss"]] = 0.0
    if dialect == "C":
        return table[[*B, "achievable"]].to_csv(index=False)
    last = table[table.epoch == EPOCHS[-1]].drop(columns="epoch")
    last = last.rename(
        columns={"target": "true_value", "target_name": "target", "rel_abs_error": "abs_rel_error"}
    )
    return last[D].to_csv(index=False)


def opened(folder: Path, text: str | bytes, name: str = "some.csv") -> Any:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_log(folder / name)


@pytest.mark.parametrize("dialect", ["A", "B", "C", "D"])
def test_each_dialect_opens(tmp_path: Path, dialect: str) -> None:
    log = opened(tmp_path, written(dialect))

    epochs = EPOCHS if dialect != "D" else [0]
    estimates = ESTIMATES if dialect != "D" else ESTIMATES[-1:]
    assert (log.dialect, log.notes) == (dialect, ())
    assert log.target_names == tuple(NAMES)
    assert_array_equal(log.epochs, epochs)
    assert_array_equal(log.matrix("estimate"), estimates)
    assert_array_equal(log.final.target, TARGETS)
    error = estimates[-1] - TARGETS
    assert_array_equal(log.final.error, error)
    assert_array_equal(log.final.abs_error, np.abs(error))
    # Undefined where the target is 0, whatever the file says of it: empty, infinite or 0.
    relative = [0.005, -0.08, 0.0, np.nan, -0.6]
    assert_allclose(log.final.relative_error, relative, atol=1e-15)
    assert_allclose(log.final.rel_abs_error, np.abs(relative), atol=1e-15)
    # An estimate that never moves is no proof that a target was left out.
    assert log.excluded == ()
    if dialect in "CD":
        assert log.final.achievable.tolist() == [True, True, True, True, False]


def test_the_order_of_columns_and_row_numbers_do_not_matter(tmp_path: Path) -> None:
    table = pd.read_csv(io.StringIO(written("A")), index_col=0)
    text = table[table.columns[::-1]].to_csv(index=False)

    assert_array_equal(opened(tmp_path, text).matrix("estimate"), ESTIMATES)
    marked = opened(tmp_path, "\ufeff" + text)
    assert_array_equal(marked.matrix("estimate"), ESTIMATES)
    assert marked.notes == ()
    packed = opened(tmp_path, gzip.compress(text.encode()), "some.csv.gz")
    assert_array_equal(packed.matrix("estimate"), ESTIMATES)


def test_names_may_have_line_breaks_wherever_the_file_is_parted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = written("C")
    for size in range(len(text) // 4, len(text) // 2, 37):
        monkeypatch.setattr(parsing, "BYTES_A_BLOCK", size)

        log = opened(tmp_path, text)

        assert log.target_names == tuple(NAMES)
        assert_array_equal(log.matrix("estimate"), ESTIMATES)


@pytest.mark.parametrize(
    ("dialect", "kind", "loss"),
    [
        ("A", "run", [4.0, 3.0, 2.0, 2.5]),
        ("B", "per target", None),
        ("C", "per target", None),
        ("D", "none", [np.nan]),
    ],
)
def test_a_loss_of_the_run_is_told_from_one_per_target(
    tmp_path: Path, dialect: str, kind: str, loss: Any
) -> None:
    log = opened(tmp_path, written(dialect))

    assert log.loss_kind == kind
    if loss is None:
        squares = ((ESTIMATES - TARGETS)[:, TARGETS != 0] / TARGETS[TARGETS != 0]) ** 2
        # The infinite loss of the target of zero (B) cannot be averaged; one of 0 (C) can.
        loss = squares.mean(axis=1) if dialect == "B" else squares.sum(axis=1) / len(TARGETS)
    assert_allclose(log.curve.loss, loss)


def test_the_curve_is_that_of_the_defined_errors(tmp_path: Path) -> None:
    curve = opened(tmp_path, written("A")).curve

    table = long_table()
    table = table[table.target != 0]
    error = (table.abs_error / table.target.abs()).groupby(table.epoch)
    assert_allclose(curve.mean_error, error.apply(lambda e: e.clip(upper=1).mean()))
    assert_allclose(curve.median_error, error.median())
    assert_allclose(curve.within_20, error.apply(lambda e: (e <= 0.2).mean()))


def test_zero_targets_are_never_excellent(tmp_path: Path) -> None:
    log = opened(tmp_path, written("C"))

    quality = log.quality()

    assert (quality.n_close, quality.n_fair, quality.n_poor) == (2, 1, 1)
    assert (quality.n_undefined, quality.n_zero_missed) == (1, 1)
    assert quality.score == 100 * 2.5 / 4
    assert_allclose(quality.mean_error, (0.005 + 0.08 + 0.0 + 0.6) / 4)
    assert error_histogram(log.final)["count"].tolist() == [2, 1, 0, 0, 0, 1, 0, 1]


def test_undefined_errors_are_ranked_by_their_absolute_size() -> None:
    table = pd.DataFrame(
        {
            "name": list("abcdef"),
            "rel_abs_error": [0.1, np.nan, np.inf, np.nan, np.nan, 0.5],
            "abs_error": [1.0, 5.0, np.inf, 50.0, np.nan, 2.0],
        }
    )

    assert "".join(ranked(table).name) == "cfadbe"


def test_infinite_and_unknown_estimates_are_kept_and_said(tmp_path: Path) -> None:
    lines = ["epoch,loss,target_name,target,estimate", "0,1,a,2,inf", "0,1,b,2,", "0,1,c,2,-inf"]

    log = opened(tmp_path, "\n".join(lines))

    assert_array_equal(log.final.error, [np.inf, np.nan, -np.inf])
    assert_array_equal(log.final.rel_abs_error, [np.inf, np.nan, np.inf])
    assert log.curve.mean_error.tolist() == [1.0]
    assert log.notes == (
        "1 rows have no target or no estimate.",
        "2 rows have an infinite target or estimate.",
    )


def test_targets_without_names_are_numbered(tmp_path: Path) -> None:
    table = pd.read_csv(io.StringIO(written("A")), index_col=0)

    log = opened(tmp_path, table.drop(columns="target_name").to_csv())

    assert log.target_names == tuple(f"target_{number}" for number in range(5))
    assert_array_equal(log.matrix("estimate"), ESTIMATES)
    assert "no names" in log.notes[0]


def test_names_that_stand_twice_are_kept_apart(tmp_path: Path) -> None:
    text = written("A").replace("left out", '"people, all"')

    log = opened(tmp_path, text)

    assert log.target_names == (*NAMES[:4], "people, all (2)")
    assert_array_equal(log.matrix("estimate"), ESTIMATES)
    assert "'people, all' for one" in log.notes[0]


def test_an_unfinished_last_epoch_is_kept_and_said(tmp_path: Path) -> None:
    table = long_table().iloc[:-3]

    log = opened(tmp_path, table.to_csv(index=False))

    assert_array_equal(log.epochs, EPOCHS)
    expected = ESTIMATES.copy()
    expected[-1, 2:] = np.nan
    assert_array_equal(log.matrix("estimate"), expected)
    assert_array_equal(log.final.estimate, [*ESTIMATES[-1, :2], *ESTIMATES[-2, 2:]])
    assert "1 of 4 epochs lack targets (epoch 31 has 2 of 5)" in log.notes[0]


def test_errors_that_contradict_the_estimates_are_said(tmp_path: Path) -> None:
    table = long_table().assign(loss=1.0)
    table.loc[3:6, "error"] *= 1.1

    log = opened(tmp_path, table[A].to_csv())

    assert_array_equal(log.table.error, log.table.estimate - log.table.target)
    # One of the four is of a target of zero, which has no size to compare with.
    assert log.notes[0].startswith("In 3 rows the column 'error' is not estimate minus target")


def test_what_else_the_file_and_its_folder_have_is_said(tmp_path: Path) -> None:
    (tmp_path / "some_sparse.csv").write_text(written("A"))

    log = opened(tmp_path, long_table().assign(pct_close=1).to_csv())

    assert "pct_close" in log.notes[0]
    assert "some_sparse.csv" in log.notes[1]


def test_the_course_of_a_target_is_asked_for_by_name(tmp_path: Path) -> None:
    log = opened(tmp_path, written("B"))

    course = log.history(["net\nloss", "people, all"])

    assert course.epoch.tolist() == EPOCHS * 2
    assert_array_equal(course.estimate, [*ESTIMATES[:, 2], *ESTIMATES[:, 0]])
    assert_array_equal(log.at(30).estimate, ESTIMATES[2])
    assert_array_equal(log.first.estimate, ESTIMATES[0])
    with pytest.raises(InvalidOption, match="Did you mean 'people, all'"):
        log.history(["people all"])
    for epoch in (-1, 8, 32):
        with pytest.raises(InvalidOption, match="4 epochs from 0 to 31"):
            log.at(epoch)


GOOD = "epoch,loss,target_name,target,estimate\n0,1,a,2,3\n0,1,b,2,3\n"


@pytest.mark.parametrize(
    ("text", "error", "part"),
    [
        ("", UnreadableFile, "is empty"),
        ("id,weight\n1,2\n", NotALog, "is no log: it has the columns 'id', 'weight'"),
        (GOOD.replace(",", ";"), NotALog, "not separated by commas"),
        ("epoch,epoch,target,estimate\n", NotALog, "more than one column 'epoch'"),
        (GOOD.split("\n")[0] + "\n", UnreadableFile, "a header and no rows"),
        (GOOD + "1,1,a,2\n", TruncatedFile, "last one has 4 of 5 columns"),
        (GOOD + "1,1,", TruncatedFile, "last one has 3 of 5 columns"),
        (GOOD + "1,1,a, all,2,3\n" + "1,1,b,2,3\n", UnreadableFile, "Names with commas need quote"),
        (GOOD + '1,1,"a', UnreadableFile, "Copy the whole file again"),
        (GOOD + "1,1,a,two,3\n", UnreadableFile, "two"),
        (GOOD + "1.5,1,a,2,3\n", UnreadableFile, "epochs are whole numbers"),
        (GOOD + ",1,a,2,3\n", UnreadableFile, "epochs are whole numbers"),
        (GOOD.replace("a", "é").encode("latin-1"), UnreadableFile, "CSV UTF-8"),
        (GOOD.replace(",b,", ",ü,").encode("latin-1"), UnreadableFile, "CSV UTF-8"),
        (GOOD.encode("utf-16"), UnreadableFile, "CSV UTF-8"),
        (b"PAR1\0\1\2\xff\xfe", UnreadableFile, "UTF-8"),
    ],
)
def test_what_is_no_whole_log_is_refused_with_a_reason(
    tmp_path: Path, text: str | bytes, error: type[Exception], part: str
) -> None:
    with pytest.raises(error, match=part):
        opened(tmp_path, text)


def test_packed_files_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    packed = gzip.compress((GOOD + "1,1,a,2,3\n" * 5_000).encode())

    for text in (packed[:-30], b"not packed"):
        with pytest.raises(UnreadableFile, match=r"cut off|cannot be read"):
            opened(tmp_path, text, "some.csv.gz")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    for path, error in (
        (tmp_path / "no.csv", UnreadableFile),
        (tmp_path, NotALog),
        (Path(__file__), NotALog),
    ):
        with pytest.raises(error):
            read_log(path)
