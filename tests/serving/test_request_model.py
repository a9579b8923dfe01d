from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import to_json
from serving_models import GOOD

from vehins.data import checks, conform
from vehins.data import schema as table_schema
from vehins.data.schema import TableSchema
from vehins.serving.requests import INT64_MAX, INT64_MIN, example_row, expected, request_model

TARGET = {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1}
INSURANCE = table_schema.load("vehicle-insurance")
REQUEST = request_model(INSURANCE, 3)


def table(columns: dict[str, dict[str, Any]], **more: Any) -> TableSchema:
    return TableSchema.model_validate({"name": "t", "columns": {**columns, "the target": TARGET}, **more})


def taken(schema: TableSchema, row: object) -> dict[str, Any]:
    """The row as the predictor gets it."""
    [mapping] = request_model(schema, 1).model_validate_json(json.dumps({"rows": [row]})).mappings()
    return mapping


def accepts(column: dict[str, Any], value: object, **more: Any) -> bool:
    try:
        taken(table({"x": column}, **more), {"x": value})
    except ValidationError:
        return False
    return True


def test_a_good_row_is_taken_as_it_is() -> None:
    assert taken(INSURANCE, GOOD) == GOOD


def test_several_rows_keep_their_order() -> None:
    rows = [{**GOOD, "Age": age} for age in (30, 20, 40)]
    assert REQUEST.model_validate_json(json.dumps({"rows": rows})).mappings() == rows


@pytest.mark.parametrize(
    "body",
    [
        *("", "null", "[]", "{}", '{"rows": []}', '{"rows": null}', '{"rows": {}}', "{", "[" * 300, "\ufeff{}"),
        json.dumps({"rows": [GOOD], "also": 1}),
        json.dumps({"rows": [GOOD] * 4}),
        json.dumps([GOOD]),
    ],
)
def test_bodies_that_are_no_requests(body: str) -> None:
    with pytest.raises(ValidationError):
        REQUEST.model_validate_json(body)


@pytest.mark.parametrize("row", [None, [], "x", 1, {}])
def test_rows_that_are_no_rows(row: object) -> None:
    with pytest.raises(ValidationError):
        REQUEST.model_validate_json(json.dumps({"rows": [row]}))


