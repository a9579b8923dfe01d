"""What every kind of sink promises (`vehins.data.sinks.Sink`), each against a real store.

A kind joins by a function here that returns a `Target`; its fixtures are asked for by name, so that nothing starts a
server that is not tested.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import polars as pl
import pymongo
import pytest
from server_process import HOST, answers, free_port, program, running
from vehins_runner import child_environment

from vehins.data.sinks import WriteOptions, open_sink
from vehins.errors import ConflictError, CredentialsError, SettingsError, UnreachableError, VehinsError
from vehins.remote import aws
from vehins.settings import RemoteSettings, S3Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COLUMNS = ("id", "name", "amount", "call", "at")
AT = datetime(2026, 11, 24, 8, 30, 1, 500_000, tzinfo=UTC)
QUICK = RemoteSettings(connect_timeout=5, read_timeout=20, attempts=2)
TRIES = 20  # of a kill, which on a busy machine may come when all is over


@dataclass
class Target:
    """A table that is not there yet, and how to read it without the help of the code under test."""

    url: str
    read: Callable[[], list[tuple[Any, ...]]]
    """All rows as tuples in the order of `COLUMNS`; moments are in UTC."""
    options: WriteOptions


def file_target(request: pytest.FixtureRequest, suffix: str) -> Target:
    path = request.getfixturevalue("tmp_path") / f"rows{suffix}"

    def read() -> list[tuple[Any, ...]]:
        if suffix == ".parquet":
            return pl.read_parquet(path).select(COLUMNS).rows()
        table = pl.read_csv(path, schema_overrides={"name": pl.String, "amount": pl.Float64, "call": pl.Boolean})
        return table.with_columns(pl.col("at").str.to_datetime(time_zone="UTC")).select(COLUMNS).rows()

    return Target(str(path), read, WriteOptions(remote=QUICK))


def postgres_target(request: pytest.FixtureRequest) -> Target:
    server = request.getfixturevalue("postgres_database")

    def read() -> list[tuple[Any, ...]]:
        rows = server.rows("SELECT id, name, amount, call, at FROM rows")
        return [(*row[:4], row[4].astimezone(UTC) if row[4] else None) for row in rows]

    return Target(f"{server.url}?table=rows", read, WriteOptions(remote=QUICK))


def sqlserver_target(request: pytest.FixtureRequest) -> Target:
    server = request.getfixturevalue("sqlserver_database")

    def read() -> list[tuple[Any, ...]]:
        rows = server.rows("SELECT [id], [name], [amount], [call], [at] FROM dbo.[rows]")
        return [(*row[:4], row[4].replace(tzinfo=UTC) if row[4] else None) for row in rows]

    return Target(server.of_table("rows"), read, WriteOptions(remote=QUICK))


@pytest.fixture(scope="session")
def mongodb_sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that speaks MongoDB's protocol."""
    given = os.environ.get("VEHINS_TEST_MONGODB_URL")
    if given:
        yield given.rstrip("/")
        return
    port = free_port()
    command = [
        program("secantusd-py"),
        "--host",
        HOST,
        "--port",
        str(port),
        "--storage-path",
        ":memory:",
        "--standalone",
    ]
    with running(command, tmp_path_factory.mktemp("mongodb") / "log", lambda: answers(port)):
        yield f"mongodb://{HOST}:{port}"


def mongodb_target(request: pytest.FixtureRequest) -> Target:
    server, name = request.getfixturevalue("mongodb_sink"), f"test_{uuid4().hex}"
    client: Any = pymongo.MongoClient(server, tz_aware=True)
    request.addfinalizer(client.close)
    request.addfinalizer(lambda: client.drop_database(name))

    def read() -> list[tuple[Any, ...]]:
        assert client[name].list_collection_names() == ["rows"]
        documents = list(client[name]["rows"].find())
        assert all(document["_id"] == document["id"] for document in documents)
        return [tuple(document[column] for column in COLUMNS) for document in documents]

    return Target(f"{server}/{name}?collection=rows", read, WriteOptions(remote=QUICK))


@pytest.fixture(scope="session")
def s3_sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that speaks S3's protocol."""
    port = free_port()
    env = {**os.environ, "BIND_HOST": HOST, "GATEWAY_PORT": str(port)}
    with running([program("ministack")], tmp_path_factory.mktemp("s3") / "log", lambda: answers(port), env):
        yield f"http://{HOST}:{port}"


