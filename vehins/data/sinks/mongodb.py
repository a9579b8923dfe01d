"""MongoDB: a document per row, whose ``_id`` is the value of the row's key.

``_id`` is unique by nature: an upsert finds its document without an index to build first, and two loads at once cannot
make two documents of one customer. The key stays a field of its own as well, so that ingest reads it back by its name.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from vehins.data.sinks import WriteOptions
from vehins.data.sinks._columns import sql_types, typed
from vehins.errors import ConflictError, SettingsError
from vehins.remote import mongodb

if TYPE_CHECKING:
    import polars as pl

SUMMARY = "`mongodb://HOST/DATABASE?collection=NAME`, `mongodb+srv://...` (MongoDB)"
matches = mongodb.matches
_SENT_ROWS = 5_000
_DUPLICATE = 11_000


def open_sink(url: str, options: WriteOptions) -> MongoSink:
    """Take the address apart; nobody is asked yet."""
    return MongoSink(url, mongodb.parse(url).label, options)


class MongoSink:
    """A collection, which is made when there is none."""

    def __init__(self, url: str, label: str, options: WriteOptions) -> None:
        self._url, self._options = url, options
        self.label = label

    def write(self, batches: Iterable[pl.DataFrame], key: str, *, replace: bool, on_rows: Callable[[int], None]) -> int:
        """Upsert the rows by ``_id``; with ``replace``, fill another collection and rename it over the old one.

        Raises:
            SettingsError: a column cannot be a field, or the documents there have an ``_id`` of another kind.
            CredentialsError: the login is wrong or may not write.
            UnreachableError: the server does not answer.
        """
        options = self._options
        opened = mongodb.connected(self._url, options.login, options.remote, options.s3)
        with opened as collection, _one_reason(self.label):
            if replace:
                return self._replace(collection, batches, key, on_rows)
            _check_ids(collection, self.label)
            return self._upsert(collection, batches, key, on_rows)

    def _upsert(
        self, collection: Any, batches: Iterable[pl.DataFrame], key: str, on_rows: Callable[[int], None]
    ) -> int:
        from pymongo import UpdateOne

        rows = 0
        for some in self._rows(batches, key):
            # Only the fields of the rows are set; what else a document holds stays.
            collection.bulk_write(
                [UpdateOne({"_id": row["_id"]}, {"$set": row}, upsert=True) for row in some], ordered=False
            )
            rows += len(some)
            on_rows(rows)
        if rows == 0:
            on_rows(0)
        return rows

    def _replace(self, old: Any, batches: Iterable[pl.DataFrame], key: str, on_rows: Callable[[int], None]) -> int:
        fresh = old.database.create_collection(f"{old.name}.vehins-{secrets.token_hex(6)}")
        rows = 0
        try:
            for some in self._rows(batches, key):
                fresh.insert_many([_nested(row) for row in some], ordered=False)
                rows += len(some)
                on_rows(rows)
            _copy_indexes(old, fresh)
            fresh.rename(old.name, dropTarget=True)
        except BaseException:
            with suppress(Exception):
                fresh.drop()
            raise
        if rows == 0:
            on_rows(0)
        return rows

    def _rows(self, batches: Iterable[pl.DataFrame], key: str) -> Iterator[list[dict[str, Any]]]:
        """The rows as flat documents, some thousand at a time; a dot in a name is a way into a document."""
        types = None
        for batch in batches:
            if types is None:
                types = sql_types(batch)
                paths = _fields(batch.columns, self._options.paths, key)
            named = typed(batch, types).rename(paths)
            ids = named[paths[key]]
            whole = named.with_columns(ids.alias("_id")) if paths[key] != "_id" else named
            for some in whole.iter_slices(_SENT_ROWS):
                yield some.to_dicts()


@contextmanager
def _one_reason(label: str) -> Iterator[None]:
    """Raise the first reason for which the server refuses rows; the driver repeats them all, with the rows."""
    from pymongo.errors import BulkWriteError, OperationFailure

    try:
        yield
    except BulkWriteError as error:
        details: Any = error.details
        first: dict[str, Any] = next(iter(details["writeErrors"] or details["writeConcernErrors"] or []), {})
        reason = first.get("errmsg", "The server gave no reason")
        if first.get("code") != _DUPLICATE:
            raise OperationFailure(reason, first.get("code")) from None
        hint = "Drop that unique index, or write to another collection."
        raise ConflictError(f"A unique index of {label} refuses a row", detail=f"{reason}.", hint=hint) from None


def _fields(columns: list[str], paths: Mapping[str, str], key: str) -> dict[str, str]:
    """Column -> field."""
    fields = {name: paths.get(name, name) for name in columns}
    names = list(fields.values())
    for name, field in fields.items():
        inside = any(other.startswith(field + ".") for other in names)
        empty = not all(field.split("."))
        if field.startswith("$") or empty or inside or names.count(field) > 1 or (field == "_id" and name != key):
            raise SettingsError(
                f"The column `{name}` cannot be the field `{field}` of a document",
                detail="A field has no `$` in front and no empty part, holds a value or fields, and `_id` is the key.",
                hint="Rename the column, or mend its `path` in the schema.",
            )
    return fields


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """A flat document as one with documents in it."""
    document: dict[str, Any] = {}
    for field, value in row.items():
        place = document
        *above, last = field.split(".")
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return document


def _check_ids(collection: Any, label: str) -> None:
    """Refuse a collection whose documents were made by others: theirs would stand beside ours, customer by customer."""
    if collection.find_one({"_id": {"$type": "objectId"}}, {"_id": 1}) is not None:
        raise SettingsError(
            f"The documents of {label} have an `_id` of another kind",
            detail="vehins writes documents whose `_id` is the key; those there have an ObjectId.",
            hint="Name a new collection, or let the rows take the place of that one: `--replace`.",
        )


def _copy_indexes(old: Any, new: Any) -> None:
    """Give a collection the indexes of the one whose place it takes."""
    from pymongo import IndexModel

    models = []
    for found in old.list_indexes():
        more = {name: value for name, value in found.items() if name not in {"v", "ns", "key"}}
        if found["name"] != "_id_":
            models.append(IndexModel(list(found["key"].items()), **more))
    if models:
        new.create_indexes(models)
