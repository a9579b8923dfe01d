"""Who is in which slice, what is said of it, and what is not said because too few are in it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from vehins.data.schema import TableSchema
from vehins.model import metrics, slices

BOUNDS = slices.Bounds(least=50, confidence=0.95, margin=0.0, interval=0.95)


def schema(**columns) -> TableSchema:
    target = {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1}
    return TableSchema.model_validate({"name": "t", "columns": {**columns, "y": target}})


def cut(values: list | np.ndarray, /, bins: int = 4, **column) -> dict[str, list[int]]:
    """Labels and row numbers of the slices of one column."""
    found = slices.cuts(pl.LazyFrame({"c": values}), schema(c={"slice": True, "nullable": True, **column}), bins)
    return {one.label: np.flatnonzero(one.chosen).tolist() for one in found}


def test_only_marked_columns_are_cut():
    marked = schema(a={"dtype": "int"}, b={"dtype": "string", "slice": True}, c={"dtype": "bool", "slice": True})
    rows = pl.LazyFrame({"a": [1, 2], "b": ["x", "y"], "c": [True, False]})
    found = [(one.column, one.label) for one in slices.cuts(rows, marked, 4)]
    assert sorted(found) == [("b", "x"), ("b", "y"), ("c", "false"), ("c", "true")]


def test_a_value_that_the_schema_names_has_its_slice_even_when_nobody_has_it():
    assert cut(["b", "a", None, "z"], dtype="string", values=["a", "b", "c"]) == {
        "a": [1],
        "b": [0],
        "c": [],
        "others": [3],
        "missing": [2],
    }
    assert cut([1, 0, 1], dtype="int", category=True, values=[0, 1]) == {"0": [1], "1": [0, 2]}


def test_of_many_values_the_rare_ones_are_one_slice():
    found = cut(np.repeat(np.arange(30), np.arange(30, 0, -1)), dtype="int", category=True)
    assert list(found) == [*(str(value) for value in range(20)), "others"]
    assert len(found["others"]) == sum(range(1, 11))


def test_amounts_are_cut_at_their_quantiles():
    found = cut([*range(100, 0, -1), None], dtype="int")
    assert {label: len(rows) for label, rows in found.items()} == {
        "1 to 25": 25,
        "26 to 50": 25,
        "51 to 75": 25,
        "76 to 100": 25,
        "missing": 1,
    }
    assert cut([1.5, float("nan"), float("inf")], dtype="float") == {"1.5": [0], "missing": [1, 2]}


def test_a_spike_of_equal_amounts_is_one_slice_and_none_is_empty():
    found = cut([2630] * 60 + list(range(3_000, 3_040)), dtype="int")
    assert {label: len(rows) for label, rows in found.items()} == {"2630": 60, "3000 to 3014": 15, "3015 to 3039": 25}
    assert cut([7] * 5, dtype="int") == {"7": [0, 1, 2, 3, 4]}
    assert cut([None, None], dtype="int") == {"missing": [0, 1]}


def ranked_pair(seed: int, rows: int, rate: float = 0.3):
    dice = np.random.default_rng(seed)
    labels = (dice.random(rows) < rate).astype(np.uint8)
    signal = dice.normal(size=rows) + labels
    both = (1 / (1 + np.exp(-(signal + 0.3 * dice.normal(size=rows)))) for _ in range(2))
    ours, theirs = (metrics.rank(labels, scores, "probability") for scores in both)
    return labels, ours, theirs


def everybody_but(rows: int, *few: int) -> list[slices.Cut]:
    """A slice of the first ``few`` rows for each number, and one of all."""
    numbers = np.arange(rows)
    return [slices.Cut("c", str(size), numbers < size) for size in few] + [slices.Cut("c", "all", numbers >= 0)]


def test_a_slice_of_all_has_the_figures_of_all():
    labels, ours, theirs = ranked_pair(1, 2_000)
    (found,) = slices.judge(everybody_but(2_000), ours, theirs, BOUNDS)
    area = metrics.interval(ours)
    assert (found.rows, found.positives) == (2_000, labels.sum())
    assert (found.auc, found.auc_low, found.auc_high) == (area.auc, area.low, area.high)
    assert found.observed_rate == labels.mean()
    assert found.mean_probability == pytest.approx(ours.scores.mean())
    assert found.expected_calibration_error == metrics.calibration_error(ours)
    assert found.reason is None
    difference = metrics.difference(ours, theirs)
    assert found.comparison.auc_difference == difference.difference
    # One slice: the bound is the one-sided one, unchanged.
    assert found.comparison.bound == pytest.approx(-1.6448536 * difference.standard_error)


def test_what_few_customers_cannot_tell_is_not_said():
    _, ours, theirs = ranked_pair(2, 2_000)
    empty, few, _ = slices.judge(everybody_but(2_000, 0, 60), ours, theirs, BOUNDS)
    assert (few.auc, few.log_loss, few.expected_calibration_error, few.comparison) == (None,) * 4
    assert few.rows == 60
    assert few.observed_rate == few.positives / 60
    assert few.reason == f"It has {min(few.positives, 60 - few.positives)} customers of the rarer class; 50 are needed."
    assert (empty.rows, empty.mean_probability, empty.observed_rate) == (0, None, None)
    assert empty.reason == "It has no customers."


def test_without_a_champion_nothing_is_compared():
    _, ours, _ = ranked_pair(3, 1_000)
    (found,) = slices.judge(everybody_but(1_000), ours, None, BOUNDS)
    assert found.comparison is None
    assert found.auc is not None


def test_more_slices_make_each_bound_wider_and_so_does_a_margin():
    _, ours, theirs = ranked_pair(4, 4_000)
    one = slices.judge(everybody_but(4_000), ours, theirs, BOUNDS)[-1].comparison
    many = slices.judge(everybody_but(4_000, 1_000, 2_000, 3_000), ours, theirs, BOUNDS)[-1].comparison
    small = slices.judge(everybody_but(4_000, 10, 20, 30), ours, theirs, BOUNDS)[-1].comparison
    assert many.bound < one.bound
    assert small.bound == one.bound  # a slice that is not judged takes nothing from the others
    margin = slices.Bounds(least=50, confidence=0.95, margin=0.01, interval=0.95)
    assert slices.judge(everybody_but(4_000), ours, theirs, margin)[-1].comparison.bound == one.bound - 0.01


def test_equal_models_have_no_worse_slice():
    """Chance alone breaks the bounds of 8 slices together in at most 5% of 200 draws, by 2.6 binomial sd."""
    broken = 0
    for seed in range(200):
        _, ours, theirs = ranked_pair(1_000 + seed, 2_000)
        found = cuts_of(seed, 2_000)
        judged = slices.judge(found, ours, theirs, BOUNDS)
        seen = [one.comparison for one in judged if one.comparison is not None]
        broken += any(one.auc_difference < one.bound for one in seen)
    assert broken <= 18


def cuts_of(seed: int, rows: int) -> list[slices.Cut]:
    places = np.random.default_rng(seed).integers(0, 8, rows)
    return [slices.Cut("c", str(place), places == place) for place in range(8)]


def test_a_slice_that_is_ruined_is_found():
    """The rest of the customers hide it: the AUC of all hardly falls."""
    labels, ours, theirs = ranked_pair(5, 8_000)
    found = cuts_of(5, 8_000)
    ruined = np.empty(8_000)
    ruined[ours.order] = ours.scores
    chosen = found[3].chosen
    ruined[chosen] = np.random.default_rng(6).permutation(ruined[chosen])
    judged = slices.judge(found, metrics.rank(labels, ruined, "probability"), theirs, BOUNDS)
    worse = [one.slice for one in judged if one.comparison.auc_difference < one.comparison.bound]
    assert worse == ["3"]
