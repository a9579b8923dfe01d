"""The request model once more, for the rows that need no cleaning: without a call of Python for each value.

What this accepts the request model accepts, with the same values; what it refuses, such as a text with blanks around
it, the request model has yet to judge. So it is worth a try before that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic_core import SchemaValidator, core_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import CoreSchema

    from vehins.data.schema import Column, TableSchema


EXACT = 2**53
"""From here on a float no longer tells one integer from the next."""
_STRICT = core_schema.CoreConfig(strict=True, allow_inf_nan=False)


def validator(
    schema: TableSchema,
    max_rows: int,
    annotation: Callable[[Column], Any],
    bounds: Callable[[Column], tuple[float | None, float | None]],
) -> SchemaValidator:
    """Make a check that gives the rows as they are: ``{"rows": [{name: value}]}``.

    Args:
        annotation: the type of a column in the request model, for those that cannot do without Python.
        bounds: the least and the greatest value of a column.
    """

    def field(column: Column) -> core_schema.TypedDictField:
        found = _plain(column, bounds(column)) or TypeAdapter(annotation(column)).core_schema
        if column.nullable:
            found = core_schema.with_default_schema(core_schema.nullable_schema(found), default=None)
        return core_schema.typed_dict_field(found, required=not column.nullable)

    row = _exactly({name: field(column) for name, column in schema.features.items()})
    rows = core_schema.list_schema(row, min_length=1, max_length=max_rows, fail_fast=True)
    form = _exactly({"rows": core_schema.typed_dict_field(rows)})
    return SchemaValidator(form)


def _exactly(fields: dict[str, core_schema.TypedDictField]) -> CoreSchema:
    return core_schema.typed_dict_schema(fields, extra_behavior="forbid", config=_STRICT)  # inherited by none


def _whole(low: float | None, high: float | None) -> CoreSchema:
    """A whole number, also one that is written 28.0, as tools write it that know no missing integers."""
    bounds: dict[str, Any] = {"ge": low, "le": high}
    written = core_schema.float_schema(gt=-EXACT, lt=EXACT)
    as_float = core_schema.chain_schema([written, core_schema.int_schema(strict=False, **bounds)])
    # In this order neither way of writing a number begins with an error, which costs more than the rest.
    return core_schema.union_schema([as_float, core_schema.int_schema(**bounds)], mode="left_to_right")


def _plain(column: Column, bounds: tuple[float | None, float | None]) -> CoreSchema | None:
    """The check of a column that needs no Python; None when there is none."""
    low, high = bounds
    if column.dtype == "int":
        number = _whole(low, high)
        if column.values is None:
            return number
        return core_schema.chain_schema([number, core_schema.literal_schema(list(column.values))])
    if column.values is None:
        plain = {"float": core_schema.float_schema(ge=low, le=high), "bool": core_schema.bool_schema()}
        return plain.get(column.dtype)
    return core_schema.literal_schema(list(column.values)) if column.dtype == "string" else None
