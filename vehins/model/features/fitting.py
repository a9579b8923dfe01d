"""What an encoder learns from the rows of the train side: vocabularies, ranges and types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from vehins.model.features.encoder import Encoder
from vehins.model.features.kinds import (
    EXACT_IN_FLOAT32,
    CategoryFeature,
    CombinedFeature,
    CrossFeature,
    Feature,
    NumberFeature,
    amount_of,
    combined,
    text_of,
)

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema


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
    vocabularies = [train.select(map(text_of, columns)).unique().drop_nulls() for columns in names.values()]
    bounds, *words = pl.collect_all([ranges, *vocabularies], engine="streaming")
    found = bounds.row(0, named=True)
    features: dict[str, Feature] = {
        name: _number(name, schema, found[f"min:{name}"], found[f"max:{name}"]) for name in amounts
    }
    features |= {name: _category(name, schema, sorted(frame.rows())) for name, frame in zip(names, words, strict=True)}
    return Encoder(features=[features[name] for name in (*schema.features, *schema.interactions)])


def _amounts(schema: TableSchema) -> dict[str, pl.Expr]:
    """The features that are numbers: their finite values."""
    columns = {name: amount_of(name) for name, column in schema.features.items() if not column.is_category}
    made = {name: combined(i.kind, *i.columns) for name, i in schema.interactions.items() if i.kind != "cross"}
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
    exact = max(abs(low), abs(high)) <= EXACT_IN_FLOAT32
    dtype: Literal["float32", "float64"] = "float32" if exact else "float64"
    if name in schema.features:
        monotone = schema.features[name].monotone or 0
        return NumberFeature(name=name, minimum=low, maximum=high, dtype=dtype, monotone=monotone)
    made = schema.interactions[name]
    first, second = made.columns
    return CombinedFeature(name=name, kind=made.kind, columns=(first, second), minimum=low, maximum=high, dtype=dtype)
