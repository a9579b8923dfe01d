"""Reading from a MongoDB server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from vehins.data import conform
from vehins.data.schema import TableSchema
from vehins.data.sources import ReadOptions, open_source
from vehins.errors import SettingsError

if TYPE_CHECKING:
    from mongodb_server import Mongo

SCHEMA = TableSchema.model_validate(
    {
        "name": "t",
        "columns": {
            "id": {"dtype": "int", "role": "key", "path": "_id"},
            "age": {"dtype": "int", "path": "person.age", "nullable": True},
            "gone": {"dtype": "string", "nullable": True},
            "y": {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1},
        },
    }
)


def read(mongodb: Mongo, collection: Any, query: str | None = None) -> pl.DataFrame:
    url = f"{mongodb.url}/{collection.database.name}?collection={collection.name}"
    source = open_source(url, ReadOptions(batch_rows=1_000, query=query))
    return pl.concat(source.batches(SCHEMA), how="vertical_relaxed")


def test_every_document_is_a_row(mongodb: Mongo, collection: Any) -> None:
    collection.insert_many([{"_id": i, "person": {"age": i % 90}, "y": i % 2} for i in range(25_000)])
    found = read(mongodb, collection)
    assert found.columns == ["id", "age", "y"]
    assert found["id"].to_list() == list(range(25_000))
    assert found["age"].to_list() == [i % 90 for i in range(25_000)]


def test_a_filter_chooses(mongodb: Mongo, collection: Any) -> None:
    collection.insert_many([{"_id": i, "person": {"age": i}, "y": 0} for i in range(50)])
    assert read(mongodb, collection, '{"person.age": {"$gte": {"$numberLong": "48"}}}')["id"].to_list() == [48, 49]


@pytest.mark.parametrize("query", ["{", "[]", '{"$where": "true"}', '{"$and": [{"$expr": {"$function": {}}}]}'])
def test_a_query_that_cannot_be_is_refused(query: str) -> None:
    with pytest.raises(SettingsError):
        open_source("mongodb://127.0.0.1:1/db?collection=c", ReadOptions(query=query))


def test_uneven_documents_are_converted_or_shown(mongodb: Mongo, collection: Any) -> None:
    from bson import Decimal128, Int64, ObjectId

    ages = [1, 2.0, "3", Int64(4), Decimal128("5"), None, float("nan"), "x", [6], {"a": 7}, ObjectId("0" * 24), 8.5]
    collection.insert_many([{"_id": i, "person": {"age": age}, "y": 0} for i, age in enumerate(ages)])
    collection.insert_many([{"_id": 12, "y": 0}, {"_id": 13, "person": "in the way", "y": 0}])
    typed = conform.conform(read(mongodb, collection), SCHEMA, 0)
    assert typed.rows["age"].to_list() == [1, 2, 3, 4, 5, *[None] * 9]
    assert typed.unparsed["row"].to_list() == [7, 8, 9, 10, 11, 13]


def test_types_may_change_from_batch_to_batch(mongodb: Mongo, collection: Any) -> None:
    ages = [*[True] * 11_000, *["7"] * 11_000, *[8.0] * 11_000]
    collection.insert_many([{"_id": i, "person": {"age": age}, "y": 0} for i, age in enumerate(ages)])
    url = f"{mongodb.url}/{collection.database.name}?collection={collection.name}"
    typed = [conform.conform(batch, SCHEMA, 0) for batch in open_source(url, ReadOptions()).batches(SCHEMA)]
    assert pl.concat(one.rows for one in typed)["age"].to_list() == [int(age) for age in ages]
    assert not any(one.unparsed.height for one in typed)
