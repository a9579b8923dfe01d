"""Texts that a person wrote, in a form or a CSV -> the values that the request model checks."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError
from pydantic_core import to_json

from vehins.serving.quick import EXACT
from vehins.serving.refusals import SHOWN, row_faults
from vehins.serving.requests import BLANKS, bounds, expected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vehins.data.schema import Column, Scalar, TableSchema
    from vehins.serving.holder import Ready

# Just what `ingest` reads as a number; Python's float() would take 1_000 and other scripts' digits as well.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
_TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_LONGEST_NUMBER = 400
Row = dict[str, "Scalar | None"]


class Wrong(NamedTuple):
    """A value that cannot be used."""

    column: str
    value: str
    """As it was written."""
    rule: str
    """What it breaks, in words that follow the name of the column."""


def value(text: str, column: Column, table: TableSchema) -> Scalar | None:
    """What a text stands for, as `ingest` reads a CSV; of another type, it stays a text, to be refused later."""
    text = text.strip(BLANKS) if table.strip else text
    if text in table.missing_texts:
        return None
    if column.dtype == "string":
        return text
    if column.dtype == "bool":
        return _TRUTHS.get(text.lower(), text)
    return _number(text, column.dtype == "int")


def _number(text: str, is_int: bool) -> Scalar:
    if is_int and _WHOLE.fullmatch(text):
        return int(text)
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return text
    number = float(text)
    if is_int and number.is_integer() and abs(number) < EXACT:
        return int(number)
    return number if math.isfinite(number) else text


def row(texts: Mapping[str, str | None], table: TableSchema) -> Row:
    """The features of one customer; what is not there is missing."""
    return {name: value(texts.get(name) or "", column, table) for name, column in table.features.items()}


def checked(rows: list[Row], ready: Ready) -> list[Row] | None:
    """The rows as the request model cleans them; None when at least one of them cannot be used."""
    try:
        return ready.request.read(to_json({"rows": rows}))
    except ValidationError:
        return None


def faults(found: Row, texts: Mapping[str, str | None], ready: Ready) -> list[Wrong]:
    """What is wrong with a row that is not `checked`, in the order of the columns."""
    table = ready.predictor.table
    rules = {cell.column: cell.rule for cell in row_faults(0, found, ready.request, table)[:SHOWN]}
    return [
        Wrong(name, texts.get(name) or "", _rule(rules[name], found[name], column))
        for name, column in table.features.items()
        if name in rules
    ]


def key_rules(key: Scalar | None, column: Column) -> list[str]:
    """What is wrong with the key of a row, if anything."""
    if key is None:
        return ["is empty"]
    low, high = bounds(column)
    if column.dtype != "int":
        fits = isinstance(key, str)
    else:
        fits = isinstance(key, int) and (low is None or key >= low) and (high is None or key <= high)
    return [] if fits and key in (column.values or [key]) else [f"must be {expected(column)}"]


def _rule(rule: str, found: Scalar | None, column: Column) -> str:
    if found is None:
        return f"is empty: must be {expected(column)}"
    if column.dtype in {"int", "float"} and isinstance(found, str) and re.fullmatch(r"[0-9.,' ]*,[0-9]+", found):
        return f"{rule} (write decimals with a point, and nothing between thousands)"
    return rule
