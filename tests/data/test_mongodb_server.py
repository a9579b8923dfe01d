"""The server that the tests of MongoDB run against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mongodb_server import Mongo


def test_documents_come_back(collection: Any) -> None:
    collection.insert_many([{"_id": i, "age": i / 2} for i in range(5)])
    assert [row["age"] for row in collection.find().sort("_id")] == [0, 0.5, 1, 1.5, 2]


def test_a_killed_server_is_gone(own_mongodb: Mongo) -> None:
    from pymongo.errors import ConnectionFailure

    with own_mongodb.client() as client:
        client.admin.command("ping")
    own_mongodb.kill()
    import pymongo

    gone: Any = pymongo.MongoClient(own_mongodb.url, serverSelectionTimeoutMS=300)
    with gone, pytest.raises(ConnectionFailure):
        gone.admin.command("ping")
