"""Documents -> columns of polars. What has no defined conversion is set beside its column, as text to be shown.

A column of one plain type keeps it. Numbers of both kinds are one type where that loses nothing. Anything else becomes
text as the schema's types are read from it (`conform`). What no type of the schema can hold (an array, a document, a
regular expression) becomes null, and its text stands in a column of its own: `conform.UNREAD`.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from vehins.data.conform import ID, UNREAD

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import Dtype, TableSchema

Document = dict[str, Any]
EXACT = 2**53
"""From here on a float no longer tells one integer from the next."""
_SHOWN = 200


def codec() -> Any:
    """How BSON is decoded: no text and no date makes it fail."""
    from bson.codec_options import CodecOptions, DatetimeConversion

    return CodecOptions(
        unicode_decode_error_handler="backslashreplace", datetime_conversion=DatetimeConversion.DATETIME_AUTO
    )


def roots(paths: Iterable[str]) -> list[str]:
    """The outermost fields: asked for `a.b`, a server leaves out a document's `a` that is no document, unseen."""
    return list(dict.fromkeys(path.partition(".")[0] for path in paths))


def frame(documents: Sequence[Document], paths: dict[str, str], schema: TableSchema, *, identify: bool) -> pl.DataFrame:
    """Documents as columns; ``paths`` tells where each column is kept.

    The column ``__id__`` has the ``_id`` of documents whose key may turn out to be missing; ``identify`` asks for all.
    """
    import polars as pl

    found = [
        series
        for name, values in _columns(documents, paths)
        for series in _series(name, values, schema.columns[name].dtype)
    ]
    columns = {series.name: series for series in found}
    wanted = identify or may_lack_key(columns, schema)
    texts = [identity(document.get("_id")) for document in documents] if wanted else [None] * len(documents)
    return pl.DataFrame([*found, pl.Series(ID, texts, dtype=pl.String)])


def may_lack_key(columns: dict[str, pl.Series], schema: TableSchema) -> bool:
    """Whether the key of some row may be missing or not of its type."""
    import polars as pl

    name = schema.key or ""
    key = columns.get(name)
    if key is None or key.null_count() or UNREAD + name in columns:
        return True
    if schema.columns[name].dtype == "int":
        return key.dtype != pl.Int64
    return key.dtype != pl.String or bool(key.str.strip_chars().is_in(schema.missing_texts).any())


def identity(value: Any) -> str:
    """An ``_id`` as text: an ObjectId's digits, anything else in extended JSON, so that `5` and `"5"` differ."""
    from bson import ObjectId, json_util

    if isinstance(value, ObjectId):
        return str(value)
    if type(value) is str:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:  # the same `_id` to MongoDB
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value))
    return json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS)


def _columns(documents: Sequence[Document], paths: dict[str, str]) -> Iterable[tuple[str, Sequence[Any]]]:
    """The values of each column."""
    plain = [name for name, path in paths.items() if "." not in path]
    found: dict[str, Sequence[Any]] = {}
    if len(plain) > 1:
        fields = itemgetter(*(paths[name] for name in plain))
        try:  # twice as quick, where no document lacks a field
            found = dict(zip(plain, zip(*map(fields, documents), strict=True), strict=True))
        except (KeyError, ValueError):
            found = {}
    for name, path in paths.items():
        yield name, found[name] if name in found else [at(document, path) for document in documents]


class InTheWay:
    """A value where a path goes on; it is no value of the column, and yet must be seen."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def at(document: Document, path: str) -> Any:
    """What stands at a path, or in the way to it."""
    value: Any = document
    for part in path.split("."):
        if not isinstance(value, dict):
            return None if value is None else InTheWay(value)
        value = value.get(part)
    return value


def _series(name: str, values: Sequence[Any], dtype: Dtype) -> list[pl.Series]:
    """A column; behind it, if need be, the column of what has no conversion."""
    import bson.int64
    import polars as pl

    kinds = set(map(type, values)) - {type(None)}
    whole = {int, bson.int64.Int64}
    if kinds <= whole:
        return [pl.Series(name, values, dtype=pl.Int64)]
    for kind, plain in ((float, pl.Float64()), (bool, pl.Boolean()), (str, pl.String())):
        if kinds == {kind}:
            return [pl.Series(name, values, dtype=plain)]
    if kinds <= {*whole, float} and dtype != "bool" and all(_is_exact(value) for value in values):
        return [pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)]
    return _mixed(name, values, dtype)


def _is_exact(value: float | None) -> bool:
    return value is None or abs(value) < EXACT or type(value) is float


def _mixed(name: str, values: Sequence[Any], dtype: Dtype) -> list[pl.Series]:
    import polars as pl

    texts: list[str | None] = []
    unread: list[str | None] = []
    for value in values:
        try:
            texts.append(_text(value, dtype))
            unread.append(None)
        except TypeError:
            texts.append(None)
            unread.append(_shown(value))
    found = [pl.Series(name, texts, dtype=pl.String)]
    return [*found, pl.Series(UNREAD + name, unread, dtype=pl.String)] if any(unread) else found


def _shown(value: Any) -> str:
    text = value.decode(errors="backslashreplace") if type(value) is bytes else repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _text(value: Any, dtype: Dtype) -> str | None:
    """A value as `conform` reads it.

    Raises:
        TypeError: it has no conversion.
    """
    if value is None or type(value) is str:
        return value
    if isinstance(value, bool):
        return str(int(value)) if dtype in {"int", "float"} else str(value).lower()
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float_text(value)
    return _special(value, dtype)


def _float_text(value: float) -> str | None:
    """A float as polars writes it."""
    import polars as pl

    if math.isnan(value):
        return None
    if value.is_integer() and abs(value) < EXACT:
        return str(int(value))
    return str(pl.Series([value]).cast(pl.String)[0])


def _special(value: Any, dtype: Dtype) -> str | None:
    """The types that MongoDB has beside those of JSON."""
    from bson import Binary, Decimal128, ObjectId
    from bson.binary import UUID_SUBTYPE

    if isinstance(value, Decimal128):
        return None if value.to_decimal().is_nan() else str(value)
    if isinstance(value, dt.datetime):
        return value.isoformat(" ", "milliseconds" if value.microsecond else "seconds")
    if isinstance(value, ObjectId) and dtype == "string":  # its digits may look like a number
        return str(value)
    if type(value) is Binary and value.subtype == UUID_SUBTYPE:
        return str(value.as_uuid())
    if type(value) is bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise TypeError("bytes that are no text") from None
    raise TypeError(f"no conversion of {type(value).__name__}")
