"""The encoder of a model: its features in order, on the bulk path and on the path for a few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING

from vehins.artifacts.record import Record, canonical
from vehins.data.schema import Scalar
from vehins.model.features.kinds import Feature, Row

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


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
