"""A read of MongoDB that breaks off goes on behind the last document, or ends with exit code 6 and leaves nothing."""

from __future__ import annotations

import datetime as dt
import random
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from mongodb_server import running_mongodb
from mongodb_tables import CUSTOMERS, QUICK, address, batches, customers, schema_of, write_schema
from scripted_mongodb import scripted_mongodb
from server_process import free_port
from vehins_runner import WORKSPACE

from vehins.data.sources import ReadOptions, open_source
from vehins.data.sources.mongodb import reading, source
from vehins.errors import UnreachableError
from vehins.remote import retry
from vehins.settings import RemoteSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mongodb_server import Mongo
    from vehins_runner import Vehins

# Ids of every type that has an order, as MongoDB sorts them; of some types two.
IDS = [
    MinKey(),
    None,
    float("nan"),
    -5,
    1.5,
    Int64(7),
    Decimal128("8.25"),
    Int64(2**40),
    "a",
    "b",
    {"a": 1},
    {"a": 2},
    b"x",
    Binary(b"0" * 16, 4),
    ObjectId("0" * 24),
    ObjectId("f" * 24),
    False,
    True,
    dt.datetime(2020, 1, 1),
    dt.datetime(2020, 1, 2),
    Timestamp(5, 1),
    Timestamp(5, 2),
    MaxKey(),
]
ANY_ID = schema_of({"n": {"dtype": "int", "role": "key"}, "age": {"dtype": "int"}})


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two documents at a time, and hardly a pause before another try."""
    monkeypatch.setattr(retry, "_JITTER", 0.01)
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(reading, "FETCHED", 2)
    monkeypatch.setattr(source, "_HELD_ROWS", 2)


@pytest.fixture(scope="module")
def faulty() -> Iterator[Mongo]:
    """A server that can be told to fail."""
    with running_mongodb("--enable-test-commands") as server:
        yield server


def fail(server: Mongo, mode: Any, **data: Any) -> None:
    with server.client() as client:
        client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)


def keys(frames: list[pl.DataFrame], name: str = "n") -> list[int]:
    return pl.concat([frame.select(name) for frame in frames])[name].to_list()


# --- A script of faults, at a certain answer --------------------------------------------------------------------------

FAULTS = {
    "the cursor is gone": lambda request: request.command_err(43, "cursor id 7 not found"),
    "the primary steps down": lambda request: request.command_err(11602, "operation was interrupted"),
    "it is no primary any more": lambda request: request.command_err(189, "PrimarySteppedDown"),
    "it shuts down": lambda request: request.command_err(91, "The server is in quiesce mode"),
    "the socket is cut": lambda request: request.hangs_up(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_read_goes_on_behind_the_last_document(fault: str) -> None:
    docs = customers(6)
    finds: list[Any] = [[docs[:2], docs[2:4], FAULTS[fault]], [docs[4:5], docs[5:]]]
    with scripted_mongodb(finds) as (url, script):
        found = batches(url, CUSTOMERS, query='{"age": {"$gt": 1}}')
    assert keys(found, "id") == list(range(6))
    chosen = {"age": {"$gt": 1}}
    assert script.filters == [chosen, {"$and": [chosen, {"$expr": {"$gt": ["$_id", {"$literal": 3}]}}]}]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_the_first_answer_starts_anew(fault: str) -> None:
    finds: list[Any] = [[FAULTS[fault]], [customers(2)]]
    with scripted_mongodb(finds) as (url, script):
        assert keys(batches(url, CUSTOMERS), "id") == [0, 1]
    assert script.filters == [{}, {}]


def test_progress_begins_the_count_of_attempts_anew() -> None:
    docs = customers(10)
    cut = FAULTS["the cursor is gone"]
    finds: list[Any] = [*([docs[i : i + 1], cut] for i in range(9)), [docs[9:]]]
    with scripted_mongodb(finds) as (url, script):
        assert keys(batches(url, CUSTOMERS, remote=RemoteSettings(attempts=2)), "id") == list(range(10))
    assert len(script.filters) == 10


def test_without_progress_attempts_are_bounded() -> None:
    cut = FAULTS["the cursor is gone"]
    finds: list[Any] = [[customers(2), cut], *([cut] for _ in range(9))]
    with scripted_mongodb(finds) as (url, script), pytest.raises(UnreachableError):
        batches(url, CUSTOMERS, remote=RemoteSettings(attempts=3))
    assert len(script.filters) == 3


def test_an_error_that_will_come_again_is_not_tried_again() -> None:
    finds: list[Any] = [[customers(2), lambda request: request.command_err(96, "OperationFailed")]]
    with scripted_mongodb(finds) as (url, script), pytest.raises(UnreachableError, match="cannot answer"):
        batches(url, CUSTOMERS)
    assert len(script.filters) == 1


def test_an_id_that_cannot_be_named_to_the_last_bit_is_not_gone_on_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is no UTF-8 would be looked for as another one."""
    import bson

    raw = bson.encode({"_id": "aXb", "age": 30, "y": 0}).replace(b"X", b"\xff")
    assert reading._last_id(raw) is None
    assert reading._last_id(bson.encode({"_id": "aéb"})) == ("aéb",)
    assert reading._last_id(bson.encode({"_id": None})) == (None,)
    assert reading._last_id(bson.encode({"age": 1})) is None


