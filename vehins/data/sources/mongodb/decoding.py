"""Raw batches of documents -> frames, by bson or, with the extra `mongo-arrow`, by way of Arrow."""

from __future__ import annotations

import struct
from array import array
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from vehins.data.sources.mongodb import documents
from vehins.data.sources.mongodb.documents import Document

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema

_LENGTH = struct.Struct("<i")


class Decoder(Protocol):
    """Turns one raw batch after the other into frames."""

    def frame(self, raw: bytes) -> pl.DataFrame:
        """The documents of a batch as columns, a row each."""
        ...


class BsonDecoder:
    """By the decoder of the driver, which makes a dictionary of each document."""

    def __init__(self, paths: dict[str, str], schema: TableSchema, *, identify: bool) -> None:
        self._paths, self._schema, self._identify = paths, schema, identify
        self._codec = documents.codec()

    def decoded(self, raw: bytes) -> list[Document]:
        """The documents of a batch."""
        import bson

        found: list[Document] = bson.decode_all(raw, self._codec)
        return found

    def frame(self, raw: bytes) -> pl.DataFrame:
        """The documents of a batch as columns."""
        return self.table(self.decoded(raw))

    def table(self, found: list[Document]) -> pl.DataFrame:
        """Documents as columns."""
        return documents.frame(found, self._paths, self._schema, identify=self._identify)


def decoder(reader: str, paths: dict[str, str], schema: TableSchema, *, identify: bool) -> Decoder:
    """The decoder that the setting `mongodb.reader` asks for.

    Raises:
        ConfigurationError: the extra that it needs is not installed.
    """
    by_bson = BsonDecoder(paths, schema, identify=identify)
    wanted = reader == "arrow" or (reader == "auto" and find_spec("pyarrow") is not None)
    # The text of each `_id`, and what is inside of documents, is made of dictionaries anyway.
    if not wanted or identify or any("." in path for path in paths.values()):
        return by_bson
    from vehins.data.sources.mongodb.arrow import ArrowDecoder

    return ArrowDecoder(by_bson, paths, schema)


def starts(raw: bytes) -> array[int]:
    """Where the documents of a batch begin, by their lengths alone."""
    found, start, length = array("q"), 0, _LENGTH.unpack_from
    while start < len(raw):
        found.append(start)
        start += length(raw, start)[0]
    return found
