"""The population stability index: by hand, against chance, and where there is nothing to compare."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2
from vehins_runner import customers

from vehins.data import schema as table_schema
from vehins.data import statistics
from vehins.data.schema import TableSchema
from vehins.model import drift

SCHEMA = table_schema.load("vehicle-insurance")


def typed(rows: pl.DataFrame) -> pl.LazyFrame:
    return rows.with_columns(pl.col("Region_Code", "Policy_Sales_Channel").cast(pl.Int64)).lazy()


@pytest.fixture(scope="module")
def reference() -> statistics.Statistics:
    return statistics.describe(typed(customers(20_000)), SCHEMA)


def measured(rows: pl.LazyFrame, reference: statistics.Statistics):
    found = drift.measure(rows, reference, version=3, bundle="b")
    return found, {column.column: column for column in found.columns}


def test_the_index_by_hand():
    # 50 and 50 rows became 80 and 20, each bin with half a row more.
    old, new = 50.5 / 101, np.array([80.5, 20.5]) / 101
    expected = ((new - old) * np.log(new / old)).sum()
    assert drift.stability_index([50, 50], [80, 20]) == pytest.approx(expected)
    assert drift.stability_index([80, 20], [50, 50]) == pytest.approx(expected)  # it has no direction
    assert drift.stability_index([3, 4, 0], [30, 40, 0]) == pytest.approx(0, abs=0.005)
    assert drift.stability_index([7, 0], [7, 0]) == 0


def test_a_bin_that_emptied_is_large_and_finite():
    found = drift.stability_index([1_000, 1_000], [2_000, 0])
    assert 1 < found < math.inf


@pytest.mark.parametrize("degrees", [1, 2, 9, 60, 200])
@pytest.mark.parametrize("confidence", [0.95, 0.99, 0.9995])
def test_quantiles_of_chi_squared_agree_with_scipy(degrees, confidence):
    assert drift._chi_squared(degrees, confidence) == pytest.approx(chi2.ppf(confidence, degrees), rel=0.05)


def test_chance_explains_the_index_of_equal_populations():
    """400 draws of 8 bins: above what chance explains in about 1% of them."""
    dice = np.random.default_rng(1)
    shares = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.08, 0.05, 0.02])
    above = 0
    for _ in range(400):
        old, new = dice.multinomial(8_000, shares).tolist(), dice.multinomial(2_000, shares).tolist()
        above += drift.stability_index(old, new) > drift.chance(old, new)
    assert above <= 12


def test_more_columns_allow_each_more():
    assert drift.chance([500, 500], [50, 50], 20) > drift.chance([500, 500], [50, 50], 1)
    assert drift.chance([500, 0], [50, 0]) == 0  # one bin cannot drift


def test_other_customers_of_the_same_population_have_not_drifted(reference):
    found, columns = measured(typed(customers(30_000).tail(10_000)), reference)
    assert (found.version, found.bundle, found.rows, found.reference_rows) == (3, "b", 10_000, 20_000)
    assert len(columns) == len(SCHEMA.features) + 1
    assert columns["Response"].role == "target"
    assert columns["Age"].role == "feature"
    for column in columns.values():
        assert column.psi <= column.chance
        assert sum(one.expected for one in column.bins) == pytest.approx(1)
        assert sum(one.actual for one in column.bins) == pytest.approx(1)
    assert [column.psi for column in found.columns] == sorted((c.psi for c in found.columns), reverse=True)


def test_the_column_that_moved_is_the_first(reference):
    older = customers(10_000).with_columns(pl.col("Age") + 15)
    found, columns = measured(typed(older), reference)
    assert found.columns[0].column == "Age"
    assert found.columns[0].psi > 0.25
    assert columns["Gender"].psi < 0.01


def test_new_regions_and_missing_values_are_drift(reference):
    _, columns = measured(typed(customers(5_000).with_columns(Region_Code=pl.lit(999.0))), reference)
    assert columns["Region_Code"].psi > 1
    assert columns["Region_Code"].bins[-1].label == "others"
    gone = customers(5_000).with_columns(Annual_Premium=pl.lit(None, dtype=pl.Float64))
    _, columns = measured(typed(gone), reference)
    assert columns["Annual_Premium"].psi > 1
    assert columns["Annual_Premium"].bins[-1].label == "missing"


def test_resampled_customers_are_drift_of_the_target(reference):
    """As many buyers as others, as SMOTE and its like make them."""
    rows = customers(20_000)
    buyers, others = rows.filter(pl.col("Response") == 1), rows.filter(pl.col("Response") == 0)
    balanced = pl.concat([others, buyers.sample(others.height, with_replacement=True, seed=1)])
    _, columns = measured(typed(balanced), reference)
    assert columns["Response"].psi > 0.25


def test_a_column_that_is_gone_is_unknown(reference):
    _, columns = measured(typed(customers(100)).drop("Vintage"), reference)
    assert (columns["Vintage"].psi, columns["Vintage"].reason) == (None, "These rows have no such column.")
    assert columns["Age"].psi is not None


def test_without_rows_everything_is_unknown(reference):
    found, columns = measured(typed(customers(10)).head(0), reference)
    assert found.rows == 0
    assert {column.psi for column in columns.values()} == {None}


def test_a_champion_without_statistics_is_unknown_with_a_reason():
    found = drift.measure(typed(customers(10)), None, version=3, bundle="b")
    assert (found.columns, found.reference_rows) == ([], None)
    assert found.reason == "Champion 3 carries no statistics of its training rows: an older vehins trained it."


def test_a_table_of_one_category_only():
    columns = {
        "c": {"dtype": "string"},
        "y": {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1},
    }
    small = TableSchema.model_validate({"name": "t", "columns": columns})
    rows = pl.LazyFrame({"c": ["a"] * 50, "y": [0, 1] * 25})
    found, by_name = measured(rows, statistics.describe(rows, small))
    assert [column.psi for column in found.columns] == [0, 0]
    assert by_name["c"].chance == 0
