"""Filters of MongoDB: the user's, and those that lead on from a document or a moment."""

from __future__ import annotations

import datetime as dt
from typing import Any

from vehins.errors import SettingsError
from vehins.masking import masked

_CODE = {"$where", "$function", "$accumulator"}
_ORDERED = ["number", "string", "objectId", "date", "timestamp"]


def chosen(query: str | None) -> dict[str, Any]:
    """The filter that ``--query`` has in extended JSON; none finds every document.

    Raises:
        SettingsError: it is no filter, or would run code on the server.
    """
    from bson import json_util

    if query is None:
        return {}
    hint = """Write a filter in extended JSON: `--query '{"Age": {"$gt": 30}}'`."""
    try:
        found = json_util.loads(query)
    except Exception as error:  # it raises whatever the constructors of BSON's types do
        raise SettingsError("The query is no extended JSON", detail=f"{masked(str(error))}.", hint=hint) from None
    if not isinstance(found, dict):
        raise SettingsError("The query is no filter", detail="A filter is an object.", hint=hint)
    _refuse_code(found, hint)
    return found


def _refuse_code(part: Any, hint: str) -> None:
    if isinstance(part, dict):
        wrong = next((name for name in part if name in _CODE), None)
        if wrong:
            raise SettingsError("The query would run code on the server", detail=f"By `{wrong}`.", hint=hint)
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            _refuse_code(inner, hint)


def both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The documents that two filters find."""
    return {"$and": [first, second]} if first else second


def behind(identity: Any) -> dict[str, Any]:
    """The documents whose ``_id`` comes after this one in the order in which they are sorted.

    `{_id: {$gt: x}}` would find those with an ``_id`` of the same type alone; expressions compare in the order of all
    types, which is that of the sort.
    """
    return {"$expr": {"$gt": ["$_id", {"$literal": identity}]}}


def not_before(field: str, mark: Any) -> dict[str, Any]:
    """The documents whose field does not say that they are older than the mark.

    So also those without the field or with a value of another type, which nothing can be told from. Of an array, one
    old element would be enough to be found by `$lt`.
    """
    return {"$or": [{field: {"$not": {"$lt": mark}}}, {field: {"$type": "array"}}]}


def orderly(field: str, until: dt.datetime | None = None) -> dict[str, Any]:
    """The documents whose field has one value with an order, which is not after ``until``."""
    found: dict[str, Any] = {field: {"$type": _ORDERED, "$not": {"$type": "array"}}}
    return found if until is None else both(found, {field: {"$lte": until}})


def check_field(field: str) -> None:
    """Raise `SettingsError` unless a text can be the path of a field."""
    if "\0" in field or not all(part and not part.startswith("$") for part in field.split(".")):
        raise SettingsError(
            f"`{field}` cannot be a field of a document",
            detail="A field has no `$` in front and no empty part.",
            hint="Name the field that tells when a document changed: `--since updated_at`.",
        )


def written(mark: Any) -> str:
    """A value in extended JSON."""
    from bson import json_util

    return json_util.dumps(mark, json_options=json_util.RELAXED_JSON_OPTIONS)


def read_back(mark: str) -> Any:
    """The value of `written`."""
    from bson import json_util
    from bson.codec_options import DatetimeConversion

    options = json_util.JSONOptions(tz_aware=False, datetime_conversion=DatetimeConversion.DATETIME_AUTO)
    return json_util.loads(mark, json_options=options)
