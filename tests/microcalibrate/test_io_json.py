"""JSON in files: numbers of NumPy are written, and what JSON has no word for is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microcalibrate.errors import UnreadableFile, UnwritableFile
from microcalibrate.io import read_json, write_json

from .files import content


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
