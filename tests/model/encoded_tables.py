"""Small encoded tables to fit on."""

from __future__ import annotations

import numpy as np
import polars as pl

from vehins.data.schema import TableSchema
from vehins.model import features
from vehins.model.features import Encoder
from vehins.model.trainer import LABEL

COLUMNS = {
    "age": {"dtype": "int"},
    "premium": {"dtype": "float"},
    "city": {"dtype": "string"},
    "y": {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1},
}
SCHEMA = TableSchema.model_validate({"name": "customers", "columns": COLUMNS})


def monotone(direction: int) -> TableSchema:
    """The schema with a direction for the age."""
    columns = {**COLUMNS, "age": {"dtype": "int", "monotone": direction}}
    return TableSchema.model_validate({"name": "customers", "columns": columns})


def customers(rows: int, seed: int = 1) -> tuple[pl.DataFrame, pl.Series]:
    """Raw rows and labels: who is older, and where they live, matters; the premium bends the age up and down."""
    dice = np.random.default_rng(seed)
    table = pl.DataFrame(
        {
            "age": dice.integers(18, 90, rows),
            "premium": dice.normal(30_000, 9_000, rows),
            "city": dice.choice([f"c{number}" for number in range(30)], rows),
        }
    )
    odds = table["age"] / 20 - 4 + (table["city"].str.len_chars() - 2) + (table["age"] / 5).sin()
    return table, pl.Series(LABEL, dice.random(rows) < 1 / (1 + np.exp(-odds.to_numpy()))).cast(pl.UInt8)


def encoded(rows: int, seed: int = 1, schema: TableSchema = SCHEMA) -> tuple[Encoder, pl.DataFrame]:
    """An encoder and rows that it has encoded."""
    table, labels = customers(rows, seed)
    encoder = features.fit(table.lazy(), schema)
    return encoder, encoder.encode(table.lazy()).collect().with_columns(labels)
