"""Stored matrices and problems: read without running code, and refused where damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from microcalibrate.errors import UnreadableFile
from microcalibrate.io import read_matrix, read_problem

# --- Matrices -------------------------------------------------------------------------------------


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


# --- Problems -------------------------------------------------------------------------------------


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
