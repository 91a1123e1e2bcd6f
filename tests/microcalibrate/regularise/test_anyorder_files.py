"""Any-order models in files: the same seed gives the same bits, and no file runs code."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from microcalibrate.errors import ModelMismatch, UnreadableFile, UnwritableFile
from microcalibrate.regularise.generators import load_generator, make_generator

from .planted import COLUMNS, column

# --- The same seed, the same bits -----------------------------------------------------------------


RUN = """
import sys
import numpy as np, pandas as pd
from microcalibrate.regularise.generators import AnyOrder
from microcalibrate.regularise.slots import SlotColumn
def run(folder, seed):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"a": rng.integers(0, 4, 400), "b": rng.lognormal(0, 1, 400)})
    rows["b"] *= rows["a"] > 0
    columns = (SlotColumn("a", "u", 0, "a", "category", (0, 1, 2, 3)),
               SlotColumn("b", "u", 0, "b", "number"))
    model = AnyOrder(max_epochs=3).fit(rows, columns, rng.lognormal(0, 1, 400), seed=seed)
    model.save(folder)
    model.sample(200, seed=seed).to_csv(folder + ".csv")
    drawn, _ = model.sample_conditional(rows.head(50), np.array([True, False]), seed=seed, n=2)
    drawn.to_csv(folder + ".given.csv")
"""


def test_the_same_seed_gives_the_same_files_in_two_processes(tmp_path):
    """Whatever number of threads the processes were given; another seed gives another model."""
    command = [sys.executable, "-c", RUN + "run(sys.argv[1], 7)", str(tmp_path / "one")]
    threads = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    process = subprocess.Popen(command, env={**os.environ, **threads})
    here: dict[str, Any] = {}
    exec(RUN, here)
    here["run"](str(tmp_path / "two"), 7)
    here["run"](str(tmp_path / "other"), 8)
    assert process.wait(120) == 0

    for file in ("{}/model.json", "{}/arrays.safetensors", "{}.csv", "{}.given.csv"):
        one, two, other = (
            (tmp_path / file.format(name)).read_bytes() for name in ("one", "two", "other")
        )
        assert one == two
        assert one != other


def test_a_saved_model_draws_the_same_rows(planted_model, tmp_path):
    planted_model.save(tmp_path / "model")
    again = load_generator(tmp_path / "model", COLUMNS)

    pd.testing.assert_frame_equal(
        planted_model.sample(100, 1), again.sample(100, 1), check_exact=True
    )
    assert again.history.equals(planted_model.history)
    again.save(tmp_path / "again")
    for name in ("model.json", "arrays.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


# --- Files ----------------------------------------------------------------------------------------


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pickles_are_refused_and_never_run(planted_model, tmp_path):
    folder, trace = tmp_path / "model", tmp_path / "executed"
    planted_model.save(folder)
    (folder / "extra.pkl").write_bytes(pickle.dumps(Touch(trace)))
    with pytest.raises(UnreadableFile, match=r"extra\.pkl.*run code"):
        load_generator(folder)
    (folder / "extra.pkl").unlink()

    (folder / "arrays.safetensors").write_bytes(pickle.dumps(Touch(trace)))
    with pytest.raises(UnreadableFile, match="a pickle"):
        load_generator(folder)
    content = json.loads((folder / "model.json").read_text())
    data = (folder / "arrays.safetensors").read_bytes()
    content["arrays_hash"] = hashlib.sha256(data).hexdigest()
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(UnreadableFile, match="no safetensors"):
        load_generator(folder)
    assert not trace.exists()


def test_a_model_of_other_columns_is_refused(planted_model, tmp_path):
    planted_model.save(tmp_path / "model")
    other = (*COLUMNS[:-1], column("income", "number", bounds=(0, None)))
    with pytest.raises(ModelMismatch, match="1 columns differ, first 'income'"):
        load_generator(tmp_path / "model", other)
    with pytest.raises(ModelMismatch, match="order"):
        load_generator(tmp_path / "model", COLUMNS[::-1])
    with pytest.raises(ModelMismatch, match="'anyorder'"):
        make_generator("hotdeck").load(tmp_path / "model")


def test_a_model_of_other_releases_is_refused_unless_wanted(planted_model, tmp_path):
    planted_model.save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    content = json.loads(file.read_text())
    content["versions"]["torch"] = "1.0.0"
    file.write_text(json.dumps(content))
    with pytest.raises(ModelMismatch, match=r"torch 1\.0\.0"):
        load_generator(tmp_path / "model")
    load_generator(tmp_path / "model", other_versions=True)

    content["columns"][0]["levels"] = ["a"]
    file.write_text(json.dumps(content))
    with pytest.raises(UnreadableFile, match="by hand"):
        load_generator(tmp_path / "model", other_versions=True)
    content["format"] = "microcalibrate.generator/99"
    file.write_text(json.dumps(content))
    with pytest.raises(ModelMismatch, match="understood"):
        load_generator(tmp_path / "model")


def test_a_model_is_never_written_over_other_files(planted_model, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UnwritableFile):
        planted_model.save(tmp_path)
