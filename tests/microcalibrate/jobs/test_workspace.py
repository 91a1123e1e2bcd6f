"""What a workspace takes in, refuses and removes; names and files of strangers stay harmless."""

from __future__ import annotations

import io
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from microcalibrate.errors import (
    DiskFull,
    InvalidOption,
    StillRunning,
    UnknownRun,
    UnwritableFile,
    UploadRefused,
)
from microcalibrate.jobs import Dataset, RunState, Workspace
from microcalibrate.jobs import workspace as room
from microcalibrate.jobs.facts import Facts
from microcalibrate.jobs.run import is_id

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "=cmd()",
    "../../x",
    "a\0b\nc",
    "C:\\x\\..\\y",
    "x" * 10_000,
)

pytestmark = pytest.mark.usefixtures("no_processes")


def end(workspace: Workspace, run_id: str) -> None:
    Facts(RunState.DONE, exit_code=0).write(workspace.run(run_id).folder)


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_only_its_owner_may_look_into_a_workspace(workspace: Workspace) -> None:
    assert stat.S_IMODE(workspace.folder.stat().st_mode) == 0o700
    workspace.folder.chmod(0o755)
    Workspace(workspace.folder)
    assert stat.S_IMODE(workspace.folder.stat().st_mode) == 0o700


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    mode = tmp_path.stat().st_mode

    with pytest.raises(UnwritableFile, match="no workspace"):
        Workspace(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert tmp_path.stat().st_mode == mode


@pytest.mark.parametrize("n_slots", [0, -1])
def test_slots_are_a_whole_number_from_one(tmp_path: Path, n_slots: int) -> None:
    with pytest.raises(InvalidOption, match="n_slots"):
        Workspace(tmp_path / "w", n_slots=n_slots)


def test_slots_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROCALIBRATE_JOBS", "3")
    assert Workspace(tmp_path / "w").n_slots == 3
    monkeypatch.setenv("MICROCALIBRATE_JOBS", "many")
    with pytest.raises(InvalidOption, match="MICROCALIBRATE_JOBS"):
        Workspace(tmp_path / "w")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_and_never_paths(workspace: Workspace, name: str) -> None:
    before = everything_in(workspace.folder.parent)
    run = workspace.submit("calibrate", ["data.csv"], name)
    new = everything_in(workspace.folder.parent) - before

    own = f"workspace/runs/{run.id}"
    assert all(path.startswith((own, "workspace/queue/")) for path in new)
    assert workspace.run(run.id).name == run.name
    assert len(run.name) <= 200
    assert run.name.isprintable()


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", ".hidden", "config.json", "a/b", "", "x\0", "result"]
)
def test_files_of_a_run_have_plain_names(workspace: Workspace, name: str) -> None:
    with pytest.raises(InvalidOption, match="plain name"):
        workspace.submit("calibrate", [], files={name: b""})
    assert workspace.runs() == []


@pytest.mark.parametrize(
    ("command", "arguments"),
    [("--help", []), ("", []), ("a b", []), ("tune", ["a\0b"]), ("tune", ["x" * 200_000])],
)
def test_what_no_command_line_can_have_is_refused(
    workspace: Workspace, command: str, arguments: list[str]
) -> None:
    with pytest.raises(InvalidOption):
        workspace.submit(command, arguments)
    assert workspace.runs() == []


@pytest.mark.parametrize("run_id", ["../x", "", "x", "*", "4F0E4C4E-5F2B-4A53-8A5C-0B0C9D5C3C11"])
def test_what_is_no_id_is_not_looked_for(workspace: Workspace, run_id: str) -> None:
    assert not is_id(run_id)
    for look in (workspace.run, workspace.dataset, workspace.delete_dataset):
        with pytest.raises(UnknownRun):
            look(run_id)


def test_a_run_remembers_what_it_was_given(workspace: Workspace) -> None:
    files = {"targets.csv": b"name,value\n"}
    run = workspace.submit(
        "calibrate",
        ["d.csv", "--targets", "{run}/targets.csv", "--out", "{run}/result"],
        "first",
        files=files,
        details={"dataset": "d", "form": {"closeness": 1e-4}},
    )
    again = Workspace(workspace.folder).run(run.id)

    assert again == run
    assert again.details == {"dataset": "d", "form": {"closeness": 1e-4}}
    assert (again.folder / "targets.csv").read_bytes() == files["targets.csv"]
    assert again.words[3] == str(run.folder / "targets.csv")
    assert again.state is RunState.QUEUED
    with pytest.raises(InvalidOption, match="details"):
        workspace.submit("calibrate", [], details={"x": object()})


def test_deleting_a_run_removes_every_trace_of_it(workspace: Workspace) -> None:
    before = everything_in(workspace.folder)
    run = workspace.submit("calibrate", [], "gone", files={"secret.csv": b"1,2"})
    with pytest.raises(StillRunning, match="queued"):
        run.delete()
    end(workspace, run.id)
    run.delete()

    assert everything_in(workspace.folder) == before
    assert workspace.runs() == []
    with pytest.raises(UnknownRun):
        workspace.run(run.id)


