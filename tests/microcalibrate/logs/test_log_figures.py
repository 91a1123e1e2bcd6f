"""Figures of logs: the values that were read, every name in full, few marks, nothing executed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate.errors import InvalidOption
from microcalibrate.figures import log_comparison, log_course, log_errors
from microcalibrate.figures.target_tree import target_tree
from microcalibrate.figures.weight_density import before_and_after
from microcalibrate.logs import CalibrationLog, compare_logs, read_log, write_log
from microcalibrate.logs.quality import error_histogram, ranked

HOSTILE = "a/<img src=x onerror=alert(1)>/b"
LONG = "national/" + "a very long name of a target, " * 8 + "end"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 targets, the first of 0, the second negative, over two phases of a run."""
    rng = np.random.default_rng(0)
    targets = rng.lognormal(10, 3, 40)
    targets[:2] = 0.0, -50.0
    steps = np.linspace(1, 0.01, 12)[:, None]
    estimates = targets * (1 + steps * rng.normal(0, 0.5, 40))
    estimates[:, 0] = steps[:, 0] * 7
    names = [f"us/{j % 3}/target {j}" for j in range(38)] + [HOSTILE, LONG]
    return write_log(
        tmp_path_factory.mktemp("logs") / "log.csv",
        epochs=np.arange(12),
        losses=np.geomspace(1, 1e-6, 12),
        target_names=names,
        targets=targets,
        estimates=estimates,
        facts={
            "phases": [
                {"phase": "dense", "first_epoch": 0, "last_epoch": 7},
                {"phase": "refit", "first_epoch": 8, "last_epoch": 11},
            ]
        },
    )


@pytest.fixture(scope="module")
def log(path: Path) -> CalibrationLog:
    return read_log(path)


FIGURES: dict[str, Callable[[CalibrationLog], Any]] = {
    "histogram": lambda log: log_errors.error_histogram(error_histogram(log.final), "epoch 11"),
    "bars": lambda log: log_errors.estimate_bars(log.final, 2),
    "course": lambda log: log_course.loss_and_error(log.curve, log.loss_kind),
    "values": lambda log: log_course.target_values(log, log.target_names[:8]),
    "value": lambda log: log_course.target_values(log, [HOSTILE]),
    "errors": lambda log: log_course.target_errors(log, [HOSTILE, LONG]),
    "tree": lambda log: target_tree(log.final, "error"),
    "curves": lambda log: log_comparison.curves(compare_logs(log, log)),
    "scatter": lambda log: log_comparison.errors(compare_logs(log, log)),
    "target": lambda log: log_comparison.target_course(compare_logs(log, log), HOSTILE),
    "weights": lambda _: before_and_after(np.arange(1.0, 1e5), np.arange(1e5, 1.0, -1)),
}


def said(figure: Any) -> str:
    """The subtitle in one line."""
    return str(figure.layout.title.subtitle.text).replace("<br>", " ")


def n_marks(figure: Any) -> int:
    sizes = []
    for trace in figure.data:
        shapes = [np.size(getattr(trace, name)) for name in ("x", "y", "z", "values")
                  if name in trace and getattr(trace, name) is not None]  # fmt: skip
        sizes.append(max(shapes))
    return sum(sizes)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_with_few_marks_and_nothing_is_read_as_a_tag(
    log: CalibrationLog, name: str
) -> None:
    figure = FIGURES[name](log)

    assert n_marks(figure) <= 5_000
    assert not any("gl" in trace.type for trace in figure.data)
    assert "<img" not in figure.to_json()
    axes = [axis for axis in (*figure.select_xaxes(), *figure.select_yaxes())]
    if name != "tree":
        assert sum(axis.title.text is not None for axis in axes) >= 2 - (name == "bars")


def test_the_bars_of_the_histogram_are_its_counts(log: CalibrationLog) -> None:
    figure = FIGURES["histogram"](log)

    error = log.final.rel_abs_error.dropna()
    edges = [0, 0.05, 0.1, 0.2, 0.3, 0.5, 1, np.inf]
    assert_array_equal(figure.data[0].y, [*np.histogram(error, edges)[0], 1])
    assert figure.data[0].x[-1] == "n/a (target 0)"
    without = log_errors.error_histogram(error_histogram(log.final.iloc[1:]))
    assert len(without.data[0].x) == 7


