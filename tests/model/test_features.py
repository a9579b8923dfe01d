"""The bulk path, the one for a few rows and the one for one row give the same numbers, bit for bit, for any rows."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vehins.data.conform import polars_type
from vehins.data.schema import TableSchema
from vehins.model import features
from vehins.model.features import CategoryFeature, CombinedFeature, CrossFeature, Encoder, Feature, NumberFeature

INF, NAN = float("inf"), float("nan")
SCHEMA = TableSchema.model_validate(
    {
        "name": "customers",
        "columns": {
            "id": {"dtype": "int", "role": "key"},
            "age": {"dtype": "int"},
            "premium": {"dtype": "float"},
            "region": {"dtype": "int", "category": True},
            "city": {"dtype": "string"},
            "member": {"dtype": "bool"},
            "note": {"dtype": "string", "role": "ignored"},
            "y": {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1},
        },
        "interactions": {
            "premium per year": {"kind": "ratio", "columns": ["premium", "age"]},
            "premium years": {"kind": "product", "columns": ["age", "premium"]},
            "region of city": {"kind": "cross", "columns": ["city", "region"]},
            "city of member": {"kind": "cross", "columns": ["member", "city"]},
        },
    }
)
NAMES = list(SCHEMA.features)
MADE = list(SCHEMA.interactions)
TYPES = {name: polars_type(column.dtype) for name, column in SCHEMA.features.items()}
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["", "\x00", "a\x00b", "é", "true", "1"])
HOSTILE = {
    "age": st.none() | INT64 | st.integers(0, 99) | st.sampled_from([2**24, 2**24 + 1, 2**53 + 1]),
    "premium": st.none() | st.floats(),
    "region": st.none() | INT64 | st.integers(0, 3),
    "city": st.none() | TEXT | st.sampled_from(["a", "b"]),
    "member": st.none() | st.booleans(),
}
ROWS = st.lists(st.fixed_dictionaries(HOSTILE), min_size=1, max_size=8)


def frame(rows: list[dict]) -> pl.DataFrame:
    return pl.DataFrame([{name: row.get(name) for name in NAMES} for row in rows], schema=TYPES)


def column(name: str, values: list) -> pl.LazyFrame:
    """Rows in which only one column has values."""
    return frame([{name: value} for value in values]).lazy()


def fitted(name: str, values: list) -> NumberFeature | CategoryFeature:
    return learnt(name, [{name: value} for value in values])


def learnt(name: str, rows: list[dict]) -> Feature:
    encoder = features.fit(frame(rows).lazy(), SCHEMA)
    return next(feature for feature in encoder.features if feature.name == name)


def assert_paths_agree(encoder: Encoder, rows: list[dict]) -> None:
    bulk = encoder.matrix(frame(rows).lazy())
    single = np.array([encoder.encode_row(row) for row in rows], dtype=np.float64)
    few = np.array([list(numbers) for numbers in encoder.encode_rows(rows)]).T
    for found in (single, few):
        assert bulk.shape == found.shape == (len(rows), len(NAMES) + len(MADE))
        same_bits = bulk.view(np.uint64) == np.ascontiguousarray(found).view(np.uint64)
        assert (same_bits | (np.isnan(bulk) & np.isnan(found))).all()


@settings(max_examples=200, deadline=None)
@given(train=ROWS, rows=ROWS)
@example(train=[{"premium": 0.0}], rows=[{"premium": -0.0}, {"premium": 5e-324}])
@example(train=[{"premium": -0.0}], rows=[{"premium": 0.0}, {"premium": NAN}])
@example(train=[{"premium": 2.0**24}], rows=[{"premium": 0.1}, {"premium": 1e308}, {"premium": INF}])
@example(train=[{"age": 2**24 + 1}], rows=[{"age": 2**24 + 1}, {"age": 2**63 - 1}, {"age": -(2**63)}])
@example(train=[{"city": "a\x00b"}, {"city": ""}], rows=[{"city": "a"}, {"city": ""}, {"city": None}])
@example(train=[{"age": 3, "premium": 1.0}], rows=[{"age": 0, "premium": 1.0}, {"age": 0, "premium": 0.0}])
@example(train=[{"age": 2**62, "premium": 1e308}], rows=[{"age": 2**63 - 1, "premium": -1e308}, {"age": -7}])
@example(train=[{"age": 1, "premium": 5e-324}], rows=[{"age": -1, "premium": 0.0}, {"age": 3, "premium": 5e-324}])
@example(
    train=[{"premium": 5.0, "age": 5}], rows=[{"premium": NAN, "age": 5}, {"premium": 9.0, "age": 9}, {"premium": 1.0}]
)
@example(train=[{"city": "1", "region": 11}], rows=[{"city": "11", "region": 1}, {"city": "1", "region": 11}])
def test_both_paths_give_the_same_bits(train, rows):
    """Fitted on rows as hostile as those that it then encodes."""
    encoder = features.fit(frame(train).lazy(), SCHEMA)
    assert_paths_agree(encoder, rows)
    assert_paths_agree(features.parse(encoder.to_json()), rows)


@settings(max_examples=50, deadline=None)
@given(train=ROWS, rows=ROWS)
def test_what_lightgbm_gets_is_narrow_and_in_order(train, rows):
    """Anything that is not numeric ends the process in LightGBM."""
    encoder = features.fit(frame(train).lazy(), SCHEMA)
    encoded = encoder.encode(frame(rows).lazy()).collect()
    assert encoded.columns == encoder.names == NAMES + MADE
    assert set(encoded.dtypes) <= {pl.UInt8, pl.UInt16, pl.UInt32, pl.Float32, pl.Float64}
    assert encoder.categories == ["region", "city", "member", "region of city", "city of member"]
    assert list(encoder.vocabulary_sizes) == encoder.categories
    assert encoded.select(encoder.categories).null_count().sum_horizontal().item() == 0


def test_a_lost_column_counts_as_missing():
    encoder = features.fit(frame([{"age": 1, "city": "a", "member": True}]).lazy(), SCHEMA)
    assert (
        str(encoder.encode_row({}))
        == str(encoder.encode_row(dict.fromkeys(NAMES)))
        == str([*[math.nan] * 2, *[0.0] * 3, *[math.nan] * 2, *[0.0] * 2])
    )


# --- Numbers ----------------------------------------------------------------------------------------------------------


def test_a_number_is_moved_to_the_edge_of_the_train_side():
    feature = fitted("age", [20, 85, 40])
    assert (feature.minimum, feature.maximum) == (20, 85)
    found = [feature.encode(value) for value in (19, 20, 50, 85, 86, -INF, INF, 10**400, -(10**400))]
    assert found == [20, 20, 50, 85, 85, 20, 85, 85, 20]
    assert math.isnan(feature.encode(None))
    assert math.isnan(feature.encode(NAN))


def test_what_is_not_finite_is_not_learnt():
    feature = fitted("premium", [INF, 3.0, -INF, NAN, 1.0, None])
    assert (feature.minimum, feature.maximum) == (1.0, 3.0)


@pytest.mark.parametrize("values", [[None, None], [NAN, INF, -INF]])
def test_a_column_without_a_number_is_constant(values):
    feature = fitted("premium", values)
    assert [feature.encode(value) for value in (-5.0, 0.0, 5.0)] == [0.0, 0.0, 0.0]


def test_a_constant_column_stays_constant():
    feature = fitted("age", [7, 7])
    assert [feature.encode(value) for value in (6, 7, 8)] == [7.0, 7.0, 7.0]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([0, 2**24], "float32"), ([-(2**24), 0], "float32"), ([0, 2**24 + 1], "float64"), ([-(2**24) - 1, 0], "float64")],
)
def test_integers_that_float32_would_merge_stay_apart(values, dtype):
    feature = fitted("age", values)
    assert feature.dtype == dtype
    edge = max(values, key=abs)
    assert feature.encode(edge) != feature.encode(edge + (1 if edge < 0 else -1))


# --- Categories -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values", "codes"),
    [
        ("city", ["b", "a", None, "b"], {"a": 1, "b": 2, None: 0, "c": 0, "": 0, "A": 0}),
        ("city", ["", "a"], {"": 1, "a": 2, None: 0}),
        ("region", [10, 9, None], {10: 1, 9: 2, None: 0, 8: 0, 10**30: 0}),
        ("member", [True, False], {False: 1, True: 2, None: 0}),
        ("member", [True], {True: 1, False: 0, None: 0}),
        ("city", [None], {None: 0, "a": 0}),
    ],
)
def test_code_0_is_for_what_is_missing_or_new(name, values, codes):
    feature = fitted(name, values)
    assert {value: feature.encode(value) for value in codes} == codes


@pytest.mark.parametrize(
    ("count", "dtype"), [(255, "uint8"), (256, "uint16"), (65_535, "uint16"), (65_536, "uint32"), (70_000, "uint32")]
)
def test_many_categories_take_a_wider_type(count, dtype):
    """Code 0 and one code each: 255 categories are the most that 8 bits can tell apart."""
    feature = fitted("region", list(range(count)))
    assert (feature.dtype, len(feature.vocabulary)) == (dtype, count)
    asked = [0, 1, count - 1, count, -1, None]
    bulk = column("region", asked).select(feature.expression()).collect().to_series()
    assert str(bulk.dtype).lower() == dtype
    assert bulk.to_list() == [feature.encode(value) for value in asked]
    codes = column("region", range(count)).select(feature.expression()).collect().to_series()
    assert (codes.n_unique(), codes.min(), codes.max()) == (count, 1, count)


def test_the_order_of_the_train_side_does_not_matter():
    rows = [
        {"city": city, "region": region, "age": age}
        for city, region, age in zip("cabd", (3, 1, 2, 1), range(4), strict=True)
    ]
    assert features.fit(frame(rows).lazy(), SCHEMA) == features.fit(frame(rows[::-1]).lazy(), SCHEMA)


# --- Interactions ---------------------------------------------------------------------------------------------------


def test_a_ratio_and_a_product_are_moved_to_the_edges_of_the_train_side():
    rows = [{"premium": 100.0, "age": 50}, {"premium": 30.0, "age": 10}, {"premium": 1.0, "age": 0}, {"age": 5}]
    ratio, product = learnt("premium per year", rows), learnt("premium years", rows)
    assert isinstance(ratio, CombinedFeature)
    assert (ratio.minimum, ratio.maximum) == (2.0, 3.0)
    assert (product.minimum, product.maximum) == (0.0, 5000.0)
    asked = [{"premium": 25.0, "age": 10}, {"premium": 1.0, "age": 1}, {"premium": 9.0, "age": 1}]
    assert [ratio.reader()(row) for row in asked] == [2.5, 2.0, 3.0]
    assert [product.reader()(row) for row in asked] == [250.0, 1.0, 9.0]


@pytest.mark.parametrize(
    "row", [{}, {"premium": 1.0}, {"age": 1}, {"premium": NAN, "age": 1}, {"premium": 1.0, "age": 0}]
)
def test_what_is_divided_by_zero_or_by_nothing_is_missing(row):
    assert math.isnan(learnt("premium per year", [{"premium": 1.0, "age": 2}]).reader()(row))


def test_a_pair_has_a_code_when_it_was_seen():
    rows = [{"city": "a", "region": 1}, {"city": "b", "region": 2}, {"city": "a", "region": None}, {"region": 3}]
    cross = learnt("region of city", rows)
    assert isinstance(cross, CrossFeature)
    assert cross.vocabulary == [("a", "1"), ("b", "2")]
    asked = [("a", 1), ("b", 2), ("a", 2), ("a", None), (None, 1), ("c", 9)]
    assert [cross.reader()({"city": city, "region": region}) for city, region in asked] == [1, 2, 0, 0, 0, 0]


def test_pairs_that_read_alike_are_told_apart():
    rows = [{"city": "1", "region": 11}, {"city": "11", "region": 1}, {"city": "2:1", "region": 1}]
    cross = learnt("region of city", rows)
    assert sorted(cross.reader()(row) for row in rows) == [1, 2, 3]


def test_a_monotone_column_says_so():
    columns = {**SCHEMA.model_dump()["columns"], "age": {"dtype": "int", "monotone": -1}}
    table = TableSchema.model_validate({"name": "t", "columns": columns})
    assert features.fit(frame([{"age": 1}]).lazy(), table).monotone == [-1, 0, 0, 0, 0]


# --- JSON -------------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(train=ROWS)
def test_it_travels_as_json(train):
    encoder = features.fit(frame(train).lazy(), SCHEMA)
    again = features.parse(encoder.to_json())
    assert again == encoder
    assert again.to_json() == encoder.to_json()


def test_an_encoder_of_the_first_version_is_read():
    """It knew neither monotone columns nor interactions."""
    text = (
        b'{"features":[{"dtype":"float32","kind":"number","maximum":85.0,"minimum":20.0,"name":"age"},'
        b'{"dtype":"uint8","kind":"category","name":"city","vocabulary":["a","b"]}]}'
    )
    assert features.parse(text).encode_row({"age": 99, "city": "b"}) == [85.0, 2.0]
