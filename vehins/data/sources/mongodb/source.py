"""The source: what a filter finds in one collection, all of it or what has changed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, Any

from vehins.data.conform import UNREAD
from vehins.data.sources import ReadOptions
from vehins.data.sources.mongodb import decoding, documents, query
from vehins.data.sources.mongodb.reading import Reading
from vehins.errors import SettingsError
from vehins.remote import mongodb
from vehins.remote.ahead import ahead

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema
    from vehins.remote.address import Address

_HELD_ROWS = 50_000
"""Rows of one frame: enough for columns to pay, and few enough to cost no memory."""


class MongoSource:
    """The documents that a filter finds in one collection."""

    def __init__(self, url: str, address: Address, chosen: dict[str, Any], options: ReadOptions) -> None:
        self._url, self._address, self._filter, self._options = url, address, chosen, options
        self.label = address.label
        self.rows_read = 0
        self.mark: str | None = None

    def token(self) -> None:
        """A database cannot tell whether it changed."""
        return

    def batches(self, schema: TableSchema) -> Iterator[pl.DataFrame]:
        """Yield the columns that the schema keeps; one that no document has is left out.

        Raises:
            CredentialsError: the login is wrong, or may not read the collection.
            NotFoundError: there is no such collection.
            UnreachableError: the server does not answer, or goes away meanwhile and does not come back.
        """
        with self._opened() as collection:
            resumes = mongodb.check_exists(collection) == mongodb.COLLECTION
            yield from self._read(collection, schema, self._filter, resumes=resumes, identify=False)

    def changes(self, schema: TableSchema, field: str, mark: str | None) -> Iterator[pl.DataFrame]:
        """Yield what `batches` does, less the documents that are older than the mark, and each with its ``_id``.

        Raises:
            SettingsError: no document has the field, or the ids of the collection are not unique.
        """
        query.check_field(field)
        with self._opened() as collection:
            if mongodb.check_exists(collection) != mongodb.COLLECTION:
                raise SettingsError(
                    f"What changed in {self.label} cannot be told",
                    detail="It is a view, or the user may not list it: several documents may have one `_id`.",
                    hint="Name a collection, or read all documents: leave out `--since`.",
                )
            self.mark = self._highest(collection, field)  # before the documents: what comes now is read next time
            chosen = self._filter
            if mark is not None:
                chosen = query.both(chosen, query.not_before(field, query.read_back(mark)))
            yield from self._read(collection, schema, chosen, resumes=True, identify=True)

    def _opened(self) -> Any:
        options = self._options
        return mongodb.connected(self._url, options.login, options.remote, options.s3)

    def columns(self, collection: Any, schema: TableSchema, seen: pl.DataFrame | None = None) -> dict[str, str]:
        """The path of each column of the schema that some document has; those ``seen`` need not be looked for."""
        return {
            name: path for name, path in _paths(schema).items() if _holds(seen, name) or self._has(collection, path)
        }

    def _read(
        self, collection: Any, schema: TableSchema, chosen: dict[str, Any], *, resumes: bool, identify: bool
    ) -> Iterator[pl.DataFrame]:
        import polars as pl

        options = self._options
        fields = documents.roots(_paths(schema).values())
        reading = Reading(
            collection, chosen, fields, options.remote, resumes=resumes, say=options.say or (lambda _: None)
        )
        held: list[pl.DataFrame] = []
        with closing(ahead(reading.batches())) as batches:
            first = next(batches, b"")
            decoder, seen = self._begun(collection, schema, first, identify=identify)
            for raw, frame in chain([(first, seen)], ((raw, decoder.frame(raw)) for raw in batches)):
                # Frames of other types are not put together: what is of one type is read from its own.
                if held and (frame.schema != held[0].schema or sum(one.height for one in held) >= _HELD_ROWS):
                    yield pl.concat(held)
                    held = []
                held.append(frame)
                self.rows_read += len(decoding.starts(raw))
        yield pl.concat(held)

    def _begun(
        self, collection: Any, schema: TableSchema, first: bytes, *, identify: bool
    ) -> tuple[decoding.Decoder, pl.DataFrame]:
        """What decodes batches, less the columns that no document has; and the first batch, decoded."""
        paths, reader = _paths(schema), self._options.mongodb.reader
        decoder = decoding.decoder(reader, paths, schema, identify=identify)
        frame = decoder.frame(first)
        found = self.columns(collection, schema, frame)
        if len(found) == len(paths):
            return decoder, frame
        fewer = decoding.decoder(reader, found, schema, identify=identify)
        return fewer, fewer.frame(first)

    def _has(self, collection: Any, path: str) -> bool:
        """Whether any of the documents has a field."""
        return self._some(collection, {path: {"$exists": True}}) is not None

    def _some(self, collection: Any, chosen: dict[str, Any], **more: Any) -> dict[str, Any] | None:
        found: dict[str, Any] | None = collection.find_one(query.both(self._filter, chosen), **more)
        return found

    def _highest(self, collection: Any, field: str) -> str | None:
        """The field's highest value; None where none has an order.

        A moment that has not come yet is not one that a change happened at: what changes before it would never be read.
        """
        order = {"projection": {field: 1}, "sort": [(field, -1)]}
        found = self._some(collection, query.orderly(field), **order)
        value = documents.at(found, field) if found else None
        if isinstance(value, dt.datetime):
            now = collection.database.command("hello")["localTime"]
            if value > now:
                found = self._some(collection, query.orderly(field, until=now), **order)
                value = documents.at(found, field) if found else None
        if value is None:
            self._check_some_has(collection, field)
        return None if value is None else query.written(value)

    def _check_some_has(self, collection: Any, field: str) -> None:
        if self._has(collection, field) or self._some(collection, {}) is None:
            return
        raise SettingsError(
            f"No document of {self.label} has a field `{field}`",
            detail="It should tell when a document changed.",
            hint="Name one that does: `--since updated_at`.",
        )


def _paths(schema: TableSchema) -> dict[str, str]:
    """Where each column that the schema keeps is in a document."""
    return {name: schema.columns[name].path or name for name in schema.kept}


def _holds(frame: pl.DataFrame | None, name: str) -> bool:
    """Whether a column has any value."""
    if frame is None:
        return False
    return UNREAD + name in frame.columns or frame[name].null_count() < frame.height
