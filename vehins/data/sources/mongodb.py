"""MongoDB: the documents of a collection, in the order of their ``_id``, decoded batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from vehins.data.sources import ReadOptions
from vehins.errors import SettingsError
from vehins.masking import masked
from vehins.remote import mongodb

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import Dtype, TableSchema
    from vehins.remote.address import Address

SUMMARY = "`mongodb://HOST/DATABASE?collection=NAME` (MongoDB; `mongodb+srv://...` too)"
matches = mongodb.matches
_FETCHED = 10_000
_EXACT = 2**53
_CODE = {"$where", "$function", "$accumulator"}


def open_source(url: str, options: ReadOptions) -> MongoSource:
    """Take address and query apart; nobody is asked yet."""
    return MongoSource(url, mongodb.parse(url), _filter(options.query), options)


class MongoSource:
    """The documents that a filter finds in one collection."""

    def __init__(self, url: str, address: Address, chosen: dict[str, Any], options: ReadOptions) -> None:
        self._url, self._address, self._filter, self._options = url, address, chosen, options
        self.label = address.label

    def token(self) -> None:
        """A database cannot tell whether it changed."""
        return

    def batches(self, schema: TableSchema) -> Iterator[pl.DataFrame]:
        """Yield the columns that the schema keeps; one that no document has is left out.

        Raises:
            CredentialsError: the login is wrong, or may not read the collection.
            NotFoundError: there is no such collection.
            UnreachableError: the server does not answer, or goes away meanwhile.
        """
        import polars as pl

        options = self._options
        with mongodb.connected(self._url, options.login, options.remote, options.s3) as collection:
            mongodb.check_exists(collection)
            paths = {name: schema.columns[name].path or name for name in schema.kept}
            paths = {name: path for name, path in paths.items() if self._has(collection, path)}
            held: list[pl.DataFrame] = []
            for documents in self._decoded(collection, paths):
                frame = _frame(documents, paths, schema)
                # Frames of other types are not put together: what is of one type is read from its own.
                if held and (frame.schema != held[0].schema or sum(one.height for one in held) >= options.batch_rows):
                    yield pl.concat(held)
                    held = []
                held.append(frame)
            if held:
                yield pl.concat(held)

    def _has(self, collection: Any, path: str) -> bool:
        """Whether any of the documents has a field."""
        return collection.find_one({"$and": [self._filter, {path: {"$exists": True}}]}, {"_id": 1}) is not None

    def _decoded(self, collection: Any, paths: dict[str, str]) -> Iterator[list[dict[str, Any]]]:
        import bson
        from bson.codec_options import CodecOptions, DatetimeConversion

        codec: Any = CodecOptions(
            unicode_decode_error_handler="backslashreplace", datetime_conversion=DatetimeConversion.DATETIME_AUTO
        )
        projection = {"_id": 1} | dict.fromkeys(_roots(paths.values()), 1)
        found = collection.find_raw_batches(self._filter, projection, sort=[("_id", 1)], batch_size=_FETCHED)
        with found:
            for raw in found:
                yield bson.decode_all(raw, codec)


def _roots(paths: Iterable[str]) -> list[str]:
    """The outermost fields: asked for `a.b`, a server leaves out a document's `a` that is no document, unseen."""
    return list(dict.fromkeys(path.partition(".")[0] for path in paths))


def _filter(query: str | None) -> dict[str, Any]:
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


def _frame(documents: list[dict[str, Any]], paths: dict[str, str], schema: TableSchema) -> pl.DataFrame:
    """Documents as columns; one of mixed types is a column of texts, which the schema's types are read from."""
    import polars as pl

    columns = {
        name: _series([_at(document, path) for document in documents], schema.columns[name].dtype)
        for name, path in paths.items()
    }
    return pl.DataFrame(columns) if columns else pl.DataFrame(height=len(documents))


def _at(document: dict[str, Any], path: str) -> Any:
    """What stands at a path; a value that stands in its way stands for it, so that it is seen."""
    if path in document:
        return document[path]
    value: Any = document
    for part in path.split("."):
        if not isinstance(value, dict):
            break
        value = value.get(part)
    return value


def _series(values: list[Any], dtype: Dtype) -> pl.Series:
    import bson.int64
    import polars as pl

    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {int, bson.int64.Int64}:
        return pl.Series(values, dtype=pl.Int64)
    for kind, plain in ((float, pl.Float64()), (bool, pl.Boolean()), (str, pl.String())):
        if kinds == {kind}:
            return pl.Series(values, dtype=plain)
    return pl.Series([_text(value, dtype) for value in values], dtype=pl.String)


def _text(value: Any, dtype: Dtype) -> str | None:
    """A value as `conform` reads it."""
    from bson import ObjectId

    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(int(value)) if dtype in {"int", "float"} else str(value).lower()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
    if isinstance(value, ObjectId) and dtype in {"int", "float"}:  # its digits may look like a number
        return repr(value)
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
