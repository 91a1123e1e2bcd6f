"""Files: what was written is read back to the last bit, and a failure leaves nothing behind."""

from __future__ import annotations

import errno
import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal

from microcalibrate.atomic import RUN_MARKER, atomic_path, check_run_folder, run_folder
from microcalibrate.errors import InvalidOption, UnreadableFile, UnwritableFile
from microcalibrate.io import (
    read_json,
    read_matrix,
    read_problem,
    read_table,
    write_json,
    write_table,
)

FRAME = pd.DataFrame({"name": ["a", "é"], "value": [0.1 + 0.2, 1e300], "n": [1, 2]})
SUFFIXES = [".csv", ".csv.gz", ".parquet", ".feather"]


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


# --- Tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".CSV"])
@pytest.mark.parametrize("frame", [FRAME, pl.from_pandas(FRAME)])
def test_a_table_is_read_as_it_was_written(tmp_path: Path, suffix: str, frame: Any) -> None:
    path = tmp_path / f"table{suffix}"
    write_table(frame, path)

    assert_frame_equal(read_table(path), FRAME, check_exact=True)
    assert list(content(tmp_path)) == [path.name]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_in_a_csv_keep_their_last_bit(tmp_path: Path, values: list[float]) -> None:
    write_table(pd.DataFrame({"x": values}), tmp_path / "x.csv")

    assert_array_equal(read_table(tmp_path / "x.csv")["x"], values)


def test_a_csv_of_a_spreadsheet_has_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("name,value\né,1\n".encode("utf-8-sig"))

    assert read_table(tmp_path / "x.csv").columns.tolist() == ["name", "value"]


def test_equal_tables_are_equal_files(tmp_path: Path) -> None:
    for name in ("a.csv.gz", "b.csv.gz"):
        write_table(FRAME, tmp_path / name)

    first, second = content(tmp_path).values()
    assert gzip.decompress(first) == gzip.decompress(second)
    # Bytes 4 to 8 of a gzip file are its time stamp.
    assert first[4:8] == second[4:8] == bytes(4)


def test_formulas_are_guarded_and_numbers_are_not(tmp_path: Path) -> None:
    cells = ["=1+1", "+1", "-1", "@x", "\tx", "plain", None]
    table = pd.DataFrame({"=text": cells, "number": [-1.0] * 7})
    write_table(table, tmp_path / "x.csv", guard_formulas=True)

    read = read_table(tmp_path / "x.csv")

    assert read["'=text"].tolist()[:6] == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", "plain"]
    assert pd.isna(read["'=text"].iloc[6])
    assert read["number"].tolist() == [-1.0] * 7
    assert table.columns[0] == "=text"


def test_guarding_formulas_where_there_are_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="guard_formulas"):
        write_table(FRAME, tmp_path / "x.parquet", guard_formulas=True)