def s3_target(request: pytest.FixtureRequest) -> Target:
    patch = request.getfixturevalue("monkeypatch")
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    s3 = S3Settings(endpoint_url=request.getfixturevalue("s3_sink"), region="us-east-1", path_style=True)
    client, bucket = aws.s3_client(s3, QUICK), f"test-{uuid4().hex}"
    client.create_bucket(Bucket=bucket)

    def read() -> list[tuple[Any, ...]]:
        assert [found["Key"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["scores/rows.parquet"]
        data = client.get_object(Bucket=bucket, Key="scores/rows.parquet")["Body"].read()
        return pl.read_parquet(data).select(COLUMNS).rows()

    return Target(f"s3://{bucket}/scores/", read, WriteOptions(remote=QUICK, s3=s3))


TARGETS: dict[str, Callable[[pytest.FixtureRequest], Target]] = {
    "mongodb": mongodb_target,
    "s3": s3_target,
    "csv": lambda request: file_target(request, ".csv"),
    "parquet": lambda request: file_target(request, ".parquet"),
    "postgres": postgres_target,
    "sqlserver": sqlserver_target,
}


@pytest.fixture(params=list(TARGETS))
def target(request: pytest.FixtureRequest) -> Target:
    return TARGETS[request.param](request)


def table(first: int, rows: int, name: str = "a") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": range(first, first + rows),
            "name": [name if number % 3 else None for number in range(rows)],
            "amount": [0.1 + number / 7 for number in range(rows)],
            "call": [number % 2 == 0 for number in range(rows)],
            "at": [AT] * rows,
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def write(target: Target, *batches: pl.DataFrame, replace: bool = False) -> int:
    told: list[int] = []
    sink = open_sink(target.url, target.options)
    rows = sink.write(iter(batches), "id", replace=replace, on_rows=told.append)
    assert told[-1] == rows
    return rows


def test_rows_come_back_as_they_went(target: Target) -> None:
    assert write(target, table(1, 700), table(701, 300)) == 1_000
    assert sorted(target.read()) == pl.concat([table(1, 700), table(701, 300)]).rows()


def test_twice_is_once(target: Target) -> None:
    for _ in range(2):
        write(target, table(1, 50))
    assert sorted(target.read()) == table(1, 50).rows()


def test_a_row_with_a_known_key_takes_its_place_and_others_stay(target: Target) -> None:
    write(target, table(1, 30))
    write(target, table(21, 30, "b"))
    assert sorted(target.read()) == [*table(1, 30).rows()[:20], *table(21, 30, "b").rows()]


def test_replace_leaves_the_written_rows_alone(target: Target) -> None:
    write(target, table(1, 30), replace=True)
    write(target, table(21, 30, "b"), replace=True)
    assert sorted(target.read()) == table(21, 30, "b").rows()


@pytest.mark.parametrize("error", [VehinsError("the source broke"), KeyboardInterrupt()])
def test_replace_that_breaks_off_leaves_the_old_rows(target: Target, error: BaseException) -> None:
    write(target, table(1, 30))

    def breaks() -> Any:
        yield table(1, 10, "b")
        raise error

    with pytest.raises(type(error)):
        open_sink(target.url, target.options).write(breaks(), "id", replace=True, on_rows=lambda _: None)
    assert sorted(target.read()) == table(1, 30).rows()
    write(target, table(1, 30, "c"))
    assert sorted(target.read()) == table(1, 30, "c").rows()


def test_a_wrong_password_is_no_login_and_is_not_shown(target: Target) -> None:
    if "@" not in target.url:
        pytest.skip("no login in the address")
    head, _, tail = target.url.rpartition("@")
    url = f"{head.rpartition(':')[0]}:wrong-password@{tail}"
    with pytest.raises(CredentialsError) as caught:
        open_sink(url, target.options).write([table(1, 1)], "id", replace=False, on_rows=lambda _: None)
    assert "wrong-password" not in str(caught.value.as_dict())


def test_a_document_is_nested_by_the_paths_of_the_schema(request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("mongodb_sink")
    name = f"test_{uuid4().hex}"
    options = WriteOptions(remote=QUICK, paths={"name": "who.name", "amount": "who.sum"})
    with pymongo.MongoClient(server) as client:
        for replace in (True, False):
            sink = open_sink(f"{server}/{name}?collection=rows", options)
            sink.write([table(1, 3).select("id", "name", "amount")], "id", replace=replace, on_rows=lambda _: None)
            found = list(client[name]["rows"].find({"_id": 2}))
            assert found == [{"_id": 2, "id": 2, "who": {"name": "a", "sum": 0.1 + 1 / 7}}]
        client.drop_database(name)


def test_documents_of_others_are_not_doubled_and_their_indexes_stay(request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("mongodb_sink")
    name = f"test_{uuid4().hex}"
    with pymongo.MongoClient(server) as client:
        client[name]["rows"].insert_one({"id": 1})
        client[name]["rows"].create_index("name", name="by_name")
        sink = open_sink(f"{server}/{name}?collection=rows", WriteOptions(remote=QUICK))
        with pytest.raises(SettingsError, match="of another kind"):
            sink.write([table(1, 3)], "id", replace=False, on_rows=lambda _: None)
        assert client[name]["rows"].count_documents({}) == 1
        sink.write([table(1, 3)], "id", replace=True, on_rows=lambda _: None)
        assert "by_name" in client[name]["rows"].index_information()
        client.drop_database(name)


def test_a_unique_index_that_refuses_a_row_is_named(request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("mongodb_sink")
    name = f"test_{uuid4().hex}"
    with pymongo.MongoClient(server) as client:
        client[name]["rows"].create_index("amount", name="by_amount", unique=True)
        sink = open_sink(f"{server}/{name}?collection=rows", WriteOptions(remote=QUICK))
        rows = table(1, 3).with_columns(amount=pl.lit(1.0))
        with pytest.raises(ConflictError, match="unique index") as caught:
            sink.write([rows], "id", replace=False, on_rows=lambda _: None)
        assert "E11000" in caught.value.detail
        client.drop_database(name)


def test_a_load_that_is_killed_leaves_whole_documents_and_is_completed_by_running_it_again(
    request: pytest.FixtureRequest, place: Path
) -> None:
    server, name = request.getfixturevalue("mongodb_sink"), f"test_{uuid4().hex}"

    def load(rows: int, *more: str) -> subprocess.Popen[bytes]:
        words = ["load", f"demo://?rows={rows}", "--to", f"{server}/{name}?collection=rows", "--quiet", *more]
        return subprocess.Popen([sys.executable, "-m", "vehins", *words], env=child_environment())

    def kill_when(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        while process.poll() is None and not ready():
            time.sleep(0.01)
        process.kill()
        assert process.wait() in {0, -signal.SIGKILL}

    with pymongo.MongoClient(server) as client:
        database = client[name]

        def count() -> int:
            return int(database["rows"].count_documents({}))

        for _ in range(TRIES):
            client.drop_database(name)
            kill_when(load(10_000), lambda: database["rows"].estimated_document_count() > 0)
            assert {len(document) for document in database["rows"].find()} == {13}
            if count() < 10_000:
                break
        assert count() < 10_000
        assert load(10_000).wait() == 0
        assert count() == 10_000
        for _ in range(TRIES):
            kill_when(
                load(8_000, "--replace"),
                lambda: any(
                    found != "rows" and database[found].estimated_document_count() > 0
                    for found in database.list_collection_names()
                ),
            )
            assert count() in {8_000, 10_000}
            if count() == 10_000:
                break
            assert load(10_000).wait() == 0
        assert count() == 10_000
        client.drop_database(name)


def test_a_store_that_does_not_answer() -> None:
    options = WriteOptions(remote=RemoteSettings(connect_timeout=0.3, read_timeout=1, attempts=1))
    sink = open_sink(f"mongodb://{HOST}:{free_port()}/d?collection=c", options)
    with pytest.raises(UnreachableError, match="does not answer"):
        sink.write([table(1, 1)], "id", replace=False, on_rows=lambda _: None)


def test_an_object_that_somebody_else_wrote_meanwhile_stays_theirs(request: pytest.FixtureRequest) -> None:
    target = s3_target(request)
    write(target, table(1, 3))

    def batches() -> Any:
        yield table(1, 3, "b")
        write(target, table(1, 3, "c"))

    with pytest.raises(ConflictError):
        open_sink(target.url, target.options).write(batches(), "id", replace=False, on_rows=lambda _: None)
    assert target.read() == table(1, 3, "c").rows()
