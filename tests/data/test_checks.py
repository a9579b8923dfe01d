"""Every rule of a schema, on rows that lie in several parts: who breaks it, how often, and what becomes of them."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tables import dataset, table

from vehins.artifacts.manifest import Validation
from vehins.artifacts.workspace import Artifact
from vehins.data import checks, parts
from vehins.data.conform import ROW

INF, NAN = float("inf"), float("nan")


@pytest.fixture
def rows_of(tmp_path):
    """Rows as a data set of two parts, of a schema with one more column `x` (and a key)."""

    def rows_of(values: list, column: dict, raw_type=None):
        schema = table({"id": {"dtype": "int", "role": "key"}, "x": column})
        raw = pl.DataFrame({"id": range(100, 100 + len(values)), "x": pl.Series(values, dtype=raw_type), "y": 1})
        return parts.rows(dataset(tmp_path, raw, schema, (0, (len(values) + 1) // 2))), schema

    return rows_of


def broken(rows: pl.LazyFrame, schema) -> dict[str, list[int]]:
    """For every rule that is broken, the rows that break it."""
    rules = checks.checks(schema, [])
    counted = checks.sweep(rows, schema, rules)
    found = {c.label: rows.filter(c.broken).select(ROW).collect().to_series().to_list() for c in rules}
    assert counted.broken == {label: len(numbers) for label, numbers in found.items()}
    return {label: numbers for label, numbers in found.items() if numbers}


RULES = {
    "missing": ({"dtype": "int"}, [1, None, 3, None], {"x: missing": [1, 3]}),
    "nullable": ({"dtype": "int", "nullable": True}, [1, None, 3, None], {}),
    "NaN is missing": ({"dtype": "float"}, [1.0, NAN, None], {"x: missing": [1, 2]}),
    "infinite": ({"dtype": "float"}, [INF, 1.0, -INF, -1.0], {"x: infinite": [0, 2]}),
    "infinite is neither small nor large": (
        {"dtype": "float", "minimum": 0, "maximum": 9},
        [INF, -INF, -0.1, 9.1, 0.0, 9.0],
        {"x: infinite": [0, 1], "x: too small": [2], "x: too large": [3]},
    ),
    "bounds of ints": (
        {"dtype": "int", "minimum": 18, "maximum": 20},
        [17, 18, 19, 20, 21, -(2**63), 2**63 - 1],
        {"x: too small": [0, 5], "x: too large": [4, 6]},
    ),
    "unknown texts": (
        {"dtype": "string", "values": ["a", "b"], "nullable": True},
        ["a", "b", "A", None, "c"],
        {"x: unknown value": [2, 4]},
    ),
    "unknown ints": ({"dtype": "int", "values": [0, 1]}, [0, 1, 2, -1], {"x: unknown value": [2, 3]}),
    "unknown floats": (
        {"dtype": "float", "values": [0, 2.5]},
        [0.0, 2.5, 2.0, -0.0, INF],
        {"x: unknown value": [2, 4], "x: infinite": [4]},
    ),
    "unknown bools": ({"dtype": "bool", "values": [True]}, [True, False], {"x: unknown value": [1]}),
    "unparsed is not missing": ({"dtype": "int"}, ["1", "x", "", "2"], {"x: missing": [2]}),
    "several at once": (
        {"dtype": "int", "values": [5, 6], "minimum": 5},
        [4, 5, None, 7],
        {"x: unknown value": [0, 3], "x: too small": [0], "x: missing": [2]},
    ),
}


@pytest.mark.parametrize(("column", "values", "wanted"), RULES.values(), ids=RULES)
def test_every_rule(rows_of, column, values, wanted):
    assert broken(*rows_of(values, column)) == wanted


def test_a_row_with_an_unparsed_cell_breaks_no_rule_and_is_bad(rows_of):
    rows, schema = rows_of(["1", "x", "99"], {"dtype": "int", "maximum": 9})
    rows = rows.with_columns(pl.lit(None, dtype=pl.Int64).alias("y"))
    assert broken(rows, schema) == {"x: too large": [2], "y: missing": [0, 2]}
    counted = checks.sweep(rows, schema, checks.checks(schema, []))
    assert (counted.rows, counted.unparsed_rows, counted.bad_rows) == (3, 1, 3)


def test_columns_that_the_source_lacks_are_not_checked(rows_of):
    rows, schema = rows_of([None, None], {"dtype": "int"}, pl.Int64)
    assert {check.column for check in checks.checks(schema, ["x"])} == {"id", "y"}
    assert checks.sweep(rows, schema, checks.checks(schema, ["x"])).bad_rows == 0
    assert checks.sweep(rows, schema, checks.checks(schema, ["id", "x", "y"])).bad_rows == 0


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ({"dtype": "int", "minimum": 1_234_567}, "at least 1234567"),
        ({"dtype": "float", "maximum": 0.1}, "at most 0.1"),
        ({"dtype": "float", "maximum": 12_345_678.25}, "at most 12345678.25"),
        ({"dtype": "string", "values": ["a", "b"]}, "one of a, b"),
        ({"dtype": "int"}, "a value"),
    ],
)
def test_a_rule_says_what_it_expects_without_rounding(column, expected):
    rules = checks.checks(table({"x": column}), [])
    assert expected in [check.expected for check in rules if check.column == "x"]


def test_targets_are_counted_among_good_rows(tmp_path):
    schema = table({"x": {"dtype": "int"}})
    for ys, xs, wanted in (([0, 1], [1, 1], 2), ([0, 1], [1, None], 1), ([None, 5], [1, 1], 0)):
        rows = parts.rows(dataset(tmp_path, pl.DataFrame({"x": xs, "y": ys}), schema))
        assert checks.sweep(rows, schema, checks.checks(schema, [])).targets == wanted


# --- Statistics -------------------------------------------------------------------------------------------------------


def statistics(values, column: dict) -> object:
    """The statistics of a column `x`, over rows in three pieces."""
    schema = table({"x": column})
    types = {"int": pl.Int64, "float": pl.Float64, "string": pl.String, "bool": pl.Boolean}
    frame = pl.DataFrame({"x": pl.Series(values, dtype=types[column["dtype"]])}).with_columns(y=pl.lit(1, pl.Int64))
    frame = frame.with_columns(pl.lit(False).alias(checks.UNPARSED)).with_row_index(ROW)
    pieces = [frame[: len(values) // 3].lazy(), frame[len(values) // 3 : len(values) // 2].lazy()]
    rows = pl.concat([*pieces, frame[len(values) // 2 :].lazy()])
    return checks.sweep(rows, schema, checks.checks(schema, [])).statistics[0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_numbers_are_described_as_polars_does(values):
    found = statistics(values, {"dtype": "float"})
    plain = pl.Series(values, dtype=pl.Float64)
    assert found.nulls == plain.null_count()
    if plain.null_count() == len(values):
        assert (found.mean, found.minimum, found.quartiles, found.maximum) == (None,) * 4
        return
    assert (found.minimum, found.maximum) == (plain.min(), plain.max())
    assert found.mean == pytest.approx(plain.mean(), rel=1e-9, abs=1e-6)
    deviation = plain.std()
    assert (found.standard_deviation is None) == (deviation is None)
    assert deviation is None or found.standard_deviation == pytest.approx(deviation, rel=1e-6, abs=1e-3)
    wanted = [plain.quantile(q, "linear") for q in (0.25, 0.5, 0.75)]
    precision = 1e-6 * max(abs(found.minimum), abs(found.maximum))  # that of float32, which takes half the memory
    assert found.quartiles == pytest.approx(wanted, rel=1e-6, abs=1e-30 + precision)


def test_only_finite_numbers_are_described():
    found = statistics([1.0, INF, 3.0, -INF, None], {"dtype": "float"})
    assert (found.nulls, found.minimum, found.mean, found.maximum) == (1, 1.0, 2.0, 3.0)
    assert found.quartiles == (1.5, 2.0, 2.5)


@pytest.mark.parametrize("values", [[1e39, -1e39, 1.0], [1e300, 1e300, 1e299], [1.7e308, 1.7e308, 1.7e308]])
def test_numbers_that_are_too_large_to_describe_do_no_harm(values):
    found = statistics(values, {"dtype": "float"})
    assert (found.minimum, found.maximum) == (min(values), max(values))
    assert all(math.isfinite(value) for value in (found.mean or 0, found.standard_deviation or 0))
    assert found.quartiles is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | st.sampled_from("abcdefghijklmno"), min_size=1, max_size=60))
def test_names_are_counted(values):
    found = statistics(values, {"dtype": "string"})
    known = [value for value in values if value is not None]
    wanted = sorted({(-known.count(name), name) for name in known})
    assert found.nulls == len(values) - len(known)
    assert found.distinct == len(wanted)
    assert list(found.top.items()) == [(name, -count) for count, name in wanted][:10]


@pytest.mark.parametrize(
    ("column", "values", "top"),
    [
        ({"dtype": "bool"}, [True, True, False], {"True": 2, "False": 1}),
        ({"dtype": "int", "category": True}, [28, 28, 3], {"28": 2, "3": 1}),
        ({"dtype": "string"}, [None, None], {}),
    ],
)
def test_names_of_other_types_are_counted(column, values, top):
    assert statistics(values, column).top == top


@pytest.mark.parametrize("dtype", ["int", "string"])
def test_a_key_is_not_counted(dtype):
    """It has as many values as there are rows: a table of them would need more memory than all the rest."""
    schema = table({"id": {"dtype": dtype, "role": "key"}, "x": {"dtype": "int"}})
    frame = pl.DataFrame({"id": [1, 2, None], "x": 1, "y": 1, checks.UNPARSED: False})
    frame = frame.cast({"id": pl.String}) if dtype == "string" else frame
    found = checks.sweep(frame.lazy(), schema, []).statistics[0]
    assert (found.column, found.nulls, found.distinct, found.top) == ("id", 1, None, None)


# --- Duplicates -------------------------------------------------------------------------------------------------------


@pytest.fixture
def keyed(tmp_path):
    def keyed(keys: list, dtype: str):
        schema = table({"id": {"dtype": dtype, "role": "key"}, "x": {"dtype": "int"}})
        raw = pl.DataFrame(
            {"id": keys, "x": 1, "y": 1}, schema_overrides={"id": pl.String if dtype == "string" else pl.Int64}
        )
        return parts.rows(dataset(tmp_path, raw, schema, (0, len(keys) // 2))), schema

    return keyed


@pytest.mark.parametrize(
    ("dtype", "keys", "twice"),
    [
        ("int", [1, 2, 3, 4], []),
        ("int", [5, 2, 5, 4, 5, 2], [(0, "5"), (1, "2"), (2, "5"), (4, "5"), (5, "2")]),
        ("int", [0, None, None, 7], []),
        ("int", [-(2**63), 2**63 - 1, -(2**63)], [(0, str(-(2**63))), (2, str(-(2**63)))]),
        ("string", ["a", "b", "A", "a "], [(0, "a"), (3, "a")]),
        ("string", ["a\x00", "a\x1f", "é", "a", None, None], []),
        ("string", ["é", "x", "é"], [(0, "é"), (2, "é")]),
    ],
)
def test_all_rows_of_a_key_that_stands_twice_are_found(keyed, dtype, keys, twice):
    assert checks.duplicated_rows(*keyed(keys, dtype)).rows() == twice


def test_texts_whose_hashes_meet_are_no_duplicates(keyed, monkeypatch):
    monkeypatch.setattr(checks, "text_hash", lambda text, _: text.str.len_bytes().cast(pl.UInt64))
    assert checks.duplicated_rows(*keyed(["a", "b", "a", "cc"], "string")).rows() == [(0, "a"), (2, "a")]


def test_without_a_key_nothing_is_duplicated(tmp_path):
    schema = table({"x": {"dtype": "int"}})
    rows = parts.rows(dataset(tmp_path, pl.DataFrame({"x": [1, 1], "y": [1, 1]}), schema))
    assert checks.duplicated_rows(rows, schema).is_empty()


@settings(max_examples=30, deadline=None)
@given(keys=st.lists(st.none() | st.text(st.sampled_from("ab\x00é"), max_size=2), min_size=1, max_size=20))
def test_duplicates_are_those_that_a_count_finds(keys):
    schema = table({"id": {"dtype": "string", "role": "key"}, "x": {"dtype": "int"}})
    rows = (
        pl.DataFrame({"id": pl.Series(keys, dtype=pl.String)})
        .with_row_index(ROW)
        .with_columns(pl.col(ROW).cast(pl.Int64))
    )
    wanted = [(i, key) for i, key in enumerate(keys) if key is not None and keys.count(key) > 1]
    assert checks.duplicated_rows(rows.lazy(), schema).rows() == wanted


# --- Anomalies and quarantine -----------------------------------------------------------------------------------------


def test_an_anomaly_has_ten_examples_at_most(rows_of):
    rows, schema = rows_of([-number for number in range(50)], {"dtype": "int", "minimum": 0})
    rules = checks.checks(schema, [])
    (found,) = checks.anomalies(rows, schema, rules, checks.sweep(rows, schema, rules))
    assert (found.column, found.rule, found.expected) == ("x", "too small", "at least 0")
    assert (found.rows, found.share) == (49, 0.98)
    shown = [(example.key, example.value) for example in found.examples]
    assert shown == [(str(100 + number), str(-number)) for number in range(1, 11)]


def test_an_example_without_a_key_names_its_row(tmp_path):
    schema = table({"x": {"dtype": "string"}})
    rows = parts.rows(dataset(tmp_path, pl.DataFrame({"x": ["a", None], "y": [1, 1]}), schema, (0, 1)))
    rules = checks.checks(schema, [])
    (found,) = checks.anomalies(rows, schema, rules, checks.sweep(rows, schema, rules))
    assert [(example.key, example.value) for example in found.examples] == [("row 1", "null")]


RAW = pl.DataFrame(
    {
        "id": ["1", "2", "3", "2", "x", None, "7", "8"],
        "x": ["5", "-1", "old", "7", "7", "7", "", "8"],
        "z": ["a", "c", "a", "a", "?!", "b", "z", "b"],
        "y": ["0", "1", "0", "1", "2", "1", "9", "0"],
    }
)
REASONS = {
    1: "key: duplicated; x: too small; z: unknown value",
    2: "x: not of its type (`old`)",
    3: "key: duplicated",
    4: "id: not of its type (`x`)",
    5: "id: missing",
    6: "x: missing; z: unknown value; y: unknown value",
}


@pytest.mark.parametrize("starts", [(0,), (0, 3), (0, 1, 2, 3, 4, 5, 6, 7)])
def test_bad_rows_go_to_quarantine_with_their_reasons(tmp_path, starts):
    columns = {"id": {"dtype": "int", "role": "key"}, "x": {"dtype": "int", "minimum": 0}}
    schema = table({**columns, "z": {"dtype": "string", "values": ["a", "b"]}})
    data = dataset(tmp_path, RAW, schema, starts)
    rows, rules = parts.rows(data), checks.checks(schema, [])
    unparsed = pl.read_parquet(data.path(parts.UNPARSED_FILE))
    path = tmp_path / parts.QUARANTINE_FILE
    assert checks.write_quarantine(rows, rules, unparsed, checks.duplicated_rows(rows, schema), path) == 6
    aside = pl.read_parquet(path)
    assert dict(aside.select(ROW, "reasons").iter_rows()) == REASONS
    assert aside[ROW].is_sorted()
    assert aside.filter(pl.col(ROW) == 1).select("id", "x", "z", "y").row(0) == (2, -1, "c", 1)
    result = Validation.model_construct(result=type("Result", (), {"quarantined_rows": 6}))
    clean = parts.clean_rows(data, Artifact(result, tmp_path)).collect()
    assert clean["id"].to_list() == [1, 8]
    assert ROW not in clean.columns


def test_without_bad_rows_all_are_clean(tmp_path):
    schema = table({"x": {"dtype": "int"}})
    data = dataset(tmp_path, pl.DataFrame({"x": range(10), "y": 1}), schema, (0, 4))
    result = Validation.model_construct(result=type("Result", (), {"quarantined_rows": 0}))
    assert parts.clean_rows(data, Artifact(result, tmp_path)).collect()["x"].to_list() == list(range(10))


# --- Parts ------------------------------------------------------------------------------------------------------------


def test_rows_are_numbered_through_all_parts(tmp_path):
    schema = table({"x": {"dtype": "int"}})
    data = dataset(tmp_path, pl.DataFrame({"x": range(100), "y": 1}), schema, range(0, 100, 7))
    rows = parts.rows(data).collect()
    assert rows[ROW].to_list() == rows["x"].to_list() == list(range(100))
    assert rows.schema[ROW] == pl.Int64


def test_parts_beyond_five_digits_stay_in_order(tmp_path, monkeypatch):
    schema, real_name = table({"x": {"dtype": "int"}}), parts.part_name
    monkeypatch.setattr(parts, "part_name", lambda number: real_name(number + 99_998))
    data = dataset(tmp_path, pl.DataFrame({"x": range(4), "y": 1}), schema, range(4))
    assert (tmp_path / "parts" / "part-100001.parquet").exists()
    data.manifest.files.sort(key=lambda record: record.path)  # as a workspace lists them
    assert parts.rows(data).collect()["x"].to_list() == [0, 1, 2, 3]


def test_a_folder_with_signs_of_a_glob_is_taken_as_it_is(tmp_path):
    schema = table({"x": {"dtype": "int"}})
    data = dataset(tmp_path / "a[1]*", pl.DataFrame({"x": [1, 2], "y": 1}), schema, (0, 1))
    assert parts.rows(data).collect().height == 2
    assert parts.schema_of(data) == schema