@pytest.mark.parametrize(
    ("name", "data", "part"),
    [
        ("missing.csv", None, "does not exist"),
        ("x.xlsx", b"x", "'.xlsx'"),
        ("empty.csv", b"", "is empty"),
        ("blank.csv", b"\n\n", "no header"),
        ("latin.csv", "name\né\n".encode("latin-1"), "UTF-8"),
        ("excel.csv", "na\u00efve".encode("utf-16"), "UTF-8"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n", "line 3"),
        ("semicolons.csv", b"a;b\n1;2\n", "commas"),
        ("mark.csv", "a,b,a\n1,2,3\n".encode("utf-8-sig"), "more than one column 'a'"),
        ("twice.csv", b"a,b,a\n1,2,3\n", "more than one column 'a'"),
        ("damaged.csv.gz", gzip.compress(b"a,b\n1,2\n")[:-9], "damaged"),
        ("text.csv.gz", b"a,b\n1,2\n", "damaged"),
        ("damaged.parquet", b"PAR1....PAR1", "damaged"),
        ("text.feather", b"a,b\n1,2\n", "damaged"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, data: bytes | None, part: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)

    with pytest.raises(UnreadableFile) as caught:
        read_table(tmp_path / name)

    assert name in str(caught.value)
    assert part in str(caught.value)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()

    with pytest.raises(UnreadableFile, match="is a folder"):
        read_table(tmp_path / "x.csv")


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_a_table_that_a_format_cannot_hold_leaves_the_old_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_table(FRAME, path)
    before = content(tmp_path)

    with pytest.raises(UnwritableFile, match=path.name):
        write_table(pd.DataFrame({"mixed": [1, "a", []]}), path)

    assert content(tmp_path) == before


def test_a_table_of_unknown_format_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFile, match="tables end in"):
        write_table(FRAME, tmp_path / "x.xlsx")


# --- Matrices and problems ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array, sp.csc_array, sp.coo_array])
def test_a_sparse_matrix_is_read_as_float64_csr(tmp_path: Path, kind: Any) -> None:
    dense = np.array([[0, 1, 0], [2, 0, 3]], dtype=np.float32)
    sp.save_npz(tmp_path / "m.npz", kind(dense))

    matrix = read_matrix(tmp_path / "m.npz")

    assert matrix.format == "csr"
    assert matrix.dtype == np.float64
    assert_array_equal(matrix.toarray(), dense)


def test_a_dense_matrix_becomes_sparse(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", matrix=np.array([[0, 1], [2, 0]]))

    matrix = read_matrix(tmp_path / "m.npz")

    assert matrix.nnz == 2
    assert_array_equal(matrix.toarray(), [[0, 1], [2, 0]])


class Trap:
    """An object whose unpickling is noticed."""

    sprung = False

    def __reduce__(self) -> Any:
        return (Trap.spring, ())

    @staticmethod
    def spring() -> None:
        Trap.sprung = True


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", matrix=np.array([[Trap()]], dtype=object))

    with pytest.raises(UnreadableFile, match="pickled"):
        read_matrix(tmp_path / "m.npz")

    assert not Trap.sprung


def test_positions_outside_of_the_matrix_are_refused(tmp_path: Path) -> None:
    """They would make later products read memory that is not theirs."""
    np.savez(
        tmp_path / "m.npz",
        format=np.array(b"csr"),
        shape=np.array([2, 2]),
        data=np.ones(2),
        indices=np.array([0, 10**6]),
        indptr=np.array([0, 1, 2]),
    )

    with pytest.raises(UnreadableFile, match=r"m\.npz"):
        read_matrix(tmp_path / "m.npz")


@pytest.mark.parametrize(
    ("arrays", "part"),
    [
        ({"other": np.eye(2)}, "['other']"),
        ({"matrix": np.zeros(3)}, "shape (3,)"),
        ({"matrix": np.array([["a"]])}, "must be numbers"),
        ({"format": np.array(b"csr")}, "damaged"),
    ],
)
def test_an_npz_without_a_matrix_is_refused(
    tmp_path: Path, arrays: dict[str, Any], part: str
) -> None:
    np.savez(tmp_path / "m.npz", **arrays)

    with pytest.raises(UnreadableFile) as caught:
        read_matrix(tmp_path / "m.npz")

    assert part in str(caught.value)


@pytest.mark.parametrize("data", [b"text", b"PK\x05\x06", b"\x93NUMPY"])
def test_a_damaged_npz_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.npz").write_bytes(data)

    with pytest.raises(UnreadableFile, match="damaged"):
        read_matrix(tmp_path / "m.npz")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_cut_off_npz_is_refused(tmp_path: Path, kept: float) -> None:
    sp.save_npz(tmp_path / "m.npz", sp.random_array((50, 5), density=0.5, rng=0, format="csr"))
    whole = (tmp_path / "m.npz").read_bytes()
    (tmp_path / "m.npz").write_bytes(whole[: int(kept * len(whole))])

    with pytest.raises(UnreadableFile, match=r"m\.npz"):
        read_matrix(tmp_path / "m.npz")


@pytest.fixture
def problem_folder(tmp_path: Path) -> Path:
    sp.save_npz(tmp_path / "matrix.npz", sp.csr_matrix(np.eye(3, 2, dtype=np.float32)))
    np.savez(tmp_path / "weights.npz", weights=np.ones(3, dtype=np.float32))
    (tmp_path / "targets.csv").write_text("name,family,target,initial\na,f,1.5,1\nb,,2,1\n")
    return tmp_path


def test_a_problem_is_read_from_its_folder(problem_folder: Path) -> None:
    problem = read_problem(problem_folder)

    assert problem.target_names == ("a", "b")
    assert problem.families == ("f", "")
    assert_array_equal(problem.targets, [1.5, 2.0])
    assert_array_equal(problem.tolerances, [np.nan, np.nan])
    assert_array_equal(problem.weights, np.ones(3))
    assert_array_equal(problem.estimate_matrix.toarray(), np.eye(3, 2))


def test_tolerances_of_a_stored_problem_are_read(problem_folder: Path) -> None:
    (problem_folder / "targets.csv").write_text("name,target,tolerance\na,1.5,0\nb,2,\n")

    assert_array_equal(read_problem(problem_folder).tolerances, [0.0, np.nan])


def test_importances_and_scales_of_a_stored_problem_are_read(problem_folder: Path) -> None:
    plain = read_problem(problem_folder)
    text = "name,target,importance,scale\na,1.5,,4\nb,2,3,\n"
    (problem_folder / "targets.csv").write_text(text)
    problem = read_problem(problem_folder)

    assert_array_equal(plain.importances, [1.0, 1.0])
    assert_array_equal(plain.scales, [np.nan, np.nan])
    assert_array_equal(problem.importances, [1.0, 3.0])
    assert_array_equal(problem.scales, [4.0, np.nan])


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("targets.csv", "name,target\na,1\n", "shape (3, 2)"),
        ("targets.csv", "name,value\na,1\nb,2\n", "no column 'target'"),
        ("targets.csv", "name,target\na,1\nb,much\n", "must be numbers"),
        ("targets.csv", None, "does not exist"),
        ("matrix.npz", None, "does not exist"),
        ("weights.npz", None, "does not exist"),
        ("weights.npz", "text", "damaged"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    problem_folder: Path, name: str, text: str | None, part: str
) -> None:
    (problem_folder / name).unlink()
    if text is not None:
        (problem_folder / name).write_text(text)

    with pytest.raises(UnreadableFile) as caught:
        read_problem(problem_folder)

    assert part in str(caught.value)


def test_a_missing_problem_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="no folder"):
        read_problem(tmp_path / "nowhere")


# --- Whole or not at all --------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(old=st.none() | st.binary(), parts=st.lists(st.binary()), fails=st.booleans())
def test_a_reader_finds_the_old_file_or_the_new_one(
    tmp_path: Path, old: bytes | None, parts: list[bytes], fails: bool
) -> None:
    path = tmp_path / "x.bin"
    path.unlink(missing_ok=True)
    if old is not None:
        path.write_bytes(old)
    before = content(tmp_path)

    def write() -> None:
        with atomic_path(path) as unfinished, unfinished.open("wb") as stream:
            for part in parts:
                stream.write(part)
                stream.flush()
                assert path.exists() == (old is not None)
            if fails:
                raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            write()
        assert content(tmp_path) == before
    else:
        write()
        assert content(tmp_path) == {"x.bin": b"".join(parts)}


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_json({"a": 1}, tmp_path / "x.json")
    before = content(tmp_path)
    monkeypatch.setattr(os, step, full_disk)

    with pytest.raises(UnwritableFile, match=r"x\.json cannot be written: No space left"):
        write_json({"a": 2}, tmp_path / "x.json")

    assert content(tmp_path) == before


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")

    write_json([1], tmp_path / "link.json")

    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text()) == [1]


def test_the_temporary_name_keeps_the_suffixes(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "x.csv.gz") as unfinished:
        assert unfinished.parent == tmp_path
        assert unfinished.name.endswith(".csv.gz")
        unfinished.write_bytes(b"")


def test_a_file_where_none_can_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFile, match="Create it first"):
        write_json([], tmp_path / "no" / "x.json")
    with pytest.raises(UnwritableFile, match="is a folder"):
        write_json([], tmp_path)
    with pytest.raises(UnwritableFile, match="nothing was put"), atomic_path(tmp_path / "x"):
        pass