@pytest.mark.parametrize("name", ["id", "Response", "age", "Age ", "c0", "", "__pydantic_extra__", "model_config"])
def test_columns_that_are_no_features_are_refused(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        taken(INSURANCE, {**GOOD, name: 1})
    assert [(e["type"], e["loc"]) for e in caught.value.errors()] == [("extra_forbidden", ("rows", 0, name))]


@pytest.mark.parametrize("name", GOOD)
def test_a_column_that_is_not_nullable_is_needed(name: str) -> None:
    for row in ({key: value for key, value in GOOD.items() if key != name}, {**GOOD, name: None}):
        with pytest.raises(ValidationError) as caught:
            taken(INSURANCE, row)
        assert [e["loc"] for e in caught.value.errors()] == [("rows", 0, name)]


KINDS: list[dict[str, Any]] = [
    {"dtype": "int"},
    {"dtype": "int", "minimum": 0.5, "maximum": 9.5},
    {"dtype": "int", "values": [0, 1]},
    {"dtype": "float"},
    {"dtype": "float", "minimum": 0},
    {"dtype": "float", "values": [0.5, 1]},
    {"dtype": "string"},
    {"dtype": "string", "values": ["1", "true", "None"]},
    {"dtype": "bool"},
    {"dtype": "bool", "values": [True]},
]


@pytest.mark.parametrize("column", KINDS, ids=str)
def test_a_nullable_column_may_be_null_or_left_out(column: dict[str, Any]) -> None:
    schema = table({"x": {**column, "nullable": True}, "y": {"dtype": "bool"}})
    assert taken(schema, {"x": None, "y": True}) == taken(schema, {"y": True}) == {"x": None, "y": True}
    assert not accepts(column, None)


# Of each kind of JSON value, which columns take it: the types of JSON are not mixed up.
TAKEN: list[tuple[object, list[bool]]] = [
    #        int    1..9   0,1    float  >=0    .5,1   text   texts  bool   true
    (1, [True, True, True, True, True, True, False, False, False, False]),
    (1.0, [True, True, True, True, True, True, False, False, False, False]),
    (0, [True, False, True, True, True, False, False, False, False, False]),
    (-0.0, [True, False, True, True, True, False, False, False, False, False]),
    (0.5, [False, False, False, True, True, True, False, False, False, False]),
    (10, [True, False, False, True, True, False, False, False, False, False]),
    (-1, [True, False, False, True, False, False, False, False, False, False]),
    (1e300, [False, False, False, True, True, False, False, False, False, False]),
    (2.0**53, [False, False, False, True, True, False, False, False, False, False]),
    (True, [False] * 8 + [True, True]),
    (False, [False] * 8 + [True, False]),
    ("1", [False] * 6 + [True, True, False, False]),
    ("true", [False] * 6 + [True, True, False, False]),
    (" 1\n", [False] * 6 + [True, True, False, False]),
    ("28", [False] * 6 + [True, False, False, False]),
    ("None", [False] * 6 + [True, True, False, False]),
    ("", [False] * 10),
    (" ", [False] * 10),
    ([1], [False] * 10),
    ({"x": 1}, [False] * 10),
    (float("nan"), [False] * 10),
    (float("inf"), [False] * 10),
    (float("-inf"), [False] * 10),
]


@pytest.mark.parametrize(("value", "by_column"), TAKEN, ids=lambda value: repr(value)[:20])
def test_which_values_are_of_which_type(value: object, by_column: list[bool]) -> None:
    assert [accepts(column, value) for column in KINDS] == by_column


@pytest.mark.parametrize("column", KINDS[:3], ids=str)
def test_a_whole_number_written_as_a_float_becomes_an_int(column: dict[str, Any]) -> None:
    value = taken(table({"x": column}), {"x": 1.0})["x"]
    assert (value, type(value)) == (1, int)


@pytest.mark.parametrize("column", [{"dtype": "int"}, {"dtype": "int", "minimum": -1e30, "maximum": 1e30}], ids=str)
def test_ints_have_64_bits(column: dict[str, Any]) -> None:
    assert accepts(column, INT64_MAX)
    assert accepts(column, INT64_MIN)
    assert not accepts(column, INT64_MAX + 1)
    assert not accepts(column, INT64_MIN - 1)
    assert not accepts(column, 10**400)


def test_a_number_that_no_float_can_hold() -> None:
    assert not accepts({"dtype": "float"}, 10**400)
    with pytest.raises(ValidationError):
        request_model(table({"x": {"dtype": "float"}}), 1).model_validate_json('{"rows": [{"x": 1e999}]}')


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\udc00\\ud800"'])
def test_half_a_character_is_no_text(text: str) -> None:
    with pytest.raises(ValidationError):
        request_model(table({"x": {"dtype": "string"}}), 1).model_validate_json(f'{{"rows": [{{"x": {text}}}]}}')


def test_blanks_are_dropped_as_the_schema_says() -> None:
    column = {"dtype": "string"}
    assert taken(table({"x": column}), {"x": "\u2003 a b\t"}) == {"x": "a b"}
    assert taken(table({"x": column}, strip=False), {"x": " a "}) == {"x": " a "}


def test_texts_that_stand_for_missing_values_are_null() -> None:
    column = {"dtype": "string", "nullable": True}
    schema = table({"x": column}, null_values=["NA ", "-"])
    assert [taken(schema, {"x": text})["x"] for text in ("NA", " NA", "-", "", "na")] == [None, None, None, "", "na"]
    assert not accepts({"dtype": "string"}, "NA", null_values=["NA"])


NAMES = [
    "a b",
    "a.b",
    "a-b",
    "_x",
    "model_config",
    "model_dump",
    "rows",
    "self",
    "class",
    "1",
    "é",
    "'\"`",
    "$ref",
    "\\",
]


def test_columns_may_have_any_name() -> None:
    schema = table({name: {"dtype": "int", "description": name} for name in NAMES})
    row = {name: number for number, name in enumerate(NAMES)}
    assert taken(schema, row) == row
    document = request_model(schema, 1).model_json_schema()["$defs"]["CustomerRow"]
    assert list(document["properties"]) == document["required"] == NAMES
    with pytest.raises(ValidationError):
        taken(schema, {"a": {"b": 1}, **row})


# --- the document -----------------------------------------------------------------------------------------------------


def test_the_document_says_what_a_column_is() -> None:
    document = REQUEST.model_json_schema()
    row = document["$defs"]["CustomerRow"]
    assert row["additionalProperties"] is False
    assert row["required"] == list(row["properties"]) == list(GOOD)
    assert row["properties"]["Age"] == {
        "title": "Age",
        "type": "integer",
        "minimum": 18,
        "maximum": 120,
        "description": "Age of the customer, in years",
        "examples": [69],
        "x-unit": "years",
    }
    assert row["properties"]["Driving_License"]["enum"] == [0, 1]
    assert row["properties"]["Vehicle_Age"]["enum"] == ["< 1 Year", "1-2 Year", "> 2 Years"]
    rows = document["properties"]["rows"]
    assert (rows["minItems"], rows["maxItems"]) == (1, 3)
    assert rows["examples"] == [row["examples"]] == [[example_row(INSURANCE)]]


def test_the_document_says_that_a_column_may_be_null() -> None:
    document = request_model(table({"x": {"dtype": "int", "nullable": True}}), 1).model_json_schema()
    row = document["$defs"]["CustomerRow"]
    assert "required" not in row
    assert row["properties"]["x"]["default"] is None
    assert {"type": "null"} in row["properties"]["x"]["anyOf"]


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (KINDS[0], "a whole number"),
        (KINDS[1], "a whole number from 1 to 9"),
        (KINDS[2], "one of 0, 1"),
        ({"dtype": "int", "minimum": 0}, "a whole number of at least 0"),
        ({"dtype": "int", "maximum": 7}, "a whole number of at most 7"),
        ({"dtype": "float", "minimum": 0.25, "maximum": 1}, "a number from 0.25 to 1"),
        ({"dtype": "float", "maximum": 1e300}, "a number of at most 1e+300"),
        ({"dtype": "string", "nullable": True}, "a text or null"),
        (KINDS[8], "true or false"),
        (KINDS[9], "true"),
        ({"dtype": "int", "values": list(range(20))}, "one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 8 more"),
    ],
    ids=str,
)
def test_what_is_expected_in_words(column: dict[str, Any], text: str) -> None:
    assert expected(table({"x": column}).columns["x"]) == text


