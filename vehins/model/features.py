"""Customer rows -> the matrix that the model sees: the only transform code, for training and for serving.

An encoder is fitted on the train side and written as JSON. It has a bulk path (polars) and a one-row path (plain
Python) that give bit-equal numbers. What was never seen in training has a defined place: a category that is missing or
new is code 0, a missing number is NaN, and a number outside the range of the train side is moved to its edge (which no
tree can tell from where it was, as no split lies out there).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from ctypes import c_float
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vehins.artifacts.manifest import Record, canonical
from vehins.data.schema import Scalar, TableSchema

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

UNKNOWN = 0
# A float32 tells every integer up to here from the next.
_EXACT_IN_FLOAT32 = 2**24


class NumberFeature(Record):
    """A column of amounts."""

    kind: Literal["number"] = "number"
    name: str
    minimum: float = Field(description="Least value on the train side.")
    maximum: float = Field(description="Greatest value on the train side.")
    dtype: Literal["float32", "float64"]

    def expression(self) -> pl.Expr:
        """The bulk path."""
        import polars as pl

        value = pl.col(self.name).cast(pl.Float64).fill_null(math.nan).clip(self.minimum, self.maximum)
        return value.cast(pl.Float32 if self.dtype == "float32" else pl.Float64)

    def encode(self, value: Scalar | None) -> float:
        """The one-row path."""
        number = math.nan if value is None else _as_float(value)
        number = self.minimum if number < self.minimum else self.maximum if number > self.maximum else number
        return c_float(number).value if self.dtype == "float32" else number


def _as_float(value: Scalar) -> float:
    try:
        return float(value)
    except OverflowError:  # an int beyond all floats
        return math.inf if isinstance(value, int) and value > 0 else -math.inf


class CategoryFeature(Record):
    """A column of names; code 0 stands for a missing or unknown one."""

    kind: Literal["category"] = "category"
    name: str
    vocabulary: list[str] = Field(description="Values on the train side; the first has code 1.")
    dtype: Literal["uint8", "uint16", "uint32"]

    @cached_property
    def _codes(self) -> dict[str, float]:
        return {value: float(code) for code, value in enumerate(self.vocabulary, 1)}

    def expression(self) -> pl.Expr:
        """The bulk path."""
        import polars as pl

        types = {"uint8": pl.UInt8, "uint16": pl.UInt16, "uint32": pl.UInt32}
        code = pl.col(self.name).cast(pl.String).cast(pl.Enum(self.vocabulary), strict=False).to_physical()
        return (code.cast(pl.UInt32) + 1).fill_null(UNKNOWN).cast(types[self.dtype])

    def encode(self, value: Scalar | None) -> float:
        """The one-row path."""
        return float(UNKNOWN) if value is None else self._codes.get(_as_text(value), float(UNKNOWN))


def _as_text(value: Scalar) -> str:
    """A category as polars casts it to text."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


Feature = Annotated[NumberFeature | CategoryFeature, Field(discriminator="kind")]


class Encoder(Record):
    """The features of a model, in order."""

    features: list[Feature]

    @property
    def names(self) -> list[str]:
        """Names of the features, in the order of the matrix."""
        return [feature.name for feature in self.features]

    @property
    def categories(self) -> list[str]:
        """Names of the categorical features."""
        return [feature.name for feature in self.features if feature.kind == "category"]

    def encode(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The bulk path: a frame of narrow numbers, with the features as columns."""
        return rows.select(self.expressions())

    def expressions(self) -> list[pl.Expr]:
        """The bulk path as expressions over typed rows, named and ordered like the features."""
        return [feature.expression().alias(feature.name) for feature in self.features]

    def matrix(self, rows: pl.LazyFrame) -> np.ndarray:
        """The bulk path as float64, rows x features."""
        import polars as pl

        return self.encode(rows).cast(pl.Float64).collect().to_numpy()

    def encode_row(self, row: Mapping[str, Scalar | None]) -> list[float]:
        """The one-row path: the numbers of one customer. A column that the row lacks counts as missing."""
        return [feature.encode(row.get(feature.name)) for feature in self.features]

    def to_json(self) -> bytes:
        """The encoder as a bundle carries it."""
        return canonical(self.model_dump(mode="json")) + b"\n"


def parse(data: bytes) -> Encoder:
    """Read an encoder back (`Encoder.to_json`)."""
    return Encoder.model_validate_json(data)


def fit(train: pl.LazyFrame, schema: TableSchema) -> Encoder:
    """Learn vocabularies and ranges from the rows of the train side, in one streaming pass."""
    import polars as pl

    numbers = {name: _finite(name) for name, column in schema.features.items() if not column.is_category}
    categories = [name for name, column in schema.features.items() if column.is_category]
    ranges = train.select(
        *(value.min().alias(f"min:{name}") for name, value in numbers.items()),
        *(value.max().alias(f"max:{name}") for name, value in numbers.items()),
        pl.len().alias("rows"),
    )
    vocabularies = [train.select(pl.col(name).cast(pl.String).unique()) for name in categories]
    bounds, *values = pl.collect_all([ranges, *vocabularies], engine="streaming")
    found = bounds.row(0, named=True)
    words = {name: sorted(frame.to_series().drop_nulls()) for name, frame in zip(categories, values, strict=True)}
    features: dict[str, Feature] = {name: _category(name, words[name]) for name in categories}
    features |= {name: _number(name, found[f"min:{name}"], found[f"max:{name}"]) for name in numbers}
    return Encoder(features=[features[name] for name in schema.features])


def _finite(name: str) -> pl.Expr:
    import polars as pl

    value = pl.col(name).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value)


def _category(name: str, vocabulary: list[str]) -> CategoryFeature:
    dtype: Literal["uint8", "uint16", "uint32"] = "uint32"
    if len(vocabulary) < 2**8:
        dtype = "uint8"
    elif len(vocabulary) < 2**16:
        dtype = "uint16"
    return CategoryFeature(name=name, vocabulary=vocabulary, dtype=dtype)


def _number(name: str, minimum: float | None, maximum: float | None) -> NumberFeature:
    low, high = minimum or 0.0, maximum or 0.0  # a column that is missing throughout
    exact = max(abs(low), abs(high)) <= _EXACT_IN_FLOAT32
    return NumberFeature(name=name, minimum=low, maximum=high, dtype="float32" if exact else "float64")