def test_bars_are_shares_of_their_targets_fifteen_a_page(log: CalibrationLog) -> None:
    shares = [log_errors.estimate_bars(log.final, page).data[0].x for page in range(3)]

    assert [len(share) for share in shares] == [15, 15, 10]
    final = log.final.iloc[1:]
    assert np.isnan(shares[0][0])
    assert_allclose(np.concatenate(shares)[1:], final.estimate / final.target)
    texts = log_errors.estimate_bars(log.final, 0).data[2].text
    assert texts[0] == "0.07 of 0 (n/a (target 0))"
    for page in (-1, 3, 0.5):
        with pytest.raises(InvalidOption, match="from 0 to 2"):
            log_errors.estimate_bars(log.final, page)  # type: ignore[arg-type]


def test_names_of_many_lines_have_room(log: CalibrationLog) -> None:
    state = log.final.iloc[[2, 39, 3]]

    figure = log_errors.estimate_bars(state)

    heights = np.asarray(figure.data[0].y, dtype=float)
    lines = [label.count("<br>") + 1 for label in figure.layout.yaxis.ticktext]
    assert lines[1] > 3
    # Half of each of two neighbours lies between them.
    assert_allclose(-np.diff(heights), 16 + 17 * np.convolve(lines, [0.5, 0.5], "valid"))
    assert figure.layout.height - 170 == figure.layout.yaxis.range[1]


def test_bars_beyond_the_edge_are_cut_and_said(log: CalibrationLog) -> None:
    state = log.final.iloc[1:3].assign(estimate=[50.0, 1e12])

    figure = log_errors.estimate_bars(state)

    assert figure.data[0].x.tolist() == [-1.0, 3.0]
    assert "1 bars go on beyond the edge" in said(figure)


def test_the_course_is_the_curve_and_the_phase_has_a_line(log: CalibrationLog) -> None:
    figure = FIGURES["course"](log)

    loss, mean, median = figure.data
    assert_array_equal(loss.y, log.curve.loss)
    assert_allclose(mean.y, log.curve.mean_error)
    assert_allclose(median.y, log.curve.median_error)
    assert [shape.x0 for shape in figure.layout.shapes] == [7.5, 7.5]
    assert len(log_course.loss_and_error(log.curve, "none").data) == 2


def test_long_courses_keep_their_ends() -> None:
    for n_epochs in (1, 2, 1_000, 1_001, 54_321):
        shown = log_course.epochs_shown(n_epochs)
        assert len(shown) == min(n_epochs, 1_000)
        assert (shown[0], shown[-1]) == (0, n_epochs - 1)


def test_lines_of_targets_are_their_rows_in_the_order_asked_for(log: CalibrationLog) -> None:
    names = [log.target_names[1], LONG]

    values, errors = log_course.target_values(log, names), log_course.target_errors(log, names)

    estimate, target = log.matrix("estimate"), log.matrix("target")
    for line, miss, place in zip(values.data, errors.data, (1, 39), strict=True):
        assert_allclose(line.y, estimate[:, place] / target[:, place])
        assert_allclose(miss.y, np.abs(estimate[:, place] / target[:, place] - 1), rtol=1e-9)
    assert values.data[1].name.replace("<br>", " ").replace(" ", "") == LONG.replace(" ", "")
    alone = log_course.target_values(log, names[:1])
    assert_array_equal(alone.data[0].y, estimate[:, 1])
    assert_array_equal(alone.data[1].y, target[:, 1])


def test_targets_of_zero_are_said_and_not_drawn_as_met(log: CalibrationLog) -> None:
    names = list(log.target_names[:2])

    for draw in (log_course.target_values, log_course.target_errors):
        figure = draw(log, names)
        assert np.isnan(figure.data[0].y.astype(float)).all()
        assert "Not drawn, with a target of 0: 1." in said(figure)
        assert "n/a (target 0)" in figure.data[0].text[0]
    with pytest.raises(InvalidOption, match="from 1 to 8"):
        log_course.target_errors(log, log.target_names[:9])


def test_the_tree_adds_up(log: CalibrationLog) -> None:
    capped = log.final.rel_abs_error.fillna(0).clip(upper=1)
    for size, expected in (("count", 40), ("error", capped.sum()), ("loss", (capped**2).sum())):
        tree = target_tree(log.final, size).data[0]

        assert_allclose(sum(tree.values), expected)
        assert set(tree.parents) - {""} <= set(tree.ids)
        assert len(set(tree.ids)) == len(tree.ids)
        group = list(tree.ids).index("/us/1")
        assert tree.text[group].startswith("13 targets, mean error")
    zero = list(tree.ids).index("/us/0/target 0")
    assert tree.text[zero] == "n/a (target 0)"
    assert tree.marker.cmax == 0.2
    assert target_tree(log.final.assign(rel_abs_error=0.11)).data[0].marker.cmax == 1.0
    with pytest.raises(InvalidOption, match="count"):
        target_tree(log.final, "weight")


