"""On which side of the split a row falls, and a digest of rows that does not depend on their order.

Both rest on xxHash64 (Collet, "xxHash fast digest algorithm", specification 0.1.1) of the UTF-8 text of the values: a
published function of the values alone, so that the same row falls on the same side on every machine, with every version
of every library, however the data grow. `row_text` says what that text is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vehins.artifacts.files import sha256_bytes
from vehins.data.conform import polars_type
from vehins.data.schema import TableSchema

if TYPE_CHECKING:
    import polars as pl

    from vehins.settings import SplitSettings

SIDE = "__side__"
TRAIN, VALID, TEST = "train", "valid", "test"
SIDES = (TRAIN, VALID, TEST)
_SEPARATOR, _NULL, _ESCAPE = "\x1f", "\x00", "\x10"
_WORD = 2**64


def row_text(dtypes: Mapping[str, pl.DataType]) -> pl.Expr:
    """The values of some columns as one text; different rows have different texts.

    The values are joined by U+001F. A text stands as it is, but for U+0010, U+0000 and U+001F in it, which become
    U+0010 and the digit 0, 1 or 2; an integer is decimal; a bool is ``true`` or ``false``; a missing value is U+0000.
    A float is the decimal number of its IEEE 754 bits: libraries have changed how they write floats.
    """
    import polars as pl

    return pl.concat_str([_text(name, dtype).fill_null(_NULL) for name, dtype in dtypes.items()], separator=_SEPARATOR)


def _text(name: str, dtype: pl.DataType) -> pl.Expr:
    import polars as pl

    value = pl.col(name)
    if dtype == pl.String:
        special = [_ESCAPE, _NULL, _SEPARATOR]
        return value.str.replace_many(special, [f"{_ESCAPE}{digit}" for digit in range(len(special))])
    if dtype.is_float():
        value = value.cast(pl.Float64)
        value = pl.when(value == 0).then(0.0).otherwise(value).reinterpret(dtype=pl.UInt64)  # -0.0 is 0.0
    return value.cast(pl.String)


def text_hash(text: pl.Expr, salt: str) -> pl.Expr:
    """XxHash64 of a text column, seeded by a salt: uniform on 0 .. 2^64-1."""
    import polars_hash  # noqa: F401 - registers the namespace `nchash`

    seed = int(sha256_bytes(salt.encode())[:16], 16)
    hashed: pl.Expr = text.nchash.xxhash64(seed=seed)  # type: ignore[attr-defined]
    return hashed


def key_text(schema: TableSchema) -> pl.Expr:
    """What identifies a row: its key or, without one, all of it but the target.

    Without a key, rows that differ only in the target fall on the same side: a model must not be judged on the twin of
    a row that it was trained on.
    """
    names = [schema.key] if schema.key else [name for name in schema.kept if name != schema.target]
    return row_text({name: polars_type(schema.columns[name].dtype) for name in names})


def side(schema: TableSchema, settings: SplitSettings) -> pl.Expr:
    """The side of each row: ``train``, ``valid`` or ``test``, as an Enum column."""
    import polars as pl

    point = text_hash(key_text(schema), settings.salt)
    below_test = pl.lit(int(settings.test * _WORD), dtype=pl.UInt64)
    below_valid = pl.lit(int((settings.test + settings.valid) * _WORD), dtype=pl.UInt64)
    sides = pl.when(point < below_test).then(pl.lit(TEST)).when(point < below_valid).then(pl.lit(VALID))
    return sides.otherwise(pl.lit(TRAIN)).cast(pl.Enum(SIDES)).alias(SIDE)


class RowDigest:
    """A digest of a bag of rows: equal for the same rows in any order and any batches.

    It is the sum of two independent 64-bit hashes of each row, modulo 2^64 each. The sums catch changes, not forgers:
    for those, every file has its SHA-256.
    """

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._sums = [0, 0]
        self._rows = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Take in a batch of rows."""
        import numpy as np

        text = row_text({name: rows.schema[name] for name in self._names}).alias("text")
        hashes = rows.lazy().select(text).select(_named(0), _named(1)).collect()
        for i in range(2):
            self._sums[i] = (self._sums[i] + int(hashes.to_series(i).to_numpy().sum(dtype=np.uint64))) % _WORD
        self._rows += rows.height

    def hexdigest(self) -> str:
        """The digest of all rows so far."""
        return f"{self._rows}-{self._sums[0]:016x}{self._sums[1]:016x}"


def _named(i: int) -> pl.Expr:
    import polars as pl

    return text_hash(pl.col("text"), f"row digest {i}").alias(str(i))
