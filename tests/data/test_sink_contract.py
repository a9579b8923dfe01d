"""What every kind of sink promises (`vehins.data.sinks.Sink`), each against a real store.

A kind joins by a function here that returns a `Target`; its fixtures are asked for by name, so that nothing starts a
server that is not tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from vehins.data.sinks import WriteOptions, open_sink
from vehins.errors import CredentialsError, VehinsError
from vehins.settings import RemoteSettings

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = ("id", "name", "amount", "call", "at")
AT = datetime(2026, 11, 24, 8, 30, 1, 500_000, tzinfo=UTC)
QUICK = RemoteSettings(connect_timeout=5, read_timeout=20, attempts=2)


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


TARGETS: dict[str, Callable[[pytest.FixtureRequest], Target]] = {
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
