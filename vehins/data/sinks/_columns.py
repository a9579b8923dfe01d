"""Columns of rows on their way into a SQL database: five types, whatever their width was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import polars as pl

SqlType = Literal["int", "float", "text", "bool", "moment"]


def sql_types(batch: pl.DataFrame) -> dict[str, SqlType]:
    """The type of each column; one that holds nothing but nulls is text."""
    return {name: _of(dtype) for name, dtype in batch.schema.items()}


def _of(dtype: pl.DataType) -> SqlType:
    import polars as pl

    if dtype.is_integer():
        return "int"
    if dtype.is_numeric():
        return "float"
    if dtype == pl.Boolean:
        return "bool"
    return "moment" if isinstance(dtype, (pl.Datetime, pl.Date)) else "text"


def typed(batch: pl.DataFrame, types: dict[str, SqlType]) -> pl.DataFrame:
    """A batch with each column in the widest form of its type; moments are in UTC."""
    import polars as pl

    wide: dict[SqlType, pl.DataType] = {
        "int": pl.Int64(),
        "float": pl.Float64(),
        "text": pl.String(),
        "bool": pl.Boolean(),
        "moment": pl.Datetime("us", "UTC"),
    }

    def column(name: str, kind: SqlType) -> pl.Expr:
        dtype, value = batch.schema[name], pl.col(name)
        if kind == "moment" and not (isinstance(dtype, pl.Datetime) and dtype.time_zone):
            return value.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        return value.cast(wide[kind])

    return batch.select(column(name, kind) for name, kind in types.items())