# --- any schema, any value --------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
COLUMN_NAMES = TEXTS.filter(lambda name: name == name.strip() and name and not name.startswith("__")).filter(
    lambda name: name != "the target"
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | TEXTS | st.integers(-3, 3)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    dtype = draw(st.sampled_from(["int", "float"]))
    edges = st.integers(-(10**6), 10**6).map(float) if dtype == "int" else FINITE
    low, high = sorted((draw(edges), draw(edges)))
    column: dict[str, Any] = {"dtype": dtype}
    return column | draw(st.sampled_from([{}, {"minimum": low}, {"maximum": high}, {"minimum": low, "maximum": high}]))


@st.composite
def choices(draw: st.DrawFn) -> dict[str, Any]:
    dtype = draw(st.sampled_from(["int", "float", "string", "bool"]))
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "int": st.integers(-5, 5),
        "float": st.sampled_from([0.5, 1.5, -2.0, 3.0]),
        "string": TEXTS.map(str.strip).filter(bool),
        "bool": st.booleans(),
    }
    return {"dtype": dtype, "values": draw(st.lists(kinds[dtype], min_size=1, max_size=4, unique=True))}


COLUMNS = st.one_of(numbers(), choices(), st.sampled_from([{"dtype": "string"}, {"dtype": "bool"}]))


@given(st.dictionaries(COLUMN_NAMES, COLUMNS, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_the_example_of_any_schema_is_taken(columns: dict[str, dict[str, Any]]) -> None:
    schema = table(columns)
    row = example_row(schema)
    assert taken(schema, row) == row


@given(COLUMNS, st.booleans(), SCALARS)
@example({"dtype": "string"}, False, "\x1c")
@example({"dtype": "string"}, True, "\x85 \u3000")
@example({"dtype": "int"}, False, 2.0**53)
@example({"dtype": "int"}, False, -(2.0**53) + 1)
@settings(max_examples=200, deadline=None)
def test_what_is_taken_is_what_ingest_and_validate_would_make_of_it(
    column: dict[str, Any], nullable: bool, value: Any
) -> None:
    schema = table({"x": {**column, "nullable": nullable}})
    try:
        [mapping] = request_model(schema, 1).model_validate_json(to_json({"rows": [{"x": value}]})).mappings()
    except ValidationError:
        return
    frame = pl.DataFrame({"x": [value], "the target": [1]})
    typed = conform.conform(frame, schema, 0)
    assert typed.unparsed.is_empty()
    assert (typed.rows["x"][0], type(typed.rows["x"][0])) == (mapping["x"], type(mapping["x"]))
    rows = typed.rows.lazy().with_columns(pl.lit(False).alias(checks.UNPARSED))
    rules = checks.checks(schema, [])
    assert not rows.select(checks.any_broken(rules)).collect().item()


@given(st.dictionaries(st.sampled_from([*GOOD, "id", "x"]), SCALARS, max_size=12))
@settings(max_examples=100, deadline=None)
def test_no_row_is_more_than_refused(row: dict[str, Any]) -> None:
    try:
        REQUEST.model_validate_json(to_json({"rows": [row]}))
    except ValidationError as error:
        assert {e["loc"][:2] for e in error.errors()} == {("rows", 0)}  # noqa: PT017
