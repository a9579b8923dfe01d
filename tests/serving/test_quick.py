"""The quick check accepts nothing that the request model refuses, and reads the same values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from serving_models import GOOD

from vehins.data import schema as table_schema
from vehins.data.schema import TableSchema
from vehins.serving.requests import request_model

TABLE = TableSchema.model_validate(
    {
        "name": "everything",
        "null_values": ["", "NA"],
        "columns": {
            "whole": {"dtype": "int"},
            "age": {"dtype": "int", "minimum": 18, "maximum": 120, "nullable": True},
            "code": {"dtype": "int", "values": [0, 1, 7]},
            "amount": {"dtype": "float", "minimum": 0, "nullable": True},
            "free": {"dtype": "float"},
            "step": {"dtype": "float", "values": [0.5, 1.0], "nullable": True},
            "text": {"dtype": "string", "nullable": True},
            "a name": {"dtype": "string", "values": ["a", "b"]},
            "flag": {"dtype": "bool"},
            "yes": {"dtype": "bool", "values": [True], "nullable": True},
            "y": {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1},
        },
    }
)
REQUEST = request_model(TABLE, 3)
ROW: dict[str, Any] = {"whole": 1, "code": 0, "free": 1.5, "a name": "a", "flag": True}
TEXTS = ["a", "b", " a", "a ", "NA", "", "1", "true", "\x1ca", "\xa0b"]
NUMBERS = [0, 1, 7, 18, 28.0, 0.5, -0.0, 121, 1e300, -(2**63), 2**63 - 1, 2**63, 10**30, 2.0**53]
VALUES = st.none() | st.booleans() | st.sampled_from([*TEXTS, *NUMBERS, float("nan"), float("inf"), [], {}])
ROWS = st.lists(
    st.builds(lambda more, less: {k: v for k, v in (ROW | more).items() if k not in less},
              st.dictionaries(st.sampled_from([*TABLE.columns, "x"]), VALUES, max_size=3),
              st.lists(st.sampled_from([*ROW, "none"]), max_size=1)),
    max_size=4,
)  # fmt: skip


def exactly(rows: list[dict[str, Any]]) -> list[list[tuple[str, str]]]:
    """Rows with the types of their values; the order of the columns is no part of them."""
    return [sorted((name, repr(value)) for name, value in row.items()) for row in rows]


@settings(max_examples=600, deadline=None)
@given(ROWS, st.randoms())
@example([ROW | {"code": True}], None)
@example([ROW | {"flag": 1}], None)
@example([ROW | {"a name": " a"}, ROW | {"a name": "a"}], None)
@example([ROW | {"whole": 2**63 - 1, "age": None, "yes": True}], None)
def test_what_is_accepted_quickly_is_what_the_model_reads(rows: list[dict[str, Any]], order: Any) -> None:
    if order is not None:
        rows = [dict(order.sample(list(row.items()), len(row))) for row in rows]
    body = json.dumps({"rows": rows}).encode()
    try:
        quickly = REQUEST.quick.validate_json(body)["rows"]
    except ValidationError:
        return
    assert exactly(quickly) == exactly(REQUEST.model_validate_json(body).mappings())
    assert all(set(row) == set(TABLE.features) for row in quickly)


@pytest.mark.parametrize("more", [{}, {"age": 18, "amount": 3, "step": None, "a name": "b", "yes": None}])
def test_what_needs_no_cleaning_is_accepted_quickly(more: dict[str, Any]) -> None:
    assert REQUEST.quick.validate_json(json.dumps({"rows": [ROW | more]}))["rows"][0].items() >= (ROW | more).items()


def test_customers_as_they_come_are_accepted_quickly() -> None:
    """So that what is promised of its speed holds for those of the packaged schema."""
    request = request_model(table_schema.load("vehicle-insurance"), 1)
    assert request.quick.validate_json(json.dumps({"rows": [GOOD]})) == {"rows": [GOOD]}


@pytest.mark.parametrize("value", [28.0, "NA", "", None])
def test_what_needs_cleaning_is_read_all_the_same(value: object) -> None:
    row = ROW | {"age": value} if value is None or value == 28.0 else ROW | {"text": value}
    [found] = REQUEST.read(json.dumps({"rows": [row]}).encode())
    assert (found["age"], found["text"]) == ((28, None) if value == 28.0 else (None, None))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"rows": []}', b'{"rows": [1]}', b'{"rows": [{}], "x": 1}', b"\xff"])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(ValidationError):
        REQUEST.read(body)
