"""A diagnosis on disk and in pictures: what was found, whole, and nobody's tags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from numpy.testing import assert_allclose

from microcalibrate.diagnostics import Diagnosis, RandomScheduleReforms, Surface, diagnose
from microcalibrate.diagnostics.diagnosis import CSV_FILES, TABLES
from microcalibrate.errors import InvalidOption, UnreadableFile

HOSTILE = "=<img src=x onerror=alert(1)>/%{x}<b>"
LONG = "income of the household after housing costs and before council tax in the last year"
DRAWINGS = ["plot_weights", "plot_kish", "plot_flagged", "plot_heat_map", "plot_influence"]


def diagnosed(offender: float = 4000.0) -> Diagnosis:
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {
            "id": [f"home {number}" for number in range(600)],
            LONG: rng.gamma(2.0, 100, 600),
            "region": rng.choice(["north", HOSTILE], 600),
            "weight": rng.lognormal(3, 0.5, 600),
        }
    )
    data.loc[:3, "region"] = "tiny island"
    data.loc[17, "id"] = HOSTILE
    data.loc[17, "weight"] = offender
    surface = Surface.from_mapping({"metrics": [LONG], "slices": ["region"]})
    space = RandomScheduleReforms(f"`{LONG}`", low=50, high=500)
    return diagnose(data, "weight", surface=surface, reforms=space, n_reforms=3, id_column="id")


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    return diagnosed()


def written(figure: go.Figure) -> list[str]:
    """Every text in a figure that is shown; `customdata` holds identifiers as they are."""

    def texts(value: Any) -> list[str]:
        if isinstance(value, str):
            return [value]
        if isinstance(value, dict):
            return texts([item for key, item in value.items() if key != "customdata"])
        return [text for item in value for text in texts(item)] if isinstance(value, list) else []

    return texts(json.loads(figure.to_json()))


def test_what_is_loaded_is_what_was_saved(found: Diagnosis, tmp_path: Path) -> None:
    folder = found.save(tmp_path / "run")
    loaded = Diagnosis.load(folder)

    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(found, name), getattr(loaded, name))
    assert loaded.summary() == found.summary()
    assert loaded.versions == found.versions
    for drawing in DRAWINGS:
        assert getattr(loaded, drawing)().to_json() == getattr(found, drawing)().to_json()
    # A former run is replaced as a whole.
    found.save(folder)
    expected = {f"{name}.parquet" for name in TABLES} | set(CSV_FILES.values())
    assert {file.name for file in folder.glob("[!.]*")} == expected | {"summary.json"}
    assert {"flagged.parquet", "influence.parquet", "ess.csv", "reforms.csv"} <= expected
    assert "'=<img" in (folder / "ess.csv").read_text()


def test_damaged_folder_is_an_error_that_says_so(found: Diagnosis, tmp_path: Path) -> None:
    folder = found.save(tmp_path / "run")
    values = json.loads((folder / "summary.json").read_text())
    (folder / "influence.parquet").unlink()
    with pytest.raises(UnreadableFile, match=r"influence\.parquet"):
        Diagnosis.load(folder)
    (folder / "summary.json").write_text(json.dumps(values | {"format": "other/9"}))
    with pytest.raises(UnreadableFile, match="other/9"):
        Diagnosis.load(folder)


def test_same_diagnosis_twice_is_identical_files(found: Diagnosis, tmp_path: Path) -> None:
    one, two = found.save(tmp_path / "one"), diagnosed().save(tmp_path / "two")

    for file in one.glob("[!.]*"):
        assert file.read_bytes() == (two / file.name).read_bytes()


def test_summary_says_who_and_how_much(found: Diagnosis) -> None:
    text = found.summary()

    row = found.flagged.iloc[0]
    assert row.id == HOSTILE
    assert f"{found.summary_figures['n_flagged']:,} of 600" in text
    assert HOSTILE in text
    assert f"{max(row.share, row.reform_max_share):.1%}" in text
    assert "by origin" in text


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_figures_have_whole_names_no_tags_and_no_web_gl(found: Diagnosis, drawing: str) -> None:
    figure = getattr(found, drawing)()
    texts = written(figure)

    for text in texts:
        plain = text
        for ours in ("<br>", "<b>", "</b>", "<extra></extra>"):
            plain = plain.replace(ours, "")
        assert "<" not in plain
    assert not any("alert" in (getattr(t, "hovertemplate", "") or "") for t in figure.data)
    assert not any(trace.type.endswith("gl") for trace in figure.data)
    if drawing in ("plot_flagged", "plot_heat_map"):
        joined = " ".join(texts).replace("<br>", " ")
        assert LONG in joined
        assert "onerror=alert(1)&gt;" in joined


def test_heat_map_has_the_shares_and_marks_thin_cells(found: Diagnosis) -> None:
    figure = found.plot_heat_map()

    heat, thin = figure.data
    rows = [text.replace("<br>", " ") for text in figure.layout.yaxis.ticktext]
    values = np.array(heat.z, dtype=float)
    table = found.influence.astype({"statistic": "str", "reform": "str"})
    whole = table[(table.statistic == f"{LONG}, all") & (table.id == HOSTILE)]
    columns = [text.replace("<br>", " ") for text in figure.layout.xaxis.ticktext]
    place = next(i for i, text in enumerate(columns) if "onerror" in text)
    assert_allclose(10 ** values[rows.index(f"{LONG}, all"), place], whole.share, rtol=1e-9)
    shown = table[(table.reform == "baseline") & table.id.isin(found.flagged.id)]
    assert len(thin.x) == shown.is_thin.sum()
    assert np.isfinite(values).sum() == len(shown)


def test_influence_shows_every_record_once_and_arrows_from_before(found: Diagnosis) -> None:
    calm = diagnosed(offender=20.0)

    figure = calm.plot_influence(before=found)

    density, flagged = figure.data
    n_dense = np.nansum(np.array(density.customdata, dtype=float))
    assert n_dense + len(flagged.x) == 600
    arrows = [note for note in figure.layout.annotations if note.showarrow]
    assert len(arrows) == len(found.flagged)
    offender = found.flagged.iloc[0]
    assert_allclose(
        sorted((a.ax, a.ay) for a in arrows)[-1],
        (np.log10(offender.weight), np.log10(offender.share)),
    )


def test_kish_bars_are_the_table_with_bands_in_words(found: Diagnosis) -> None:
    figure = found.plot_kish("region")

    shown = found.kish
    for trace, column in zip(figure.data, ("n", "n_eff", "lineage_n_eff"), strict=True):
        assert_allclose(trace.x, np.maximum(shown[column], 1))
    labels = [text.replace("<br>", " ") for text in figure.layout.yaxis.ticktext]
    assert labels[-1] == "region = tiny island  ■ under 100"
    with pytest.raises(InvalidOption, match="Did you mean 'region'"):
        found.plot_kish("regin")


def test_weights_are_counted_whole_and_caps_are_marked(found: Diagnosis) -> None:
    figure = found.plot_weights(before=diagnosed(20.0), caps=[250.0])

    outlines = [t for t in figure.data if t.name == "after" and len(t.x) == 122]
    for outline in outlines:
        assert sum(np.array(outline.y)[1:-1:2]) == 600
    assert len(outlines) == 2
    assert any(text == " cap 250" for text in written(figure))
    with pytest.raises(InvalidOption, match="caps"):
        found.plot_weights(caps=[0.0])


def test_nothing_flagged_is_drawn_and_said() -> None:
    data = pd.DataFrame({"weight": np.ones(200)})
    calm = diagnose(data, "weight", surface={"metrics": [{"name": "n", "value": "1"}]})

    assert calm.flagged.empty
    assert "0 of 200" in calm.summary()
    for drawing in DRAWINGS:
        assert getattr(calm, drawing)().layout.title.text
