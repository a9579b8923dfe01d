"""The table schema as the model of a request: what a row may hold is checked before the model sees it.

Types are strict, as JSON has its own: a number in quotes is a text, and true is not 1. Three liberties are taken, each
the same that `ingest` takes: a whole number may be written 28.0, blanks around a text are dropped, and a text that
stands for a missing value is null.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, ValidationError, create_model
from pydantic_core import from_json

from vehins.data.schema import Column, Dtype, Scalar, TableSchema
from vehins.serving import quick
from vehins.serving.quick import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import SchemaValidator

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# What polars strips in `ingest`; Python's own strip() takes four control characters more.
BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_SHOWN_VALUES = 12
# Values beyond those of the largest request that are read to say what is wrong; of 165 bytes each at the worst. Whoever
# sends the 40,000 rows of ten columns that 8 MiB have room for is told that they are too many.
_SPARE_VALUES = 2**19
LONGEST = 32 * 1024
"""Characters of a text beyond which it is not worth to be looked at as a whole."""
_TYPES: dict[Dtype, type] = {"int": int, "float": float, "string": str, "bool": bool}
_WORDS: dict[Dtype, str] = {"int": "a whole number", "float": "a number", "string": "a text", "bool": "true or false"}


class PredictRequest(BaseModel):
    """Customers to predict."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    def mappings(self) -> list[dict[str, Scalar | None]]:
        """The rows by the names of their columns, as a predictor takes them."""
        rows: list[dict[str, Scalar | None]] = self.model_dump(by_alias=True)["rows"]
        return rows

    @classmethod
    def is_plain(cls, body: bytes) -> bool:
        """Whether a JSON text has no more values than the largest request, no lists in its rows and no very long text.

        So it is with nearly every request, and such a one can be read many times over without harm.
        """
        is_flat = body.find(b"[") == body.rfind(b"[")  # takes no time, while to count takes a nanosecond for each byte
        has_quotes = all(body.find(b'"', at, at + LONGEST) >= 0 for at in range(0, len(body) - LONGEST, LONGEST))
        few = cls.most_values
        return is_flat and has_quotes and body.count(b",") <= few and body.count(b":") <= few

    @classmethod
    def is_crowded(cls, body: bytes) -> bool:
        """Whether a JSON text has more values than can be read, be it only to say what is wrong with them.

        Each has a comma before it or is the first in its list or object; signs within texts are counted as well.
        """
        return sum(map(body.count, (b",", b"[", b"{"))) > cls.most_values + _SPARE_VALUES

    @classmethod
    def is_bloated(cls, body: bytes) -> bool:
        """Whether a large JSON text is no such request, and has what would take too much memory to be validated.

        A name that is not known costs an error of 600 bytes, as often as it stands there. What is nested is read into
        a tree whose lists take 300 bytes each, be they empty. An error has copies of what it is about: a text, or all
        the rows where they are too many. What is no JSON needs no validation either.
        """
        if cls.is_crowded(body):
            return True
        try:
            found = from_json(body)
        except ValueError:
            return True
        if not isinstance(found, dict) or found.keys() != {"rows"} or not isinstance(found["rows"], list):
            return True
        rows = found["rows"]
        return len(rows) > cls.most_rows or not all(isinstance(row, dict) and cls._is_slim(row) for row in rows)

    @classmethod
    def _is_slim(cls, row: dict[str, Any]) -> bool:
        return row.keys() <= cls.names and not any(
            is_nested(value) or (is_too_long(value) and name not in cls.free_texts) for name, value in row.items()
        )

    quick: ClassVar[SchemaValidator]
    names: ClassVar[frozenset[str]]
    free_texts: ClassVar[frozenset[str]]
    """Names of the columns that may hold any text."""
    most_rows: ClassVar[int]
    most_values: ClassVar[int]
    """In a request of the largest number of rows; as many names, too."""

    @classmethod
    def read(cls, body: bytes) -> list[dict[str, Scalar | None]]:
        """The rows of a JSON text, as `mappings` has them.

        Raises:
            ValidationError: it is no such request.
        """
        # Read as JSON in one go with the checks: quicker than by way of Python's own parser, and stricter.
        with suppress(ValidationError):
            rows: list[dict[str, Scalar | None]] = cls.quick.validate_json(body)["rows"]
            return rows
        return cls.model_validate_json(body).mappings()


def is_nested(value: Any) -> bool:
    """Whether it is no value of a column, of whatever type."""
    return isinstance(value, list | dict)


def is_too_long(value: Any) -> bool:
    """Whether it is a text that no list of allowed values has, as it is too long for that."""
    return isinstance(value, str) and len(value) > LONGEST and len(value.strip(BLANKS)) > LONGEST


