"""Where the fields of a batch of BSON stand and of which types they are, found for all documents at once.

A document is its length, then per field a byte for the type, the name, a zero and the value, and a zero at the end
(https://bsonspec.org/spec.html). All documents are gone through in step, field by field in the order of one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from vehins.data.sources.mongodb.decoding import starts

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Numbers = np.ndarray[Any, Any]

DOUBLE, TEXT, BOOL, NULL, INT32, INT64 = 0x01, 0x02, 0x08, 0x0A, 0x10, 0x12
_OBJECT_ID, _DATE = 0x07, 0x09
_SIZES = {DOUBLE: 8, TEXT: 4, _OBJECT_ID: 12, BOOL: 1, _DATE: 8, NULL: 0, INT32: 4, INT64: 8}
_LACKING = 0x00  # no type of BSON: it ends a document
_NUMBERS = {DOUBLE: "<f8", INT32: "<i4", INT64: "<i8", BOOL: "?"}


class Field(NamedTuple):
    """One field in every document."""

    types: frozenset[int]
    """What it is; `NULL` where a document lacks it, too."""
    kinds: Numbers
    """The type in each document; 0 in one that lacks it."""
    places: Numbers
    """Where its value begins; anywhere in a document that lacks it."""


class Layout:
    """The documents of a batch, all of whose fields are known."""

    def __init__(self, data: bytes, fields: dict[str, Field], count: int) -> None:
        self._data, self.fields, self.count = data, fields, count

    def texts(self, field: Field) -> pl.Series | None:
        """The values of a field of nothing but texts; None where one is not UTF-8."""
        import numpy as np
        import polars as pl
        import pyarrow as pa

        there = field.kinds == TEXT
        lengths = np.where(there, _read(self._data, "<i4", field.places) - 1, 0)  # without the zero at its end
        ends = np.cumsum(lengths, dtype=np.int64)
        # Each sign's place among those of its own text, from where that text begins.
        signs = np.arange(ends[-1]) + np.repeat(field.places + 4 - ends + lengths, lengths)
        values = np.frombuffer(self._data, np.uint8)[signs]
        buffers = [pa.py_buffer(np.append(0, ends)), pa.py_buffer(values)]
        found = pa.LargeStringArray.from_buffers(self.count, *buffers)
        try:
            found.validate(full=True)
        except pa.ArrowInvalid:
            return None
        series = pl.Series(found)
        return series.set(pl.Series(~there), None) if NULL in field.types else series

    def numbers(self, field: Field) -> pl.Series:
        """The values of a field of nothing but numbers, or truth values: floats where one of them is."""
        import numpy as np
        import polars as pl

        present = sorted(field.types - {NULL})
        dtype = np.bool_ if present == [BOOL] else np.float64 if DOUBLE in present else np.int64
        values = np.zeros(self.count, dtype)
        for kind in present:
            taken = _read(self._data, _NUMBERS[kind], field.places)
            values = taken.astype(dtype) if len(field.types) == 1 else np.where(field.kinds == kind, taken, values)
        found = pl.Series(values)
        there = np.isin(field.kinds, present)
        return found.set(pl.Series(~there), None) if NULL in field.types else found


def _read(data: bytes, dtype: str, places: Numbers) -> Numbers:
    """What stands at some places of some bytes, read as this type; behind the end stands anything."""
    import numpy as np

    count = len(data) - np.dtype(dtype).itemsize + 1
    if count < 1:
        return np.zeros(len(places), dtype)
    windows: Numbers = np.ndarray((count,), dtype, data, 0, (1,))
    found: Numbers = windows[np.minimum(places, count - 1)]
    return found


def found(raw: bytes, order: list[str]) -> Layout | None:
    """The layout of a batch.

    None where a document has other fields than these, has them in another order or twice, or has a value that is
    neither a text nor of a fixed size.
    """
    import numpy as np

    begins = np.frombuffer(starts(raw), np.int64)
    places, ends = begins + 4, np.append(begins[1:], len(raw)) - 1
    signs = np.frombuffer(raw, np.uint8)
    fields: dict[str, Field] = {}
    for name in order:
        label = name.encode()
        values = places + (len(label) + 2)
        kinds = _kinds(raw, label, places, ends)
        present = frozenset(np.flatnonzero(np.bincount(kinds)).tolist())
        sizes = _sizes(raw, kinds, values, present)
        if sizes is None:
            return None
        fields[name] = Field(present & _SIZES.keys() | ({NULL} if _LACKING in present else set()), kinds, values)
        places = np.where(kinds, values + sizes, places) if _LACKING in present else values + sizes
        if (places > ends).any():
            return None
    whole = (places == ends).all() and not signs[ends].any()
    return Layout(raw, fields, len(begins)) if whole else None


def _kinds(raw: bytes, label: bytes, places: Numbers, ends: Numbers) -> Numbers:
    """The type of the field in each document, should it come next there; else `_LACKING`."""
    import numpy as np

    first = raw[places[0] : places[0] + len(label) + 1]
    if first[1:] == label and (_read(raw, f"S{len(label) + 2}", places) == first).all():
        return np.full(len(places), first[0], np.uint8)  # the same everywhere, as mostly
    here = (_read(raw, f"S{len(label) + 1}", places + 1) == label) & (places + (len(label) + 2) <= ends)
    return np.where(here, np.frombuffer(raw, np.uint8)[places], _LACKING).astype(np.uint8)


def _sizes(data: bytes, kinds: Numbers, values: Numbers, present: frozenset[int]) -> Numbers | int | None:
    """The length of each value; None where one cannot be told."""
    import numpy as np

    if not present <= {*_SIZES, _LACKING}:
        return None
    if len(present) == 1 and present != {TEXT}:
        return _SIZES.get(next(iter(present)), 0)
    table = np.zeros(256, np.int64)
    table[list(_SIZES)] = list(_SIZES.values())
    texts = kinds == TEXT
    lengths = np.where(texts, _read(data, "<i4", values), 0)
    return None if (lengths < texts).any() else table[kinds] + lengths
