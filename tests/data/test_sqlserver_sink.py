"""Rows through SQL Server's driver into a table: whole or not at all."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from vehins.data.sinks import WriteOptions, open_sink
from vehins.errors import CredentialsError, SettingsError, SourceFormatError, UnreachableError

ROWS = pl.DataFrame(
    {"id": [1, 2, 3], "name": ["a", None, "ü"], "score": [0.5, 0.25, None], "call": [True, False, None]}
)


def write(server, *batches, table="scored", key="id", replace=False):
    told = []
    sink = open_sink(server.of_table(table), WriteOptions())
    rows = sink.write(batches, key, replace=replace, on_rows=told.append)
    assert told == [rows]
    return rows


def there(server, columns="*", table="scored"):
    return server.rows(f"SELECT {columns} FROM dbo.[{table}] ORDER BY 1")


def test_a_table_is_made(sqlserver_database):
    moment = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    rows = ROWS.with_columns(when=pl.lit(moment), big=pl.lit(2**62), nothing=pl.lit(None))
    assert write(sqlserver_database, rows) == 3
    plain = [(*row[:4], moment.replace(tzinfo=None), 2**62, None) for row in rows.rows()]
    assert there(sqlserver_database) == plain


def test_batches_are_put_together_and_rows_with_a_known_key_replaced(sqlserver_database):
    assert write(sqlserver_database, ROWS[:2], ROWS[2:]) == 3
    more = pl.DataFrame({"id": [3, 4], "name": ["new", "d"], "score": [1.0, 1.0], "call": [None, True]})
    write(sqlserver_database, more)
    write(sqlserver_database, more)
    assert there(sqlserver_database, "id, name") == [(1, "a"), (2, None), (3, "new"), (4, "d")]


def test_more_rows_than_are_sent_at_once(sqlserver_database):
    rows = pl.DataFrame({"id": range(25_000), "score": [i / 7 for i in range(25_000)]})
    assert write(sqlserver_database, rows[:15_000], rows[15_000:]) == 25_000
    assert there(sqlserver_database) == rows.rows()


def test_some_columns_are_changed_and_the_others_kept(sqlserver_database):
    write(sqlserver_database, ROWS)
    write(sqlserver_database, pl.DataFrame({"id": [1, 9], "SCORE": [9.0, 9.0]}))
    assert there(sqlserver_database, "id, name, score")[::3] == [(1, "a", 9.0), (9, None, 9.0)]


def test_text_keys_and_keys_alone(sqlserver_database):
    write(sqlserver_database, pl.DataFrame({"id": ["b", "a"]}))
    write(sqlserver_database, pl.DataFrame({"id": ["b", "c"]}))
    assert there(sqlserver_database) == [("a",), ("b",), ("c",)]


def test_replace_leaves_the_written_rows_alone(sqlserver_database):
    write(sqlserver_database, ROWS)
    write(sqlserver_database, ROWS[:1].with_columns(id=pl.lit(7)), replace=True)
    assert there(sqlserver_database, "id") == [(7,)]
    assert write(sqlserver_database, replace=True) == 0
    assert there(sqlserver_database) == []


def test_columns_that_the_table_lacks_are_named(sqlserver_database):
    sqlserver_database.run("CREATE TABLE dbo.scored (id bigint PRIMARY KEY, name nvarchar(20))")
    with pytest.raises(SettingsError, match="lacks `score`, `call`"):
        write(sqlserver_database, ROWS)
    assert there(sqlserver_database) == []


def test_fractions_are_not_lost(sqlserver_database):
    sqlserver_database.run("CREATE TABLE dbo.scored (id bigint PRIMARY KEY, score int)")
    with pytest.raises(SettingsError, match=r"`score`.* would lose its fractions"):
        write(sqlserver_database, ROWS.select("id", "score"))


@pytest.mark.parametrize("replace", [False, True])
def test_a_key_twice_changes_nothing(sqlserver_database, replace):
    write(sqlserver_database, ROWS)
    with pytest.raises(SourceFormatError):
        write(sqlserver_database, pl.concat([ROWS, ROWS]), replace=replace)
    assert there(sqlserver_database) == ROWS.rows()


@pytest.mark.parametrize("replace", [False, True])
def test_a_last_step_that_fails_undoes_those_before(sqlserver_database, replace):
    """The table forbids a row, which only the INSERT after UPDATE or DELETE finds out."""
    sqlserver_database.run("CREATE TABLE dbo.scored (id bigint PRIMARY KEY, name nvarchar(20), CHECK (id < 3))")
    write(sqlserver_database, ROWS[:1].select("id", "name"))
    with pytest.raises(SourceFormatError):
        write(sqlserver_database, ROWS.select("id", name=pl.lit("new")), replace=replace)
    assert there(sqlserver_database) == [(1, "a")]


def test_what_breaks_between_batches_is_not_seen_and_can_be_repeated(own_responder):
    write(own_responder, ROWS[:1])

    def broken():
        yield ROWS.with_columns(name=pl.lit("new"))
        own_responder.process.kill()
        own_responder.process.wait()
        yield ROWS.with_columns(id=pl.col("id") + 10)

    sink = open_sink(own_responder.of_table("scored"), WriteOptions())
    with pytest.raises(UnreachableError, match="broke off"):
        sink.write(broken(), "id", replace=True, on_rows=lambda n: pytest.fail("no row is safe"))
    again = own_responder.restarted()
    assert there(again, "id, name") == [(1, "a")]
    assert write(again, ROWS, replace=True) == 3
    assert len(there(again)) == 3


def test_an_error_of_the_rows_leaves_no_table(sqlserver_database):
    def broken():
        yield ROWS
        raise ValueError("of the caller")

    sink = open_sink(sqlserver_database.of_table("scored"), WriteOptions())
    with pytest.raises(ValueError, match="of the caller"):
        sink.write(broken(), "id", replace=False, on_rows=lambda n: None)
    assert (
        sqlserver_database.rows("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = N'scored'") == []
    )


def test_no_right_to_write(sqlserver_database):
    sqlserver_database.run(
        "CREATE TABLE dbo.scored (id bigint PRIMARY KEY)", "CREATE LOGIN vehins_reader WITH PASSWORD = 'Geheim-r1'",
        "CREATE USER vehins_reader FOR LOGIN vehins_reader", "GRANT SELECT ON dbo.scored TO vehins_reader",
    )  # fmt: skip
    try:
        with pytest.raises(CredentialsError, match="lacks a right") as caught:
            write(sqlserver_database.with_login("vehins_reader", "Geheim-r1"), ROWS.select("id"))
    finally:
        sqlserver_database.run("DROP LOGIN vehins_reader")
    assert "Geheim-r1" not in str(caught.value.as_dict())


@pytest.mark.parametrize("table", ["Mixed Case", "ä"])
def test_odd_names(sqlserver_database, table):
    rows = pl.DataFrame({"i]d": [1], "sel ect": ["x"]})
    for replace in (False, False, True):
        write(sqlserver_database, rows, table=table, key="i]d", replace=replace)
    assert there(sqlserver_database, table=table) == [(1, "x")]