def test_json_holds_what_numpy_counts_with(tmp_path: Path) -> None:
    write_json(
        {"a": np.float64(0.1), "b": np.arange(2), "c": (np.bool_(True), None), "d": Path("é")},
        tmp_path / "x.json",
    )

    read = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))

    assert read == {"a": 0.1, "b": [0, 1], "c": [True, None], "d": "é"}


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1.0, float("nan")]}, "$.a[1] is nan"),
        (np.array([np.inf]), "$[0] is inf"),
        ({"a": {1: 2}}, "$.a is a dict"),
        ([{"a": object()}], "$[0].a is a object"),
    ],
)
def test_json_says_where_it_has_no_word(tmp_path: Path, value: Any, where: str) -> None:
    with pytest.raises(UnwritableFile) as caught:
        write_json(value, tmp_path / "x.json")

    assert where in str(caught.value)
    assert not content(tmp_path)


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = {"a": [0.1 + 0.2, 1, True, None], "é": {}}
    write_json(written, tmp_path / "x.json")

    assert read_json(tmp_path / "x.json") == written


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b'{"a": ', "damaged"),
        (b'"\xff"', "UTF-8"),
        (b"[" * 100_000, "damaged"),
    ],
)
def test_json_that_cannot_be_read_is_named(tmp_path: Path, data: bytes | None, part: str) -> None:
    if data is not None:
        (tmp_path / "x.json").write_bytes(data)

    with pytest.raises(UnreadableFile, match=rf"x\.json.*{part}"):
        read_json(tmp_path / "x.json")