# --- A real server, which knows the order of ids of all types ---------------------------------------------------------


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("reader", ["bson", "arrow"])
def test_ids_of_every_type_are_gone_on_from(faulty: Mongo, reader: str) -> None:
    """Every batch ends in a fault, so that the read goes on from an id of each type."""
    with faulty.client() as client:
        collection = client["ids"][f"c-{reader}"]
        documents = [{"_id": one, "n": i, "age": 30, "y": 0} for i, one in enumerate(IDS)]
        collection.insert_many(random.Random(1).sample(documents, len(documents)))
        url = address(faulty, collection)
        for first in (0, 1):  # so that each id is the last of a batch
            query = f'{{"n": {{"$gte": {first}}}}}'
            fail(faulty, "alwaysOn", failCommands=["getMore"], closeConnection=True)
            found = batches(url, ANY_ID, reader, query=query)
            assert keys(found) == list(range(first, len(IDS)))
        fail(faulty, "off")


@pytest.mark.usefixtures("small_batches")
def test_many_reads_with_random_faults_lose_and_double_nothing(faulty: Mongo) -> None:
    with faulty.client() as client:
        collection = client["random"]["c"]
        collection.insert_many([{"_id": one, "n": i, "age": 30, "y": 0} for i, one in enumerate(IDS)])
        url = address(faulty, collection)
        chance = random.Random(2)
        for _ in range(10):
            kind = chance.choice([{"closeConnection": True}, {"errorCode": 43}, {"errorCode": 11602}])
            mode = {"times": chance.randint(1, 3)}
            fail(faulty, mode, failCommands=["getMore"], **kind)
            assert keys(batches(url, ANY_ID, remote=RemoteSettings(attempts=8))) == list(range(len(IDS)))
            fail(faulty, "off")


@pytest.mark.usefixtures("small_batches")
def test_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    storage = ("--storage-path", str(tmp_path / "storage"), "--sync-on-commit")
    with running_mongodb(*storage) as server, server.client() as client:
        collection = client["db"]["c"]
        collection.insert_many([{"_id": one, "n": i, "age": 30, "y": 0} for i, one in enumerate(IDS)])
        patient = RemoteSettings(connect_timeout=30, read_timeout=30, attempts=8)
        read = open_source(address(server, collection), ReadOptions(remote=patient)).batches(ANY_ID)
        found = [next(read)]
        server.kill()
        with running_mongodb(*storage, port=int(server.url.rpartition(":")[2])):
            found += read
    assert keys(found) == list(range(len(IDS)))


def test_views_are_not_gone_on_with(faulty: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several of their documents may have one `_id`."""
    monkeypatch.setattr(reading, "FETCHED", 2)
    with faulty.client() as client:
        client["views"]["c"].insert_many(customers(10))
        client["views"].command("create", "v", viewOn="c", pipeline=[])
        url = f"{faulty.url}/views?collection=v"
        assert keys(batches(url, CUSTOMERS), "id") == list(range(10))
        fail(faulty, {"times": 1}, failCommands=["getMore"], errorCode=43)
        with pytest.raises(UnreachableError):
            batches(url, CUSTOMERS)
        fail(faulty, "off")


# --- The command ------------------------------------------------------------------------------------------------------

BRIEF = ("--set", "remote.connect_timeout=1", "--set", "remote.read_timeout=5", "--set", "remote.attempts=2")
PATIENT = (*BRIEF, "--set", "remote.connect_timeout=30")  # where there is a server, which may be busy


def test_a_server_killed_for_good_ends_with_6_and_leaves_nothing(
    vehins: Vehins, place: Path, own_mongodb: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vehins.stages import ingest

    monkeypatch.setattr(reading, "FETCHED", 100)
    monkeypatch.setattr(source, "_HELD_ROWS", 100)
    with own_mongodb.client() as client:
        client["db"]["c"].insert_many(customers(2000))
    add = ingest._Writer.add

    def killing(self: Any, batch: pl.DataFrame) -> None:
        own_mongodb.kill()
        add(self, batch)

    monkeypatch.setattr(ingest._Writer, "add", killing)
    url = f"{own_mongodb.url}/db?collection=c"
    error = vehins("ingest", "--json", "--source", url, "--schema", write_schema(place), *BRIEF, code=6).error
    assert "does not answer" in error["headline"]
    assert "Check that the server runs" in error["hint"]
    assert not (WORKSPACE / "artifacts" / "Dataset").exists()
    assert list((WORKSPACE / "drafts").iterdir()) == []


def test_nobody_listens(vehins: Vehins) -> None:
    url = f"mongodb://127.0.0.1:{free_port()}/db?collection=c"
    error = vehins("ingest", "--json", "--source", url, *BRIEF, code=6).error
    assert "does not answer" in error["headline"]
    assert "Connection refused" in error["detail"]


def test_a_slow_server_is_not_waited_for(vehins: Vehins, place: Path, faulty: Mongo) -> None:
    with faulty.client() as client:
        client["slow"]["c"].insert_many(customers(10))
    slow = {"blockConnection": True, "blockTimeMS": 10_000}
    fail(faulty, "alwaysOn", failCommands=["find"], **slow)
    url = f"{faulty.url}/slow?collection=c&retryReads=false"
    error = vehins("ingest", "--json", "--source", url, "--schema", write_schema(place), *PATIENT, code=6).error
    fail(faulty, "off")
    assert "does not answer" in error["headline"]
    assert "remote.read_timeout" in error["hint"]


def test_a_table_that_nobody_reads_to_its_end_lets_go(mongodb: Mongo, collection: Any) -> None:
    collection.insert_many(customers(3_000))
    read = open_source(address(mongodb, collection), ReadOptions(remote=QUICK)).batches(CUSTOMERS)
    next(read)
    read.close()  # type: ignore[attr-defined]
