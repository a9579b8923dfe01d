"""Customer rows -> the matrix that the model sees: the only transform code, for training and for serving.

An encoder is fitted on the train side and written as JSON. It has a bulk path (polars) and a path for a few rows (plain
Python) that give bit-equal numbers. What was never seen in training has a defined place: a category that is missing or
new is code 0, a missing number is NaN, and a number outside the range of the train side is moved to its edge (which no
tree can tell from where it was, as no split lies out there). The interactions of the schema are features as well:
each is made of the values of two columns, on both paths.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from ctypes import c_float
from functools import cached_property
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from vehins.artifacts.record import Record, canonical
from vehins.data.schema import Scalar, TableSchema

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

Row = Mapping[str, Scalar | None]
Columns = Mapping[str, Sequence[Scalar | None]]
UNKNOWN = 0
# A float32 tells every integer up to here from the next.
_EXACT_IN_FLOAT32 = 2**24
_NUMBERS = frozenset({int, float})
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")  # as Python writes an int


class _Amount(Record):
    """A feature that is a number, moved into the range of the train side."""

    is_category: ClassVar[bool] = False
    name: str
    minimum: float = Field(description="Least value on the train side.")
    maximum: float = Field(description="Greatest value on the train side.")
    dtype: Literal["float32", "float64"]

    def _narrowed(self, value: pl.Expr) -> pl.Expr:
        """The bulk path, from float64 on."""
        import polars as pl

        return value.clip(self.minimum, self.maximum).cast(pl.Float32 if self.dtype == "float32" else pl.Float64)

    def _narrow(self, number: float) -> float:
        """The path for a few rows, from float64 on."""
        number = self.minimum if number < self.minimum else self.maximum if number > self.maximum else number
        return c_float(number).value if self.dtype == "float32" else number


class NumberFeature(_Amount):
    """A column of amounts."""

    kind: Literal["number"] = "number"
    monotone: Literal[-1, 0, 1] = Field(
        default=0, description="Whether the probability must not fall (1) or not rise (-1) with it."
    )

    def expression(self) -> pl.Expr:
        """The bulk path."""
        return self._narrowed(_float(self.name))

    def encode(self, value: Scalar | None) -> float:
        """The path for a few rows, for one value of the column."""
        return self._narrow(_as_float(value))

    def encode_column(self, columns: Columns) -> Iterable[float]:
        """The path for a few rows; numbers within the range need no look at each."""
        values: Any = columns[self.name]
        if _NUMBERS.issuperset(map(type, values)) and min(values) >= self.minimum and max(values) <= self.maximum:
            return array("f" if self.dtype == "float32" else "d", values)
        return map(self.encode, values)  # a NaN comes here when it is the first, and else is no harm above

    def reader(self) -> Callable[[Row], float]:
        """The path for one row; a whole number within the range is the same in every type."""
        name, encode, limit = self.name, self.encode, _EXACT_IN_FLOAT32 if self.dtype == "float32" else math.inf
        low, high = max(self.minimum, -limit), min(self.maximum, limit)

        def read(row: Row) -> float:
            value = row.get(name)
            return float(value) if type(value) is int and low <= value <= high else encode(value)

        return read


class CombinedFeature(_Amount):
    """The product or the ratio of two columns of amounts; what is divided by zero is missing."""

    kind: Literal["product", "ratio"]
    columns: tuple[str, str]

    def expression(self) -> pl.Expr:
        """The bulk path."""
        return self._narrowed(_combined(self.kind, *self.columns))

    def encode_column(self, columns: Columns) -> Iterable[float]:
        """The path for a few rows."""
        return map(self._encode, *(columns[name] for name in self.columns))

    def reader(self) -> Callable[[Row], float]:
        """The path for one row."""
        first, second = self.columns
        return lambda row: self._encode(row.get(first), row.get(second))

    def _encode(self, one: Scalar | None, other: Scalar | None) -> float:
        first, second = _as_float(one), _as_float(other)
        if self.kind == "product":
            return self._narrow(first * second)
        return self._narrow(math.nan if second == 0 else first / second)


def _float(name: str) -> pl.Expr:
    import polars as pl

    return pl.col(name).cast(pl.Float64).fill_null(math.nan)


def _combined(kind: Literal["product", "ratio"], first: str, second: str) -> pl.Expr:
    import polars as pl

    if kind == "product":
        return _float(first) * _float(second)
    return pl.when(_float(second) != 0).then(_float(first) / _float(second)).otherwise(math.nan)


def _as_float(value: Scalar | None) -> float:
    try:
        return math.nan if value is None else float(value)
    except OverflowError:  # an int beyond all floats
        return math.inf if isinstance(value, int) and value > 0 else -math.inf


class _Codes(Record):
    """A feature that is the number of a name; code 0 stands for a missing or unknown one."""

    is_category: ClassVar[bool] = True
    name: str
    dtype: Literal["uint8", "uint16", "uint32"]

    @property
    @abstractmethod
    def texts(self) -> list[str]:
        """The names, each as one text; the first has code 1."""

    @cached_property
    def _codes(self) -> dict[str, float]:
        return {text: float(code) for code, text in enumerate(self.texts, 1)}

    def _coded(self, text: pl.Expr) -> pl.Expr:
        """The bulk path, from the text on."""
        import polars as pl

        types = {"uint8": pl.UInt8, "uint16": pl.UInt16, "uint32": pl.UInt32}
        code = text.cast(pl.Enum(self.texts), strict=False).to_physical()
        return (code.cast(pl.UInt32) + 1).fill_null(UNKNOWN).cast(types[self.dtype])

    def _code(self, text: str | None) -> float:
        """The path for a few rows, from the text on."""
        return float(UNKNOWN) if text is None else self._codes.get(text, float(UNKNOWN))


class CategoryFeature(_Codes):
    """A column of names."""

    kind: Literal["category"] = "category"
    vocabulary: list[str] = Field(description="Values on the train side; the first has code 1.")

    @property
    def texts(self) -> list[str]:
        """The names; the first has code 1."""
        return self.vocabulary

    def expression(self) -> pl.Expr:
        """The bulk path."""
        return self._coded(_text(self.name))

    def encode(self, value: Scalar | None) -> float:
        """The path for a few rows, for one value of the column."""
        return self._code(_as_text(value))

    def encode_column(self, columns: Columns) -> Iterable[float]:
        """The path for a few rows; texts, and whole numbers, are looked up without a look at each."""
        values = columns[self.name]
        kinds = set(map(type, values))
        codes: Any = self._codes if kinds == {str} else self._codes_of_int if kinds == {int} else None
        return map(self.encode, values) if codes is None else map(codes.get, values, repeat(float(UNKNOWN)))

    def reader(self) -> Callable[[Row], float]:
        """The path for one row."""
        name, encode, unknown = self.name, self.encode, float(UNKNOWN)
        code, code_of_int = self._codes.get, self._codes_of_int.get

        def read(row: Row) -> float:
            value = row.get(name)
            if type(value) is str:
                return code(value, unknown)
            return code_of_int(value, unknown) if type(value) is int else encode(value)

        return read

    @cached_property
    def _codes_of_int(self) -> dict[int, float]:
        """The codes by the whole number that a text stands for."""
        return {int(text): code for text, code in self._codes.items() if _WHOLE.fullmatch(text)}


class CrossFeature(_Codes):
    """The pairs of names in two columns; where one is missing, the pair is."""

    kind: Literal["cross"] = "cross"
    columns: tuple[str, str]
    vocabulary: list[tuple[str, str]] = Field(description="Pairs on the train side; the first has code 1.")

    @property
    def texts(self) -> list[str]:
        """The pairs, each as one text."""
        return [_pair(*pair) for pair in self.vocabulary]

    def expression(self) -> pl.Expr:
        """The bulk path."""
        import polars as pl

        first, second = map(_text, self.columns)
        return self._coded(pl.concat_str(first.str.len_chars().cast(pl.String), pl.lit(":"), first, second))

    def encode_column(self, columns: Columns) -> Iterable[float]:
        """The path for a few rows."""
        return map(self._encode, *(columns[name] for name in self.columns))

    def reader(self) -> Callable[[Row], float]:
        """The path for one row."""
        first, second = self.columns
        return lambda row: self._encode(row.get(first), row.get(second))

    def _encode(self, one: Scalar | None, other: Scalar | None) -> float:
        first, second = _as_text(one), _as_text(other)
        return self._code(None if first is None or second is None else _pair(first, second))


def _text(name: str) -> pl.Expr:
    import polars as pl

    return pl.col(name).cast(pl.String)


def _as_text(value: Scalar | None) -> str | None:
    """A category as polars casts it to text."""
    if value is None:
        return None
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _pair(first: str, second: str) -> str:
    """Two texts as one that no other two give: the length of the first says where it ends."""
    return f"{len(first)}:{first}{second}"


Feature = Annotated[NumberFeature | CombinedFeature | CategoryFeature | CrossFeature, Field(discriminator="kind")]


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
        return [feature.name for feature in self.features if feature.is_category]

    @property
    def vocabulary_sizes(self) -> dict[str, int]:
        """How many names each categorical feature knows."""
        return {f.name: len(f.vocabulary) for f in self.features if f.kind in {"category", "cross"}}

    @property
    def monotone(self) -> list[int]:
        """For each feature whether the probability must not fall (1) or not rise (-1) with it, or may do both (0)."""
        return [feature.monotone if feature.kind == "number" else 0 for feature in self.features]

    @cached_property
    def inputs(self) -> list[str]:
        """Names of the columns that the features are made of."""
        pairs = (feature.columns if feature.kind in {"product", "ratio", "cross"} else () for feature in self.features)
        single = (feature.name for feature in self.features if feature.kind in {"number", "category"})
        return list(dict.fromkeys([*single, *(name for pair in pairs for name in pair)]))

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

    def encode_rows(self, rows: Sequence[Row]) -> list[Iterable[float]]:
        """The path for a few rows: the numbers of each feature. A column that a row lacks counts as missing."""
        columns = self._columns(rows)
        return [feature.encode_column(columns) for feature in self.features]

    def _columns(self, rows: Sequence[Row]) -> dict[str, Sequence[Scalar | None]]:
        """The rows by column."""
        if len(self.inputs) > 1:
            with suppress(KeyError):  # rarely does a row lack one; this way there is no call of Python for each value
                return dict(zip(self.inputs, zip(*map(itemgetter(*self.inputs), rows), strict=True), strict=True))
        return {name: [row.get(name) for row in rows] for name in self.inputs}

    def encode_row(self, row: Row) -> list[float]:
        """The numbers of one customer. A column that the row lacks counts as missing."""
        return [read(row) for read in self._readers]

    @cached_property
    def _readers(self) -> list[Callable[[Row], float]]:
        return [feature.reader() for feature in self.features]

    def to_json(self) -> bytes:
        """The encoder as a bundle carries it."""
        return canonical(self.model_dump(mode="json")) + b"\n"


def parse(data: bytes) -> Encoder:
    """Read an encoder back (`Encoder.to_json`)."""
    return Encoder.model_validate_json(data)


def fit(train: pl.LazyFrame, schema: TableSchema) -> Encoder:
    """Learn vocabularies and ranges from the rows of the train side, in one streaming pass.

    The features are the columns in their order, then the interactions in theirs.
    """
    import polars as pl

    amounts, names = _amounts(schema), _names(schema)
    ranges = train.select(
        *(value.min().alias(f"min:{name}") for name, value in amounts.items()),
        *(value.max().alias(f"max:{name}") for name, value in amounts.items()),
        pl.len().alias("rows"),
    )
    vocabularies = [train.select(map(_text, columns)).unique().drop_nulls() for columns in names.values()]
    bounds, *words = pl.collect_all([ranges, *vocabularies], engine="streaming")
    found = bounds.row(0, named=True)
    features: dict[str, Feature] = {
        name: _number(name, schema, found[f"min:{name}"], found[f"max:{name}"]) for name in amounts
    }
    features |= {name: _category(name, schema, sorted(frame.rows())) for name, frame in zip(names, words, strict=True)}
    return Encoder(features=[features[name] for name in (*schema.features, *schema.interactions)])


def _amounts(schema: TableSchema) -> dict[str, pl.Expr]:
    """The features that are numbers: their finite values."""
    columns = {name: _float(name) for name, column in schema.features.items() if not column.is_category}
    made = {name: _combined(i.kind, *i.columns) for name, i in schema.interactions.items() if i.kind != "cross"}
    return {name: _finite(value) for name, value in {**columns, **made}.items()}


def _finite(value: pl.Expr) -> pl.Expr:
    import polars as pl

    return pl.when(value.is_finite()).then(value)


def _names(schema: TableSchema) -> dict[str, list[str]]:
    """The features that are categories: the columns that their names come from."""
    columns = {name: [name] for name, column in schema.features.items() if column.is_category}
    return columns | {name: i.columns for name, i in schema.interactions.items() if i.kind == "cross"}


def _category(name: str, schema: TableSchema, words: list[tuple[str, ...]]) -> CategoryFeature | CrossFeature:
    dtype: Literal["uint8", "uint16", "uint32"] = "uint32"
    if len(words) < 2**8:
        dtype = "uint8"
    elif len(words) < 2**16:
        dtype = "uint16"
    if name in schema.features:
        return CategoryFeature(name=name, vocabulary=[word for (word,) in words], dtype=dtype)
    first, second = schema.interactions[name].columns
    return CrossFeature(name=name, columns=(first, second), vocabulary=[(a, b) for a, b in words], dtype=dtype)


def _number(
    name: str, schema: TableSchema, minimum: float | None, maximum: float | None
) -> NumberFeature | CombinedFeature:
    low, high = minimum or 0.0, maximum or 0.0  # a column that is missing throughout
    exact = max(abs(low), abs(high)) <= _EXACT_IN_FLOAT32
    dtype: Literal["float32", "float64"] = "float32" if exact else "float64"
    if name in schema.features:
        monotone = schema.features[name].monotone or 0
        return NumberFeature(name=name, minimum=low, maximum=high, dtype=dtype, monotone=monotone)
    made = schema.interactions[name]
    first, second = made.columns
    return CombinedFeature(name=name, kind=made.kind, columns=(first, second), minimum=low, maximum=high, dtype=dtype)