# --- Folders of runs ------------------------------------------------------------------------------


def run(path: Path, text: str = "new") -> None:
    with run_folder(path) as unfinished:
        (unfinished / "deep").mkdir()
        (unfinished / "deep" / "x.txt").write_text(text)


def test_a_run_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with run_folder(target) as unfinished:
        (unfinished / "x.txt").write_text("new")
        assert not target.exists()

    assert set(content(tmp_path)) == {"run/x.txt", f"run/{RUN_MARKER}"}
    assert target.stat().st_mode & 0o777 == (tmp_path / "run").stat().st_mode & 0o777


def test_an_empty_folder_is_filled_and_an_earlier_run_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "run"
    target.mkdir()
    run(target, "first")
    (target / "added.txt").write_text("later")

    run(target, "second")

    assert set(content(tmp_path)) == {"run/deep/x.txt", f"run/{RUN_MARKER}"}
    assert (target / "deep" / "x.txt").read_text() == "second"


@pytest.mark.parametrize("exception", [KeyboardInterrupt, ZeroDivisionError])
def test_a_failed_run_leaves_the_earlier_one(
    tmp_path: Path, exception: type[BaseException]
) -> None:
    run(tmp_path / "run", "first")
    before = content(tmp_path)

    def fail_halfway() -> None:
        with run_folder(tmp_path / "run") as unfinished:
            (unfinished / "x.txt").write_text("half")
            raise exception

    with pytest.raises(exception):
        fail_halfway()

    assert content(tmp_path) == before
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("failing_call", [1, 2])
@pytest.mark.parametrize("cause", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failed_exchange_puts_the_earlier_run_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int, cause: BaseException
) -> None:
    run(tmp_path / "run", "first")
    before = content(tmp_path)
    rename, calls = os.rename, []

    def rename_or_fail(source: Any, target: Any) -> None:
        calls.append(source)
        if len(calls) == failing_call:
            raise cause
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_or_fail)
    with pytest.raises((UnwritableFile, KeyboardInterrupt)):
        run(tmp_path / "run", "second")

    assert content(tmp_path) == before
    assert os.listdir(tmp_path) == ["run"]


def test_a_full_disk_leaves_no_run(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFile, match="No space left"), run_folder(tmp_path / "run"):
        full_disk()

    assert not os.listdir(tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    (tmp_path / "file").write_bytes(b"text")
    before = content(tmp_path)

    with pytest.raises(UnwritableFile, match="not of an earlier run"):
        run(tmp_path / "photos")
    with pytest.raises(UnwritableFile, match="is a file"):
        run(tmp_path / "file")
    with pytest.raises(UnwritableFile, match="Create it first"):
        run(tmp_path / "no" / "run")

    assert content(tmp_path) == before


def test_something_that_came_up_meanwhile_is_left_alone(tmp_path: Path) -> None:
    def run_while_another_writes() -> None:
        with run_folder(tmp_path / "run"):
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "other.txt").write_text("mine")

    with pytest.raises(UnwritableFile, match="not of an earlier run"):
        run_while_another_writes()

    assert content(tmp_path) == {"run/other.txt": b"mine"}


def test_whether_a_run_can_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    run(tmp_path / "run", "first")
    before = content(tmp_path)

    check_run_folder(tmp_path / "run")
    check_run_folder(tmp_path / "new")
    for wrong in ("photos", "no/run"):
        with pytest.raises(UnwritableFile):
            check_run_folder(tmp_path / wrong)

    assert content(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == ["photos", "run"]


def test_a_full_disk_is_noticed_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", full_disk)

    with pytest.raises(UnwritableFile, match="No space left"):
        check_run_folder(tmp_path / "run")
