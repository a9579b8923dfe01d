"""A request that the request model has refused -> an answer that names row, column and rule."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from vehins.serving.answers import BadCell, Fault, RefusedAnswer
from vehins.serving.requests import BLANKS, INT64_MAX, INT64_MIN, LONGEST, expected, is_nested, is_too_long

if TYPE_CHECKING:
    from vehins.data.schema import TableSchema
    from vehins.serving.requests import PredictRequest

SHOWN = 20
_SHOWN_CHARACTERS = 60
# A row of nothing but strange columns is not worth a list of them.
_STRANGERS = 100
_FORM = 'Send one JSON object: {"rows": [{...}, ...]}. `/docs` shows an example.'
_FEWER = "Send the rows in several requests; whoever runs the service can raise `serve.max_rows`."
_COLUMNS = "`GET /v1/model` lists the columns and what each may hold."


def refusal(body: bytes, request: type[PredictRequest], schema: TableSchema, max_rows: int) -> RefusedAnswer:
    """Say what is wrong with a refused body.

    The model stops at the first bad row. This looks again, row by row, until it has found enough to show: ten thousand
    bad rows cost no more than a few.
    """
    if request.is_crowded(body):
        detail = f"It has far more than the {max_rows:,} rows that are taken can have."
        return _of_body("Too many values in one request", detail, _FEWER)
    try:
        found = from_json(body)
    except ValueError as error:
        return _of_body("The body is not valid JSON", f"{error}.", _FORM)
    fault = _body_fault(found, max_rows)
    if fault is not None:
        return _of_body(*fault)
    cells: list[BadCell] = []
    for number, row in enumerate(found["rows"]):
        cells += row_faults(number, row, request, schema)
        if len(cells) >= SHOWN:
            break
    return _of_rows(cells)


def _of_body(headline: str, detail: str, hint: str) -> RefusedAnswer:
    return RefusedAnswer(error=Fault(headline=headline, detail=detail, hint=hint), rows=[])


def _body_fault(found: Any, max_rows: int) -> tuple[str, str, str] | None:
    """What is wrong around the rows: headline, detail, hint."""
    if not isinstance(found, dict):
        return "The body is not of the right form", f"It is {shown(found)}, not a JSON object.", _FORM
    strange = next((name for name in found if name != "rows"), None)
    if strange is not None:
        return "The body has a field too many", f"It has `{_short(strange)}`; it takes `rows` and nothing else.", _FORM
    rows = found.get("rows", [])
    if not isinstance(rows, list):
        return "The body is not of the right form", f"`rows` is {shown(rows)}, not a list.", _FORM
    if not rows:
        detail = f"`rows` is {'an empty list' if 'rows' in found else 'missing'}."
        return "There are no rows in the request", detail, _FORM
    if len(rows) > max_rows:
        return "Too many rows in one request", f"It has {len(rows):,}; at most {max_rows:,} are taken.", _FEWER
    return None


def row_faults(number: int, row: Any, request: type[PredictRequest], schema: TableSchema) -> list[BadCell]:
    """What is wrong with a row, the one of this number in its request."""
    if isinstance(row, dict) and len(row) > len(schema.features) + _STRANGERS:
        return [
            BadCell(row=number, column=None, value=None, rule=f"has {len(row):,} columns, far more than this model")
        ]
    if isinstance(row, dict):
        row = flat = {name[:LONGEST]: _flat(value, schema) for name, value in row.items()}
    else:
        flat = type(row)()
    try:
        request.model_validate_json(to_json({"rows": [flat]}))
    except ValidationError as error:
        return [_bad_cell(number, row, item, schema) for item in error.errors(include_url=False, include_context=False)]
    return []


def _flat(value: Any, schema: TableSchema) -> Any:
    """What is as right or wrong as a value, and small: errors have copies of what they are about."""
    if is_nested(value):
        return type(value)()
    if not is_too_long(value):
        return value
    text = value.strip(BLANKS) if schema.strip else value
    return f"{text[:LONGEST]}…"  # the mark, as what is left might be right


def _bad_cell(number: int, row: Any, item: Any, schema: TableSchema) -> BadCell:
    where = item["loc"][2:]  # after ("rows", 0)
    if not where:
        rule = f"must be a JSON object of columns and their values, not {shown(row)}"
        return BadCell(row=number, column=None, value=None, rule=rule)
    name = str(where[0])
    value = shown(row[name]) if name in row else None
    return BadCell(row=number, column=_short(name), value=value, rule=_rule(item["type"], name, row, schema))


def _rule(kind: str, name: str, row: dict[str, Any], schema: TableSchema) -> str:
    if kind == "extra_forbidden":
        return _unknown(name, schema)
    column = schema.features[name]
    if kind == "missing":
        return f"is missing: must be {expected(column)}"
    value = row[name]  # as it was sent; what pydantic calls the input has been cleaned
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if column.dtype == "int" and is_whole and not INT64_MIN <= value <= INT64_MAX:
        return "must be a whole number of 64 bits at most"
    return f"must be {expected(column)}, not {shown(value)}"


def _unknown(name: str, schema: TableSchema) -> str:
    known = schema.columns.get(name)
    if known is not None:
        reasons = {"target": "it is what the model predicts", "key": "the model does not look at who a customer is"}
        return f"must be left out: {reasons.get(known.role, 'the model does not look at it')}"
    near = schema.nearest(name[:_SHOWN_CHARACTERS])
    return "is not a column of this model" + (f"; did you mean `{near}`?" if near in schema.features else "")


def _of_rows(cells: list[BadCell]) -> RefusedAnswer:
    first = cells[0]
    place = f"row {first.row}" + (f", column `{first.column}`" if first.column is not None else "")
    count = f"{SHOWN} or more faults" if len(cells) >= SHOWN else f"{len(cells)} fault{'s' if len(cells) > 1 else ''}"
    end = "" if first.rule.endswith("?") else "."
    fault = Fault(headline=f"{count} in the rows", detail=f"The first is in {place}: {first.rule}{end}", hint=_COLUMNS)
    return RefusedAnswer(error=fault, rows=cells[:SHOWN])


def shown(value: object) -> str:
    """A value as the client wrote it, cut short."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        value = value[:_SHOWN_CHARACTERS]  # to be written within quotes, so that it still shows where it was cut
    return _short(json.dumps(value, ensure_ascii=False))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