def test_a_large_tree_is_summed_up_not_cut(log: CalibrationLog) -> None:
    n = 12_000
    state = log.final.iloc[[1] * n].assign(
        name=[f"g{j % 50}/s{j % 1000}/t{j}" for j in range(n)], rel_abs_error=0.25
    )

    figure = target_tree(state)

    tree = figure.data[0]
    assert len(tree.ids) == 1 + 50 + 1000
    assert sum(tree.values) == n
    assert "Shows 2 of 3 levels" in said(figure)
    flat = target_tree(state.assign(name=[f"t{j}" for j in range(n)]))
    assert len(flat.data[0].ids) == 5_000
    assert "Not drawn: 7,001 more" in said(flat)


def test_names_that_are_both_a_target_and_a_group_keep_their_own_area(log: CalibrationLog) -> None:
    state = log.final.iloc[:4].assign(name=["us", "us/ca", "/us//ca/", "us/ca/la"])

    tree = target_tree(state).data[0]

    assert dict(zip(tree.ids, tree.values, strict=True)) == {
        "/": 0, "/us": 1, "/us/ca": 2, "/us/ca/la": 1,
    }  # fmt: skip


def test_the_density_counts_every_record_that_can_be_drawn() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.lognormal(3, 1, 50_000), rng.lognormal(3, 1, 50_000)
    after[:100], before[100:130], after[130:140] = 0.0, 0.0, -1.0

    figure = before_and_after(before, after)

    assert np.nansum(np.asarray(figure.data[0].customdata, dtype=float)) == 50_000 - 140
    words = said(figure)
    assert "100 records that were dropped and 30 records without a design weight" in words
    assert "and 10 records with a negative weight" in words
    assert len(before_and_after([1.0], [0.0]).data) == 0


def test_two_logs_overlaid_are_their_curves(tmp_path: Path, path: Path) -> None:
    final = read_log(path).final
    table = final.rename(columns={"name": "target_name"})[["target_name", "target", "estimate"]]
    table.assign(epoch=3, loss=np.arange(40.0)).to_csv(tmp_path / "other.csv", index=False)
    alike = compare_logs(path, path)
    mixed = compare_logs(path, tmp_path / "other.csv")

    lines = log_comparison.curves(alike).data
    assert_array_equal(lines[0].y, alike.first.curve.loss)
    assert_allclose(lines[3].y, alike.second.curve.mean_error)
    # A loss of a run and losses of targets have no common unit.
    figure = log_comparison.curves(mixed)
    assert [line.x.tolist() for line in figure.data] == [list(range(12)), [3]]
    assert "losses are not of one kind" in said(figure)


def test_the_scatter_has_the_targets_with_errors_in_both(log: CalibrationLog) -> None:
    found = compare_logs(log, log)

    figure = log_comparison.errors(found)

    points = [trace for trace in figure.data if trace.mode == "markers"]
    assert sum(len(trace.x) for trace in points) == 39
    assert "correlation 1.00, slope 1.00" in said(figure)
    assert "1 targets without a relative error" in said(figure)


def test_a_target_in_one_log_alone_is_drawn_all_the_same(
    log: CalibrationLog, tmp_path: Path
) -> None:
    other = write_log(
        tmp_path / "other.csv",
        epochs=[0],
        losses=[1.0],
        target_names=["mine"],
        targets=np.array([2.0]),
        estimates=np.array([[3.0]]),
    )
    found = compare_logs(log, other)

    assert log_comparison.target_course(found, "mine").data[0].y.tolist() == [3.0]
    assert len(log_comparison.target_course(found, LONG).data) == 1
    with pytest.raises(InvalidOption, match="neither log has"):
        log_comparison.target_course(found, "nobody's")


def test_figures_of_ranked_targets_take_any_order(log: CalibrationLog) -> None:
    state = ranked(log.final)

    figure = log_errors.estimate_bars(state, 2)

    assert figure.data[2].text[-1].endswith("(n/a (target 0))")
