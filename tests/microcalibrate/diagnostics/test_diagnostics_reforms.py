"""Reforms: what they change is looked at, and none is lost without a word."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from microcalibrate.diagnostics import Frame, Metric, RandomScheduleReforms, Surface, diagnose
from microcalibrate.diagnostics.reforms import ReformSpace, named_reforms
from microcalibrate.errors import InvalidOption, InvalidSurface, ReformFailed

TAX = Surface((Metric("tax", "0.2 * income"), Metric("income", "income")))


def homes(n: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "income": rng.gamma(2.0, 20_000, n),
            "region": rng.choice(["north", "south"], n),
            "weight": rng.lognormal(3, 0.5, n),
        }
    )


def higher(tables: dict[str, Any]) -> dict[str, Any]:
    return {"tax": 0.3 * tables["record"]["income"]}


def unchanged(tables: dict[str, Any]) -> dict[str, Any]:
    return {"tax": 0.2 * tables["record"]["income"]}


def misspelt(tables: dict[str, Any]) -> dict[str, Any]:
    return {"taxx": tables["record"]["income"]}


def broken(_tables: dict[str, Any]) -> dict[str, Any]:
    raise KeyError("no such parameter")


def test_only_the_change_counts() -> None:
    """A flat rise of a proportional tax has the shares of the tax; one for the rich has theirs."""
    data = homes()

    def for_the_rich(tables: dict[str, Any]) -> dict[str, Any]:
        income = tables["record"]["income"]
        return {"tax": 0.2 * income + 0.1 * np.maximum(income - 100_000, 0)}

    found = diagnose(
        data,
        "weight",
        surface=TAX,
        reforms={"flat": higher, "rich": for_the_rich},
        threshold=1e-6,
    )

    table = found.influence.astype({"statistic": "str"})
    flat = table[table.statistic == "flat: change in tax, all"].set_index("id")
    base = table[table.statistic == "tax, all"].set_index("id")
    assert_allclose(flat.share, base.share.loc[flat.index], rtol=1e-9)
    rich = table[table.statistic == "rich: change in tax, all"].set_index("id")
    assert set(rich.index) == set(data.index[data.income > 100_000])
    excess = data.weight * np.maximum(data.income - 100_000, 0)
    assert_allclose(rich.share, (excess / excess.sum()).loc[rich.index], rtol=1e-9)
    assert found.reforms.metrics.tolist() == ["tax", "tax"]
    assert_allclose(found.reforms.gross_change.iloc[1], 0.1 * excess.sum(), rtol=1e-9)


def test_inert_and_failing_reforms_are_listed_and_left_out() -> None:
    listed = {"up": higher, "same": unchanged, "typo": misspelt, "broken": broken}

    found = diagnose(homes(), "weight", surface=TAX, reforms=listed, on_error="record")
    alone = diagnose(homes(), "weight", surface=TAX, reforms={"up": higher})

    assert found.reforms.status.tolist() == ["ok", "inert", "failed", "failed"]
    messages = found.reforms.message.tolist()
    assert messages[:2] == ["", ""]
    assert "Did you mean 'tax'?" in messages[2]
    assert "KeyError" in messages[3]
    assert "no such parameter" in messages[3]
    assert "1 looked at, 1 inert (they change nothing and are left out), 2 failed" in (
        found.summary()
    )
    pd.testing.assert_frame_equal(found.records, alone.records)


@pytest.mark.parametrize(
    ("reform", "message"),
    [
        (misspelt, "Did you mean 'tax'?"),
        (broken, "KeyError"),
        (lambda _: {}, "without entries"),
        (lambda _: [1], "list"),
        (lambda _: {"tax": [1.0, 2.0]}, "one value per row"),
        (lambda _: {"tax": np.full(400, np.nan)}, "missing or infinite in 400"),
    ],
)
def test_reform_that_fails_is_an_error(reform: Any, message: str) -> None:
    with pytest.raises(ReformFailed, match="reform 1") as caught:
        diagnose(homes(), "weight", surface=TAX, reforms=[reform])

    assert message in str(caught.value)


def test_reform_cannot_write_into_the_tables() -> None:
    data = homes()
    before = data.copy()

    def careless(tables: dict[str, Any]) -> dict[str, Any]:
        tables["record"]["income"] = 0.0
        tables["record"].loc[0, "weight"] = 1e9
        return {"tax": tables["record"]["income"]}

    found = diagnose(data, "weight", surface=TAX, reforms=[careless, higher])

    pd.testing.assert_frame_equal(data, before)
    assert_allclose(
        found.reforms.gross_change.iloc[1], 0.1 * (data.income * data.weight).sum(), rtol=1e-9
    )


def test_unit_flagged_in_a_fifth_of_the_reforms_is_flagged() -> None:
    data = homes()
    calls = iter(range(10))

    def one_home(tables: dict[str, Any]) -> dict[str, Any]:
        """The first two charge record 5 alone beside a little for all; others only the little."""
        extra = 0.001 * tables["record"]["income"]
        if next(calls) < 2:
            extra = extra + np.where(np.arange(400) == 5, extra.sum() / 10, 0.0)
        return {"tax": 0.2 * tables["record"]["income"] + extra}

    reforms = {f"{number}": one_home for number in range(10)}
    found = diagnose(data.assign(weight=1.0), "weight", surface=TAX, reforms=reforms)

    assert found.flagged.id.tolist() == [5]
    five = found.flagged.iloc[0]
    assert (five.is_reform_robust, five.is_influential, five.n_reforms_above) == (True, False, 2)
    assert 0.08 < five.reform_max_share < 0.1
    assert_allclose(
        five.reform_mean_share, (2 * five.reform_max_share + 8 * five.share) / 10, rtol=1e-3
    )
    assert str(five.reform_worst_statistic) == "0: change in tax, all"


def test_reforms_do_not_depend_on_how_many_are_drawn_or_on_workers() -> None:
    data = homes()
    space = RandomScheduleReforms("income", low=5_000, high=200_000, group="region")
    assert isinstance(space, ReformSpace)

    few = diagnose(data, "weight", surface=TAX, reforms=space, n_reforms=3, seed=4)
    many = diagnose(data, "weight", surface=TAX, reforms=space, n_reforms=7, seed=4, n_workers=3)
    other = diagnose(data, "weight", surface=TAX, reforms=space, n_reforms=3, seed=5)

    pd.testing.assert_frame_equal(few.reforms, many.reforms.head(3))
    assert few.reforms.gross_change.tolist() != other.reforms.gross_change.tolist()
    same = diagnose(data, "weight", surface=TAX, reforms=space, n_reforms=7, seed=4)
    pd.testing.assert_frame_equal(same.records, many.records)
    pd.testing.assert_frame_equal(same.influence, many.influence)


def test_random_schedule_is_the_tax_of_its_brackets_and_lump_sums() -> None:
    space = RandomScheduleReforms("income", low=5_000, high=200_000, group="region")
    reform = space.draw(np.random.default_rng(3))
    data = homes(50)

    gains = reform({"record": data})["gain"]

    expected = np.zeros(50)
    ends = [*reform.thresholds[1:], np.inf]
    for record, income in enumerate(data.income):
        for low, high, rate in zip(reform.thresholds, ends, reform.rates, strict=True):
            expected[record] -= rate * max(min(income, high) - low, 0)
        expected[record] += reform.lump_sums[["north", "south"].index(data.region[record])]
    assert_allclose(gains, expected, rtol=1e-12)


def test_reforms_of_persons_are_added_up_to_households() -> None:
    households = pd.DataFrame({"id": [1, 2], "weight": [1.0, 3.0]})
    persons = pd.DataFrame({"home": [1, 1, 2], "wages": [10.0, 30.0, 20.0]})
    frame = Frame(
        {"household": households, "person": persons},
        "household",
        {"household": "id"},
        {"person": {"household": "home"}},
    )
    surface = Surface((Metric("wages", "wages", "person"),))

    def double(tables: dict[str, Any]) -> dict[str, Any]:
        return {"wages": 2 * tables["person"]["wages"]}

    found = diagnose(frame, "weight", surface=surface, reforms=[double])

    assert_array_equal(found.records.reform_max_share, [0.0, 0.0])  # thin: two households
    table = found.influence[found.influence.reform.astype(str) == "reform 1"].set_index("id")
    assert table.amount.to_dict() == {1: 40.0, 2: 60.0}


def test_options_that_cannot_be_honoured_are_errors() -> None:
    space = RandomScheduleReforms("income", low=5_000, high=200_000)
    with pytest.raises(InvalidOption, match="n_reforms"):
        named_reforms([higher], 3, 0)
    with pytest.raises(InvalidOption, match="n_reforms=0"):
        named_reforms(space, 0, 0)
    with pytest.raises(InvalidOption, match="no function"):
        named_reforms({"a": 3}, None, 0)  # type: ignore[dict-item]
    with pytest.raises(InvalidOption, match="on_error"):
        diagnose(homes(), "weight", on_error="ignore")
    with pytest.raises(InvalidOption, match="low"):
        RandomScheduleReforms("income", low=5, high=1)
    with pytest.raises(InvalidOption, match="largest_lump"):
        RandomScheduleReforms("income", low=1, high=5, largest_lump=3.0)
    with pytest.raises(InvalidOption, match="name the `entity`"):
        space.draw(np.random.default_rng(0))({"person": homes(), "household": homes()})
    with pytest.raises(InvalidSurface, match="Rename"):
        diagnose(homes(), "weight", surface=Surface((Metric("gain", "income"),)), reforms=space)