def request_model(schema: TableSchema, max_rows: int) -> type[PredictRequest]:
    """Make the model of a request for 1 to ``max_rows`` rows of a table's feature columns.

    Columns that are not features are refused, a nullable one may be left out. Names of columns may be any text: the
    fields are called c0, c1, ... and the names are their aliases.
    """
    fields: dict[str, Any] = {
        f"c{number}": _field(name, column, schema) for number, (name, column) in enumerate(schema.features.items())
    }
    example: dict[str, Any] = {**example_row(schema)}
    row = create_model(
        "CustomerRow",
        __config__=ConfigDict(**PredictRequest.model_config, json_schema_extra={"examples": [example]}),
        __doc__=schema.description or f"A row of {schema.name}.",
        **fields,
    )
    rows = Field(min_length=1, max_length=max_rows, description="Customers, each a JSON object.", examples=[[example]])
    made = create_model("PredictRequest", __base__=PredictRequest, rows=(Annotated[list[row], FailFast()], rows))
    made.names = frozenset(schema.features)
    made.free_texts = frozenset(n for n, column in schema.features.items() if _is_free_text(column))
    made.most_rows, made.most_values = max_rows, max_rows * len(schema.features) + 1
    made.quick = quick.validator(schema, max_rows, lambda column: _annotation(column, schema), bounds)
    return made


def _is_free_text(column: Column) -> bool:
    return column.dtype == "string" and column.values is None


def _field(name: str, column: Column, schema: TableSchema) -> tuple[Any, Any]:
    extra: dict[str, Any] = {"x-unit": column.unit} if column.unit else {}
    about = Field(
        default=None if column.nullable else ...,
        alias=name,
        description=_description(column),
        examples=[_example(column)],
        json_schema_extra=extra,
    )
    return _annotation(column, schema), about


def _description(column: Column) -> str:
    unit = f"in {column.unit}" if column.unit else ""
    return ", ".join(filter(None, (column.description, unit)))


def _annotation(column: Column, schema: TableSchema) -> Any:
    """The type of a column, with its checks; what comes first is cleaned, then checked."""
    kind: Any = _range(column) if column.values is None else _choice(column)
    kind = kind | None if column.nullable else kind
    clean = _cleaner(column.dtype, schema)
    return kind if clean is None else Annotated[kind, BeforeValidator(clean)]


def _range(column: Column) -> Any:
    """The plain type within its bounds."""
    kind, (low, high) = _TYPES[column.dtype], bounds(column)
    return kind if low is None and high is None else Annotated[kind, Field(ge=low, le=high)]


def _choice(column: Column) -> Any:
    """One of the allowed values; a Literal alone would take true for 1, as Python holds them equal."""
    is_bool, is_float = column.dtype == "bool", column.dtype == "float"
    kinds = (int, float) if is_float else _TYPES[column.dtype]

    def check(value: Any) -> Any:
        if not isinstance(value, kinds) or isinstance(value, bool) != is_bool:
            raise ValueError("of another type")
        return value

    values = tuple(float(value) if is_float else value for value in column.values or [])
    return Annotated[Literal[values], BeforeValidator(check)]


def bounds(column: Column) -> tuple[float | None, float | None]:
    """The least and the greatest value of a column; whole numbers within 64 bits for an int."""
    low, high = column.minimum, column.maximum
    if column.dtype != "int":
        return low, high
    least = INT64_MIN if low is None else max(math.ceil(low), INT64_MIN)
    greatest = INT64_MAX if high is None else min(math.floor(high), INT64_MAX)
    return least, greatest


def _cleaner(dtype: Dtype, schema: TableSchema) -> Callable[[Any], Any] | None:
    """What `ingest` does to a raw value of this type before it is checked."""
    if dtype == "int":
        return _whole
    if dtype != "string":
        return None
    strip, missing = schema.strip, frozenset(schema.missing_texts)

    def clean(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = value.strip(BLANKS) if strip else value
        return None if text in missing else text

    return clean


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return int(value)
    return value


def example_row(schema: TableSchema) -> dict[str, Scalar]:
    """A row that shows the form."""
    return {name: _example(column) for name, column in schema.features.items()}


def _example(column: Column) -> Scalar:
    if column.values is not None:
        return column.values[0]
    if column.dtype == "bool":
        return True
    if column.dtype == "string":
        return "text"
    low, high = column.minimum, column.maximum
    if low is not None and high is not None:
        amount = low / 2 + high / 2
    else:
        amount = low if low is not None else high if high is not None else 0.0
    if column.dtype == "float":
        return amount
    least, greatest = bounds(column)
    return int(min(max(round(amount), least or 0), greatest or 0))


def expected(column: Column) -> str:
    """What a column may hold, in words that follow "must be"."""
    nothing = " or null" if column.nullable else ""
    if column.values is not None:
        values = column.values
        few = ", ".join(_word(value) for value in values[:_SHOWN_VALUES])
        more = f" and {len(values) - _SHOWN_VALUES:,} more" if len(values) > _SHOWN_VALUES else ""
        return ("one of " if len(values) > 1 else "") + few + more + nothing
    return _WORDS[column.dtype] + _limits(column) + nothing


def _word(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _limits(column: Column) -> str:
    low, high = map(_plain, bounds(column))
    if column.minimum is not None and column.maximum is not None:
        return f" from {low} to {high}"
    if column.minimum is not None:
        return f" of at least {low}"
    return f" of at most {high}" if column.maximum is not None else ""


def _plain(edge: float | None) -> str:
    """A bound as a person writes it: 18, not 18.0."""
    return str(int(edge)) if isinstance(edge, float) and edge.is_integer() and abs(edge) < EXACT else str(edge)
