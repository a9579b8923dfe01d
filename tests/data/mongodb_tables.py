"""A schema of customers kept in documents, and ways to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
from small_tables import TARGET

from vehins.data.conform import Conformed, conform
from vehins.data.schema import TableSchema
from vehins.data.sources import ReadOptions, open_source
from vehins.settings import MongoSettings, RemoteSettings

if TYPE_CHECKING:
    from pathlib import Path

    from mongodb_server import Mongo

QUICK = RemoteSettings(connect_timeout=10, read_timeout=20, attempts=4)


def schema_of(columns: dict[str, dict[str, Any]]) -> TableSchema:
    """A schema of some columns, and a target ``y``."""
    return TableSchema.model_validate({"name": "t", "columns": {**columns, "y": TARGET}})


CUSTOMERS = schema_of({"id": {"dtype": "int", "role": "key", "path": "_id"}, "age": {"dtype": "int"}})
CUSTOMERS_TOML = """name = "t"
[columns.id]
dtype = "int"
role = "key"
path = "_id"
[columns.age]
dtype = "int"
[columns.y]
dtype = "int"
role = "target"
values = [0, 1]
positive = 1
"""


def customers(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Documents of `CUSTOMERS`."""
    return [{"_id": i, "age": i % 60 + 20, "y": i % 2} for i in range(first, first + count)]


def address(mongodb: Mongo, collection: Any) -> str:
    """The address of a collection."""
    return f"{mongodb.url}/{collection.database.name}?collection={collection.name}"


def batches(url: str, schema: TableSchema, reader: str = "bson", **options: Any) -> list[pl.DataFrame]:
    """All batches that a source yields."""
    given = {"remote": QUICK, "mongodb": MongoSettings(reader=reader), **options}
    return list(open_source(url, ReadOptions(**given)).batches(schema))


def typed(frames: list[pl.DataFrame], schema: TableSchema) -> Conformed:
    """Batches in the schema's types, rows numbered through."""
    found, row = [], 0
    for frame in frames:
        found.append(conform(frame, schema, row))
        row += frame.height
    return Conformed(pl.concat(one.rows for one in found), pl.concat(one.unparsed for one in found))


def write_schema(folder: Path) -> Path:
    """`CUSTOMERS` as a file."""
    path = folder / "t.toml"
    path.write_text(CUSTOMERS_TOML)
    return path
