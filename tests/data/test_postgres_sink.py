"""Rows into a real PostgreSQL: whole or not at all."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime

import polars as pl
import pytest
from server_process import wait_until

from vehins.data.sinks import WriteOptions, open_sink
from vehins.errors import CredentialsError, SettingsError, SourceFormatError, UnreachableError
from vehins.settings import RemoteSettings

ROWS = pl.DataFrame(
    {"id": [1, 2, 3], "name": ["a", None, "c"], "score": [0.5, 0.25, None], "call": [True, False, None]}
)


def write(server, *batches, table="scored", key="id", replace=False, url=None, **options):
    told = []
    sink = open_sink(f"{url or server.url}?table={table}", WriteOptions(**options))
    rows = sink.write(batches, key, replace=replace, on_rows=told.append)
    assert told == [rows]
    return rows


def there(server, table="scored"):
    return sorted(server.rows(f"SELECT * FROM {table}"))


def test_a_table_is_made_with_types_and_a_key(postgres_database):
    rows = ROWS.with_columns(
        small=pl.Series([1, 2, 3], dtype=pl.UInt8),
        when=pl.Series([datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)] * 3),
        naive=pl.lit(datetime(2024, 1, 2)),
        day=pl.lit(date(2024, 1, 2)),
        kind=pl.Series(["x", "y", "x"], dtype=pl.Categorical),
        nothing=pl.lit(None),
    )
    assert write(postgres_database, rows) == 3
    types = postgres_database.rows(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = 'scored'::regclass AND attnum > 0 ORDER BY attnum"
    )
    moment = "timestamp with time zone"
    assert dict(types) == {
        "id": "bigint", "name": "text", "score": "double precision", "call": "boolean", "small": "bigint",
        "when": moment, "naive": moment, "day": moment, "kind": "text", "nothing": "text",
    }  # fmt: skip
    assert (
        postgres_database.value("SELECT count(*) FROM pg_constraint WHERE contype = 'p' AND conname LIKE 'scored%'")
        == 1
    )
    assert postgres_database.rows("SELECT id, name, score, call FROM scored ORDER BY id") == ROWS.rows()
    assert (
        postgres_database.value(
            "SELECT \"when\" = '2024-01-02 03:04:05+00' AND day = '2024-01-02 00:00+00' FROM scored"
        )
        is True
    )


def test_batches_are_put_together_and_rows_with_a_known_key_replaced(postgres_database):
    assert write(postgres_database, ROWS[:2], ROWS[2:]) == 3
    more = pl.DataFrame({"id": [3, 4], "name": ["new", "d"], "score": [1.0, 1.0], "call": [None, None]})
    write(postgres_database, more)
    write(postgres_database, more)
    assert [row[:2] for row in there(postgres_database)] == [(1, "a"), (2, None), (3, "new"), (4, "d")]


def test_some_columns_are_changed_and_the_others_kept(postgres_database):
    write(postgres_database, ROWS)
    write(postgres_database, pl.DataFrame({"id": [1, 9], "score": [9.0, 9.0]}))
    assert postgres_database.rows("SELECT id, name, score FROM scored WHERE id IN (1, 9) ORDER BY 1") == [
        (1, "a", 9.0),
        (9, None, 9.0),
    ]


def test_keys_alone(postgres_database):
    write(postgres_database, ROWS.select("id"))
    write(postgres_database, pl.DataFrame({"id": [3, 4]}))
    assert there(postgres_database) == [(1,), (2,), (3,), (4,)]


def test_replace_leaves_the_written_rows_alone_and_keeps_rights(postgres_database):
    write(postgres_database, ROWS)
    postgres_database.run("CREATE VIEW seen AS SELECT id FROM scored", "GRANT SELECT ON scored TO public")
    write(postgres_database, ROWS[:1].with_columns(id=pl.lit(7)), replace=True)
    assert there(postgres_database, "seen") == [(7,)]
    assert postgres_database.value("SELECT relacl::text FROM pg_class WHERE relname = 'scored'").count("=r/") == 1
    assert write(postgres_database, replace=True) == 0
    assert there(postgres_database) == []


def test_readers_see_the_old_rows_or_the_new_ones(postgres_database):
    write(postgres_database, pl.DataFrame({"id": range(20_000), "v": [0] * 20_000}))
    seen, stop = set(), threading.Event()

    def look():
        while not stop.is_set():
            seen.add(postgres_database.rows("SELECT count(*), min(v), max(v) FROM scored")[0])

    reader = threading.Thread(target=look)
    reader.start()
    try:
        wait_until(lambda: seen)
        for value in (1, 2, 3):
            write(postgres_database, pl.DataFrame({"id": range(20_000), "v": [value] * 20_000}), replace=value != 2)
        wait_until(lambda: (20_000, 3, 3) in seen)
    finally:
        stop.set()
        reader.join()
    assert seen <= {(20_000, value, value) for value in range(4)}
    assert len(seen) > 1


def test_a_table_without_a_key_of_its_own(postgres_database):
    postgres_database.run("CREATE TABLE scored (id bigint, name text, score real, call bool)")
    write(postgres_database, ROWS)
    write(postgres_database, ROWS.with_columns(name=pl.lit("z")))
    assert [row[:2] for row in there(postgres_database)] == [(1, "z"), (2, "z"), (3, "z")]


@pytest.mark.parametrize("constraint", ["PRIMARY KEY", ""])
def test_texts_for_a_column_of_another_type_are_read_as_it(postgres_database, constraint):
    key = "0e984725-c51c-4bf4-9960-e1c80e27aba0"
    postgres_database.run(f'CREATE TABLE scored ("Key" uuid {constraint}, day date, score numeric(6,3))')
    rows = pl.DataFrame({"key": [key], "day": ["2024-01-02"], "score": [0.5]})
    write(postgres_database, rows, key="key")
    write(postgres_database, rows.with_columns(score=pl.lit(0.75)), key="key")
    assert postgres_database.rows('SELECT "Key"::text, day::text, score::text FROM scored') == [
        (key, "2024-01-02", "0.750")
    ]


def test_columns_that_the_table_lacks_are_named(postgres_database):
    postgres_database.run("CREATE TABLE scored (id bigint PRIMARY KEY, name text)")
    with pytest.raises(SettingsError, match="lacks `score`, `call`") as caught:
        write(postgres_database, ROWS)
    assert "`id`, `name`" in caught.value.detail
    assert there(postgres_database) == []


def test_fractions_are_not_lost(postgres_database):
    postgres_database.run("CREATE TABLE scored (id bigint PRIMARY KEY, score int)")
    with pytest.raises(SettingsError, match=r"`score`.* would lose its fractions"):
        write(postgres_database, ROWS.select("id", "score"))


@pytest.mark.parametrize("replace", [False, True])
def test_rows_that_do_not_fit_change_nothing(postgres_database, replace):
    postgres_database.run(
        "CREATE TABLE scored (id bigint PRIMARY KEY, name varchar(3))", "INSERT INTO scored VALUES (1, 'old')"
    )
    with pytest.raises(SourceFormatError) as caught:
        write(postgres_database, pl.DataFrame({"id": [1, 2], "name": ["new", "too long"]}), replace=replace)
    assert "too long" in caught.value.detail
    assert there(postgres_database) == [(1, "old")]
    assert _tables(postgres_database) == ["scored"]


@pytest.mark.parametrize("replace", [False, True])
def test_what_breaks_between_batches_is_not_seen_and_can_be_repeated(postgres_database, replace):
    write(postgres_database, ROWS[:1])

    def broken():
        yield ROWS.with_columns(name=pl.lit("new"))
        ours = "application_name = 'vehins' AND datname = current_database()"
        assert postgres_database.rows(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}") == [
            (True,)
        ]
        yield ROWS.with_columns(id=pl.col("id") + 10)

    sink = open_sink(f"{postgres_database.url}?table=scored", WriteOptions())
    with pytest.raises(UnreachableError, match="broke off"):
        sink.write(broken(), "id", replace=replace, on_rows=lambda n: pytest.fail("no row is safe"))
    assert [row[:2] for row in there(postgres_database)] == [(1, "a")]
    assert _tables(postgres_database) == ["scored"]
    assert write(postgres_database, ROWS, replace=replace) == 3
    assert len(there(postgres_database)) == 3


def test_an_error_of_the_rows_leaves_no_table(postgres_database):
    def broken():
        yield ROWS
        raise ValueError("of the caller")

    with pytest.raises(ValueError, match="of the caller"):
        open_sink(f"{postgres_database.url}?table=scored", WriteOptions()).write(
            broken(), "id", replace=False, on_rows=lambda n: None
        )
    assert _tables(postgres_database) == []


def _tables(server):
    """All tables, temporary ones of any connection included."""
    return [row[0] for row in server.rows(
        "SELECT relname::text FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE relkind = 'r' AND nspname <> 'information_schema' AND nspname !~ '^pg_(catalog|toast)'"
    )]  # fmt: skip


def test_a_key_twice_is_refused(postgres_database):
    write(postgres_database, ROWS)
    with pytest.raises(SourceFormatError):
        write(postgres_database, pl.concat([ROWS, ROWS]))
    assert len(there(postgres_database)) == 3


def test_no_right_to_write(postgres_database):
    postgres_database.run(
        "CREATE TABLE scored (id bigint PRIMARY KEY)", "DROP ROLE IF EXISTS vehins_reader",
        "CREATE ROLE vehins_reader LOGIN PASSWORD 'geheim-r'", "GRANT SELECT ON scored TO vehins_reader",
    )  # fmt: skip
    try:
        with pytest.raises(CredentialsError, match="lacks a right") as caught:
            write(postgres_database, ROWS.select("id"), url=postgres_database.with_login("vehins_reader", "geheim-r"))
    finally:
        postgres_database.run("DROP OWNED BY vehins_reader", "DROP ROLE vehins_reader")
    assert "geheim-r" not in str(caught.value.as_dict())


def test_a_table_that_somebody_holds_is_not_waited_for(postgres_database):
    import adbc_driver_postgresql.dbapi as driver

    write(postgres_database, ROWS)
    with driver.connect(postgres_database.url) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLE scored IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(UnreachableError):
            write(postgres_database, ROWS, remote=RemoteSettings(read_timeout=1.0))
    assert len(there(postgres_database)) == 3


@pytest.mark.parametrize("table", ["Mixed Case", '"a.b"', "ä"])
def test_odd_names(postgres_database, table):
    rows = pl.DataFrame({'i"d': [1], "sel ect": ["x"]})
    write(postgres_database, rows, table=table, key='i"d')
    write(postgres_database, rows, table=table, key='i"d', replace=True)
    assert len(_tables(postgres_database)) == 1
