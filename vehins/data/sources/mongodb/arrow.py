"""Raw batches -> frames without a dictionary for each document: for batches of plain documents.

Numbers and texts are taken from their places (`layout`) into Arrow's columns. Any batch in which a document is not as
the others, or has a value that may have to become something else, is decoded as without it: the frames are the same.

pymongoarrow would do for collections of one mind. On others it says nothing: it cuts off what a double has behind the
point where an integer is expected, and a field that stands twice in one document shifts all that are behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vehins.data.conform import ID
from vehins.data.sources.mongodb import documents, layout
from vehins.data.sources.mongodb.layout import BOOL, DOUBLE, INT32, INT64, NULL, TEXT, Field, Layout
from vehins.remote.drivers import load_driver

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import Dtype, TableSchema
    from vehins.data.sources.mongodb.decoding import BsonDecoder

_LEARNT_FROM = 1_000


class ArrowDecoder:
    """By way of the layout, where the documents of a batch have one."""

    def __init__(self, by_bson: BsonDecoder, paths: dict[str, str], schema: TableSchema) -> None:
        self._by_bson, self._paths, self._schema = by_bson, paths, schema
        load_driver("pyarrow", "mongo-arrow")
        self._order: list[str] = []

    def frame(self, raw: bytes) -> pl.DataFrame:
        """The documents of a batch as columns."""
        found = self._decoded(raw) if raw and self._order else None
        if found is not None:
            return found
        each = self._by_bson.decoded(raw)
        self._order = max(([*one] for one in each[:_LEARNT_FROM]), key=len, default=[])
        return self._by_bson.table(each)

    def _decoded(self, raw: bytes) -> pl.DataFrame | None:
        """The batch as a frame; None where a value may have to become something else, or where `_id` is needed."""
        import polars as pl

        known = layout.found(raw, self._order)
        if known is None or not all(path in known.fields for path in self._paths.values()):
            return None
        columns: dict[str, pl.Series] = {}
        for name, path in self._paths.items():
            series = _column(known, known.fields[path], self._schema.columns[name].dtype)
            if series is None:
                return None
            columns[name] = series.alias(name)
        if documents.may_lack_key(columns, self._schema):
            return None
        return pl.DataFrame([*columns.values(), pl.repeat(None, known.count, dtype=pl.String, eager=True).alias(ID)])


def _column(known: Layout, field: Field, dtype: Dtype) -> pl.Series | None:
    """A field as a column, as `documents` makes it where it needs a single type; None elsewhere."""
    present = field.types - {NULL}
    if present == {TEXT}:
        return known.texts(field)
    mixes = present <= {INT32, INT64, DOUBLE} and dtype != "bool"
    if not (mixes or present <= {INT32, INT64} or present in ({DOUBLE}, {BOOL})):
        return None
    series = known.numbers(field)
    # An integer of 64 bits that stands beside floats may have been changed.
    return None if {INT64, DOUBLE} <= present and (series.abs() >= documents.EXACT).any() else series
