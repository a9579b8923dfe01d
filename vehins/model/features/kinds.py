"""The kinds of features: each encodes what its columns hold, on every path to the same numbers."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from ctypes import c_float
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from vehins.artifacts.record import Record
from vehins.data.schema import Scalar

if TYPE_CHECKING:
    import polars as pl

Row = Mapping[str, Scalar | None]
Columns = Mapping[str, Sequence[Scalar | None]]
UNKNOWN = 0
# A float32 tells every integer up to here from the next.
EXACT_IN_FLOAT32 = 2**24
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
        return self._narrowed(amount_of(self.name))

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
        name, encode, limit = self.name, self.encode, EXACT_IN_FLOAT32 if self.dtype == "float32" else math.inf
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
        return self._narrowed(combined(self.kind, *self.columns))

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


def amount_of(name: str) -> pl.Expr:
    """A column of amounts, as float64; a missing one is NaN."""
    import polars as pl

    return pl.col(name).cast(pl.Float64).fill_null(math.nan)


def combined(kind: Literal["product", "ratio"], first: str, second: str) -> pl.Expr:
    """The product or the ratio of two columns of amounts."""
    import polars as pl

    if kind == "product":
        return amount_of(first) * amount_of(second)
    return pl.when(amount_of(second) != 0).then(amount_of(first) / amount_of(second)).otherwise(math.nan)


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
        return self._coded(text_of(self.name))

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

        first, second = map(text_of, self.columns)
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


def text_of(name: str) -> pl.Expr:
    """A column of names, as texts."""
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
