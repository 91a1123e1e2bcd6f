"""Generators whose faults are known: the report finds each, and passes the one without."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from microcalibrate.errors import ConditionNotMet, InvalidOption, MissingExtra, UnreadableFile
from microcalibrate.regularise import SlotColumn
from microcalibrate.regularise.quality import (
    GATES,
    Gate,
    HouseholdColumns,
    QualityReport,
    QualitySettings,
    Sample,
    check_generator,
    check_quality,
)
from microcalibrate.regularise.quality.conditional import given_masks
from microcalibrate.regularise.quality.gates import Figure, judged
from microcalibrate.regularise.quality.joint import independent_rows
from microcalibrate.regularise.quality.samples import Coded

N_SLOTS, N_ROWS = 3, 700
ROLES, TENURES = ("head", "spouse", "child"), ("owned", "rented", "social")
FAST = QualitySettings(
    n_splits=10, max_rows_joint=500, max_rows_distance=400, max_rows_conditional=200, n_draws=10,
    n_replicates=60,
)  # fmt: skip
COLUMNS = (
    SlotColumn("tenure", "household", 0, "tenure", "category", TENURES),
    SlotColumn("rent", "household", 0, "rent", "number", bounds=(0, None)),
    SlotColumn("savings", "household", 0, "savings", "number"),
    *(
        column
        for slot in range(N_SLOTS)
        for column in (
            SlotColumn(
                f"person.{slot}.present", "person", slot, "present", "boolean",
                kind="present", block="structure",
            ),
            SlotColumn(
                f"person.{slot}.role", "person", slot, "role", "category", ROLES,
                presence=f"person.{slot}.present", block="structure",
            ),
            SlotColumn(
                f"person.{slot}.age", "person", slot, "age", "integer", bounds=(0, 99),
                presence=f"person.{slot}.present",
            ),
            SlotColumn(
                f"person.{slot}.wages", "person", slot, "wages", "number", bounds=(0, None),
                presence=f"person.{slot}.present",
            ),
        )
    ),
)  # fmt: skip


def planted(n_rows: int, seed: int) -> pd.DataFrame:
    """Households in which age, role, wages, tenure and rent go together."""
    rng = np.random.default_rng(seed)
    size = rng.choice([1, 2, 3], n_rows, p=[0.3, 0.3, 0.4])
    head_age = rng.integers(25, 80, n_rows)
    ability = rng.normal(0, 1, n_rows)
    tenure = np.digitize(ability + rng.normal(0, 0.4, n_rows), [-0.8, 0.3])
    rent = np.where(tenure < 2, np.round(np.exp(6 + 0.5 * ability), 1), 0.0)
    content: dict[str, object] = {
        "tenure": pd.Categorical.from_codes(2 - tenure, list(TENURES)),
        "rent": rent,
        "savings": np.exp(ability + rng.normal(0, 0.3, n_rows)),
    }
    for slot in range(N_SLOTS):
        present = size > slot
        role = np.full(n_rows, slot)
        age = head_age - (0, 3, 27)[slot] + np.round(rng.normal(0, 2, n_rows))
        works = (rng.random(n_rows) < (0.8, 0.6, 0.0)[slot]) & (age < 66)
        wages = np.where(works, np.round(np.exp(9 + ability + rng.normal(0, 0.3, n_rows))), 0.0)
        content |= {
            f"person.{slot}.present": present,
            f"person.{slot}.role": pd.Categorical.from_codes(
                np.where(present, role, -1), list(ROLES)
            ),
            f"person.{slot}.age": pd.array(np.clip(age, 0, 99).astype(int), "Int64"),
            f"person.{slot}.wages": np.where(present, wages, np.nan),
        }
        content[f"person.{slot}.age"][~present] = pd.NA  # type: ignore[index]
    return pd.DataFrame(content)


def weights_of(rows: pd.DataFrame, seed: int) -> np.ndarray:
    # Another stream than that of the rows, whose sizes would follow the weights otherwise.
    return np.random.default_rng([seed, 9]).uniform(0.5, 1.5, len(rows))


TRAIN, HOLDOUT = planted(N_ROWS, 1), planted(350, 2)
REAL = (
    Sample(TRAIN, weights_of(TRAIN, 1)),
    Sample(HOLDOUT, weights_of(HOLDOUT, 2)),
)


def as_rows(made: Coded) -> pd.DataFrame:
    """Slot rows of plain numbers."""
    content: dict[str, object] = {}
    for place, column in enumerate(COLUMNS):
        values = made.values[:, place]
        if column.type == "category":
            codes = np.nan_to_num(values, nan=-1).astype(int)
            content[column.name] = pd.Categorical.from_codes(codes, list(column.levels or ()))
        elif column.type == "boolean":
            content[column.name] = values == 1
        else:
            content[column.name] = values
    return pd.DataFrame(content)


def check(rows: pd.DataFrame, **options: object) -> QualityReport:
    return check_quality(*REAL, Sample(rows), COLUMNS, settings=FAST, **options)  # type: ignore[arg-type]


def failed(report: QualityReport) -> set[str]:
    return set(report.gates.family[~report.gates.passed.fillna(True)])


@pytest.fixture(scope="module")
def perfect() -> QualityReport:
    return check(planted(N_ROWS, 3))


@pytest.fixture(scope="module")
def copier() -> QualityReport:
    return check(
        TRAIN.sample(N_ROWS, replace=True, random_state=0, weights=REAL[0].weights).reset_index(
            drop=True
        )
    )


def test_fresh_rows_of_the_same_distribution_pass_every_gate(perfect):
    assert perfect.failures == ()
    assert perfect.passed
    assert perfect.summary().startswith("Passed")
    assert perfect.unmeasured == {"Conditional": "no generator was given"}
    assert perfect.gates.baseline.notna().sum() > 15


def test_independent_columns_fail_what_joins_them():
    rng = np.random.default_rng(0)
    made = independent_rows(Coded.of(REAL[0], COLUMNS), N_ROWS, rng)
    report = check(as_rows(made))

    assert {"Pairs", "Joint", "Structure"} <= failed(report)
    assert "Marginal" not in failed(report)
    assert not report.passed
    assert report.summary().startswith("Failed")


def test_a_copier_fails_privacy_and_nothing_else(copier):
    assert failed(copier) == {"Privacy"}
    gates = copier.gates.set_index("metric")
    assert gates.value["copy_share"] == 1
    assert gates.value["dcr_ratio"] == 0
    assert any("exact copies" in sentence for sentence in copier.failures)


def test_the_hot_deck_is_told_that_it_copies_by_design():
    gate = Gate("Privacy", "copy_share", "copies", 0.0)
    figures = {("Privacy", "copy_share"): Figure(1.0)}
    known = judged(figures, [gate], {"copy_share": "a hot deck copies real records by design"})

    assert not known.passed.iloc[0]
    assert "by design" in known.note.iloc[0]


def test_income_moved_to_the_head_fails_the_structure():
    rows = planted(N_ROWS, 3)
    wages = [f"person.{slot}.wages" for slot in range(N_SLOTS)]
    total = rows[wages].sum(axis=1)
    for name in wages[1:]:
        rows[name] = rows[name].where(rows[name].isna(), 0.0)
    rows[wages[0]] = total
    report = check(rows)

    assert "Structure" in failed(report)
    gates = report.gates.set_index("metric")
    assert not gates.passed["head_share_ks"]
    assert not gates.passed["earners_tv"]
    assert gates.passed["composition_srmse"]


def test_undeclared_values_fail_zeros():
    rows = planted(N_ROWS, 3)
    rows.loc[4, "rent"] = -1.0
    rows.loc[5, "person.0.age"] = 300
    report = check(rows)

    assert "Zeros" in failed(report)
    value = report.gates.set_index("metric").value["impossible_share"]
    np.testing.assert_allclose(value, 2 / N_ROWS)


class Planted:
    """A generator that is the distribution itself, or one that ignores what it is given."""

    name = "planted"

    def __init__(self, listens: bool) -> None:
        self.listens = listens

    def sample(self, n: int, seed: int) -> pd.DataFrame:
        return planted(n, seed % 2**31)

    def sample_conditional(self, given, free_mask, seed, n=1):
        pool = planted(4_000, seed + 5)
        coded, wanted = (Coded.of(Sample(rows), COLUMNS).values for rows in (pool, given))
        scale = np.maximum(np.nanstd(coded, axis=0), 1e-9)
        rng = np.random.default_rng(seed)
        picked = []
        for row, free in zip(wanted, free_mask, strict=True):
            if self.listens:
                gap = np.abs((coded - row) / scale)
                gap = np.where(np.isnan(coded) == np.isnan(row), np.nan_to_num(gap), 3.0)
                near = np.argsort((gap[:, ~free] ** 2).sum(1))[:n]
            else:
                near = rng.choice(len(pool), n)
            picked += list(near)
        rows = pool.iloc[picked]
        rows.index = given.index.repeat(n)
        return rows, np.zeros((len(rows), len(COLUMNS)), dtype=bool)


def test_a_generator_that_listens_beats_the_marginals_and_a_deaf_one_does_not():
    options = {"settings": FAST, "n": N_ROWS}
    listening, deaf = (
        check_generator(Planted(listens), *REAL, COLUMNS, **options)  # type: ignore[arg-type]
        for listens in (True, False)
    )

    gates = [report.gates.set_index("metric") for report in (listening, deaf)]
    assert gates[0].value["better_share_0.8"] >= gates[1].value["better_share_0.8"] + 0.3
    assert gates[1].value["better_share"] < 0.5
    assert "Conditional" in failed(deaf)
    assert set(listening.conditional.fraction) == {0.2, 0.4, 0.6, 0.8}


class Refusing(Planted):
    """A generator that serves no conditions."""

    def sample_conditional(self, given, free_mask, seed, n=1):  # noqa: ARG002 -- a stand-in
        raise ConditionNotMet("too many conditions.", requested=len(given) * n, obtained=0)


def test_a_generator_that_refuses_conditions_fails_with_its_words():
    report = check_generator(Refusing(False), *REAL, COLUMNS, settings=FAST)  # type: ignore[arg-type]

    assert "Conditional" in failed(report)
    assert any("too many conditions" in sentence for sentence in report.failures)


@pytest.mark.parametrize("fraction", [0.2, 0.4, 0.5, 0.8])
def test_masks_hold_exactly_the_fraction_in_every_row(fraction):
    masks = given_masks(50, 30, fraction, np.random.default_rng(0))

    assert (masks.sum(1) == round(30 * fraction)).all()
    assert len(np.unique(masks, axis=0)) > 40


def test_a_report_is_the_same_for_the_same_seed_and_after_a_file(perfect, tmp_path):
    again = check(planted(N_ROWS, 3))
    perfect.save(tmp_path / "quality")
    loaded = QualityReport.load(tmp_path / "quality")
    for other in (again, loaded):
        for name in ("gates", "marginals", "pairs", "statistics", "shapes"):
            pd.testing.assert_frame_equal(getattr(perfect, name), getattr(other, name))
        assert other.summary() == perfect.summary()
        assert other.settings == perfect.settings
    assert loaded.passed

    file = tmp_path / "quality" / "quality.json"
    file.write_text(file.read_text().replace("quality/1", "quality/9"))
    with pytest.raises(UnreadableFile, match="quality/9"):
        QualityReport.load(tmp_path / "quality")


def test_gates_are_values_that_a_caller_may_set():
    strict = [Gate("Marginal", "ks_median", "median distance", 1e-9)]
    report = check(planted(N_ROWS, 3), gates=strict)

    assert list(report.gates.metric) == ["ks_median"]
    assert not report.passed
    assert len({(gate.family, gate.metric) for gate in GATES}) == len(GATES)


def test_limits_widen_to_what_real_samples_show_and_never_narrow():
    gate = Gate("Marginal", "ks_max", "distance", 0.15, times_baseline=1.5)
    low = Gate("Privacy", "dcr_ratio", "ratio", 0.9, "at least", times_baseline=1.0)

    assert [gate.limit_given(edge) for edge in (None, 0.05, 0.2)] == [
        0.15,
        0.15,
        pytest.approx(0.3),
    ]
    assert [low.limit_given(edge) for edge in (None, 0.95, 0.8)] == [0.9, 0.9, 0.8]
    assert Gate("Zeros", "x", "x").limit_given(0.4) is None


def test_names_tell_who_lives_together():
    guess = HouseholdColumns.guess(COLUMNS)

    assert guess == HouseholdColumns(
        entity="person", age="age", role="role", head=("head",), partner=("spouse",),
        child=("child",), earnings=("wages",), category="tenure",
    )  # fmt: skip
    assert HouseholdColumns.guess(COLUMNS[:3]) is None


def test_figures_draw_the_tables(perfect, copier):
    assert perfect.plot_gates().data[0].cells["values"][5][0] == "✓ passed"
    assert "✗ failed" in copier.plot_gates().data[0].cells["values"][5]
    figure = perfect.plot_marginals(3)
    assert [trace.name for trace in figure.data] == ["real", "generated"]
    assert len(figure.data[0].x) == len(figure.data[1].x) > 3
    with pytest.raises(InvalidOption):
        perfect.plot_marginals(0)


def test_without_scikit_learn_the_command_is_said_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"microcalibrate\[synthetic\]"):
        check(planted(N_ROWS, 3))


@pytest.mark.parametrize("options", [{"n_splits": 1}, {"fractions": (0.0,)}, {"fractions": ()}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(InvalidOption):
        QualitySettings(**options)


def test_too_few_rows_are_refused():
    with pytest.raises(InvalidOption, match="synthetic has 5 rows"):
        check(planted(5, 0))
