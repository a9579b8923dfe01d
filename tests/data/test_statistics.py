"""The bins of columns, and rows counted in them again."""

from __future__ import annotations

import polars as pl
import pytest
from vehins_runner import customers

from vehins.data import schema as table_schema
from vehins.data import statistics
from vehins.data.schema import TableSchema

SCHEMA = TableSchema.model_validate(
    {
        "name": "t",
        "columns": {
            "id": {"dtype": "int", "role": "key"},
            "amount": {"dtype": "float", "nullable": True},
            "city": {"dtype": "string", "nullable": True},
            "flag": {"dtype": "bool"},
            "note": {"dtype": "string", "role": "ignored"},
            "y": {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1},
        },
    }
)


def frame(**columns) -> pl.LazyFrame:
    size = max(len(values) for values in columns.values())
    rest = {"amount": [1.0] * size, "city": ["a"] * size, "flag": [True] * size, "y": [0] * size}
    return pl.LazyFrame({**rest, **columns}, schema_overrides={"amount": pl.Float64, "city": pl.String})


def bins(rows: pl.LazyFrame, name: str):
    found = statistics.describe(rows, SCHEMA)
    return next(column for column in found.columns if column.column == name), found


def test_features_and_target_are_described():
    found = statistics.describe(frame(amount=[1.0, 2.0, None]), SCHEMA)
    assert [column.column for column in found.columns] == ["amount", "city", "flag", "y"]
    assert (found.rows, found.target) == (3, "y")
    assert statistics.parse(found.model_dump_json().encode()) == found


def test_amounts_have_their_deciles():
    column, _ = bins(frame(amount=[float(n) for n in range(1, 101)]), "amount")
    assert column.edges == [11, 21, 31, 41, 51, 61, 71, 81, 91]
    assert column.counts == [11, 10, 10, 10, 10, 10, 10, 10, 10, 9]
    assert (column.missing, column.labels[0], column.labels[-2:]) == (0, "up to 11", ["above 91", "missing"])


def test_a_spike_takes_a_bin_of_its_own():
    column, _ = bins(frame(amount=[5.0] * 50 + [float(n) for n in range(100, 150)]), "amount")
    assert column.edges[0] == 5
    assert column.counts[0] == 50
    assert sum(column.counts) == 100
    constant, _ = bins(frame(amount=[5.0] * 9), "amount")
    assert (constant.edges, constant.counts, constant.labels) == ([], [9], ["any", "missing"])


def test_what_is_missing_is_counted():
    column, found = bins(frame(amount=[1.0, 2.0, None, float("nan")]), "amount")
    assert (sum(column.counts), column.missing) == (2, 2)
    assert found.expected(column)[-1] == 2
    nothing, _ = bins(frame(amount=[None, None]), "amount")
    assert (nothing.edges, nothing.counts, nothing.missing) == ([], [0], 2)
    names, _ = bins(frame(city=["a", None, "b", "b"]), "city")
    assert (names.counts, names.others, names.missing) == ({"b": 2, "a": 1}, 0, 1)


def test_rare_values_are_counted_together():
    names, _ = bins(frame(city=["a"] * 600 + ["b"] * 396 + ["c", "d", "e", "f"]), "city")
    assert (names.counts, names.others) == ({"a": 600, "b": 396}, 4)
    assert names.labels == ["a", "b", "others", "missing"]


def test_other_rows_are_counted_in_the_same_bins():
    amount, _ = bins(frame(amount=[float(n) for n in range(1, 101)]), "amount")
    assert amount.tally(frame(amount=[-5.0, 11.0, 11.5, 1e30, None])) == [2, 1, *[0] * 7, 1, 1]
    names, _ = bins(frame(city=["a", "b", "b"]), "city")
    assert names.tally(frame(city=["b", "z", None, "a", "a"])) == [1, 2, 1, 1]
    flags, _ = bins(frame(flag=[True, False, True]), "flag")
    assert list(flags.counts) == ["true", "false"]
    assert flags.tally(frame(flag=[False])) == [0, 1, 0, 0]


def test_a_column_that_came_to_be_something_else_is_missing_and_no_crash():
    amount, _ = bins(frame(amount=[1.0, 2.0]), "amount")
    assert amount.tally(pl.LazyFrame({"amount": ["1.5", "much"]}))[-1] == 1


@pytest.mark.parametrize("rows", [1, 7, 3_000])
def test_the_rows_that_were_described_lie_in_their_own_bins(rows):
    """Every row in one bin, and the same ones when they are counted again."""
    packaged = table_schema.load("vehicle-insurance")
    some = customers(rows).with_columns(pl.col("Region_Code", "Policy_Sales_Channel").cast(pl.Int64)).lazy()
    found = statistics.describe(some, packaged)
    assert len(found.columns) == len(packaged.features) + 1
    for column in found.columns:
        assert column.tally(some) == found.expected(column)
        assert sum(found.expected(column)) == rows
        assert len(column.labels) == len(found.expected(column))


def test_decimals_that_are_no_float32_stay_in_their_bin():
    """0.1 is a little more as a float32 than as a float64: compared as one and counted as the other it would move."""
    amount, found = bins(frame(amount=[0.1] * 30 + [0.7] * 30 + [1.3] * 40), "amount")
    assert amount.tally(frame(amount=[0.1] * 30 + [0.7] * 30 + [1.3] * 40)) == found.expected(amount)
    assert [count for count in amount.counts if count] == [30, 30, 40]