def test_an_upload_is_kept_as_it_came_and_its_import_is_submitted(workspace: Workspace) -> None:
    content = b"w,x\n1,2\n" * 1000
    pieces = (content[i : i + 999] for i in range(0, len(content), 999))
    made = [
        workspace.add_upload("../a/people.csv", pieces),
        workspace.add_upload("people.csv.gz", io.BytesIO(content)),
    ]

    for dataset, suffix in zip(made, (".csv", ".csv.gz"), strict=True):
        assert dataset.upload.read_bytes() == content
        assert dataset.upload == workspace.folder / "uploads" / (dataset.id + suffix)
        assert dataset.profile is None
        assert dataset.run.command == "profile"
        assert dataset.run.words[1] == str(dataset.upload)
        assert f"--name={dataset.name}" in dataset.run.words
    assert [dataset.name for dataset in made] == ["people.csv", "people.csv.gz"]
    assert workspace.datasets() == made[::-1]
    assert workspace.dataset(made[0].id) == made[0]


class Sized(io.BytesIO):
    """A file that says how large it is, as a page's upload does."""

    def __init__(self, size: int) -> None:
        super().__init__(b"never read")
        self.size = size

    def read(self, *_: Any) -> bytes:
        raise AssertionError("it was read although its size was known to be too large")


def endless() -> Iterator[bytes]:
    while True:
        yield b"0" * 1024


def refused(workspace: Workspace, name: str, source: Any, **options: Any) -> str:
    before = everything_in(workspace.folder)
    with pytest.raises(UploadRefused) as refusal:
        workspace.add_upload(name, source, **options)
    assert everything_in(workspace.folder) == before
    return str(refusal.value)


def test_files_over_the_limit_are_refused_and_nothing_of_them_is_kept(workspace: Workspace) -> None:
    assert "2,048 MB" in refused(workspace, "large.csv", Sized(2048 * 1024**2 + 1))
    assert "larger than" in refused(workspace, "large.csv", endless(), limit=100_000)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_the_disk_is_never_filled(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [600 * 1024**2]

    def usage(_: object) -> Usage:
        free[0] -= 1024**2
        return Usage(10**12, 0, free[0])

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert "left free" in refused(workspace, "x.csv", Sized(100 * 1024**2))
    with pytest.raises(DiskFull, match="Delete data sets"):
        workspace.add_upload("x.csv", endless())
    assert free[0] >= 510 * 1024**2


@pytest.mark.parametrize("name", ["people.xlsx", "people", "people.csv.exe", "../../etc/passwd"])
def test_files_of_other_kinds_are_refused(workspace: Workspace, name: str) -> None:
    assert "must end in" in refused(workspace, name, [b"x"])


def test_empty_files_are_refused(workspace: Workspace) -> None:
    assert "is empty" in refused(workspace, "x.csv", [])


def test_deleting_a_dataset_removes_upload_table_and_import(workspace: Workspace) -> None:
    before = everything_in(workspace.folder)
    dataset = uploaded(workspace)
    using = workspace.submit("calibrate", [str(dataset.table)], "user")
    with pytest.raises(StillRunning, match="user"):
        workspace.delete_dataset(dataset.id)
    end(workspace, using.id)
    using.delete()
    workspace.delete_dataset(dataset.id)

    assert everything_in(workspace.folder) == before
    assert workspace.datasets() == workspace.runs() == []


def uploaded(workspace: Workspace) -> Dataset:
    dataset = workspace.add_upload("people.csv", [b"w\n1\n"])
    end(workspace, dataset.run.id)
    dataset.imported.mkdir()
    dataset.table.write_bytes(b"records")
    return dataset


def test_a_dataset_is_imported_again_in_another_encoding(workspace: Workspace) -> None:
    dataset = uploaded(workspace)
    former = dataset.run
    again = workspace.import_again(dataset.id, encoding="cp1252")

    assert again.run.id != former.id
    assert again.run.words == [*former.words, "--encoding=cp1252"]
    assert workspace.runs() == [again.run]
    assert workspace.datasets() == [again]
    with pytest.raises(StillRunning):
        workspace.import_again(dataset.id)


def test_what_was_interrupted_is_removed_on_opening_but_not_what_is_under_way(
    workspace: Workspace,
) -> None:
    kept = uploaded(workspace)
    before = everything_in(workspace.folder)
    token = "4f0e4c4e-5f2b-4a53-8a5c-0b0c9d5c3c11"
    left = [f"uploads/.{token}.csv.part", f"uploads/{token}.csv", f"runs/.{token}/targets.csv"]
    for name in left:
        path = workspace.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"records")
    deleted = workspace.folder / "datasets" / ".deleted-1"
    deleted.mkdir()
    (deleted / "data.parquet").write_bytes(b"records")

    Workspace(workspace.folder)
    assert everything_in(workspace.folder) == before | {*left, f"runs/.{token}"}
    for name in [*left, f"runs/.{token}", f"uploads/{kept.id}.csv"]:
        os.utime(workspace.folder / name, (0, 0))
    Workspace(workspace.folder)
    assert everything_in(workspace.folder) == before


def test_an_upload_whose_import_cannot_be_submitted_is_not_kept(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything_in(workspace.folder)

    def fails(*_: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(room, "launch", fails)
    with pytest.raises(UnwritableFile, match="no more processes"):
        workspace.add_upload("people.csv", [b"w\n1\n"])
    assert everything_in(workspace.folder) == before
