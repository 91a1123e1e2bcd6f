"""Files and folders of runs appear whole or not at all, and a failure leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microcalibrate.atomic import RUN_MARKER, atomic_path, check_run_folder, run_folder
from microcalibrate.errors import UnwritableFile
from microcalibrate.io import write_json

from .files import content, full_disk

# --- Files ----------------------------------------------------------------------------------------


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
