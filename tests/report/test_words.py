"""Numbers as a reader wants them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vehins.report import words


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (50.0, "50"),
        (7343.0, "7,343"),
        (0.85712, "0.8571"),
        (-1.8e-05, "-0.00002"),
        (123456.7, "123,457"),
        (0.003357, "0.00336"),
        (None, "not computed"),
    ],
)
def test_significant(number: float | None, text: str) -> None:
    assert words.significant(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(1308.4, "1,308"), (-471.81, "-472"), (12.5, "12.50"), (5.0, "5"), (None, "not computed")]
)
def test_amount(number: float | None, text: str) -> None:
    assert words.amount(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (-500, "-500"), (1500, "1.5k"), (-20_000, "-20k"), (3.2e6, "3.2M"), (7e9, "7G")]
)
def test_short_amount(number: float, text: str) -> None:
    assert words.short_amount(number) == text


@pytest.mark.parametrize(
    ("duration", "text"),
    [(None, "-"), (0.123, "0.12 s"), (17.3, "17 s"), (61, "1 min 1 s"), (119.7, "2 min 0 s"), (7260, "2 h 1 min")],
)
def test_seconds(duration: float | None, text: str) -> None:
    assert words.seconds(duration) == text


def test_names_and_sentences() -> None:
    assert words.titled("auc_floor") == "AUC floor"
    assert words.titled("no_slice_worse") == "No slice worse"
    assert words.sentence("this model: good") == "This model: good."
    assert words.sentence("Done!") == "Done!"
    assert words.sentence("") == ""
    assert words.plural(1, "row") == "1 row"
    assert words.plural(2_000, "group has", "groups have") == "2,000 groups have"


def test_values_and_moments() -> None:
    assert [words.value(found) for found in (None, True, 0.05, 1e-05, 3, "x")] == [
        "none",
        "yes",
        "0.05",
        "1e-05",
        "3",
        "x",
    ]
    assert words.moment(datetime(2026, 11, 24, 10, 11, 12, tzinfo=UTC)) == "2026-11-24 10:11:12 UTC"
    assert words.moment(None) == "-"
    assert words.percent(0.1234) == "12.3%"
    assert words.axis_percent(0.025) == "2.5%"
    assert (words.signed(-1e-9), words.signed(-0.5, 1), words.signed(None)) == ("+0.0000", "-0.5", "not computed")
    assert words.between(None, 0.2) == ""
    assert words.between(0.1, 0.2, 2) == "0.10 to 0.20"
