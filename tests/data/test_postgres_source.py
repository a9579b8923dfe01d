"""Rows from a real PostgreSQL: the same as from a file, whatever the table is like."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from postgres_server import new_database
from server_process import wait_until
from small_tables import CUSTOMERS, read, table
from vehins_runner import WORKSPACE, customers, manifest

from vehins.data.conform import conform
from vehins.data.sinks import WriteOptions, open_sink
from vehins.data.sources import ReadOptions, open_source, postgres
from vehins.errors import CredentialsError, NotFoundError, SettingsError, SourceFormatError, UnreachableError
from vehins.remote import sql
from vehins.remote.logins import Login
from vehins.settings import RemoteSettings

SLOW = {"remote": RemoteSettings(read_timeout=1.0, attempts=1)}


def fill(server):
    """Make a table like `CUSTOMERS`, with 100,000 rows."""
    server.run(
        "CREATE TABLE customers (id bigint PRIMARY KEY, name text, age smallint, note text, y int, secret text)",
        "INSERT INTO customers SELECT i, 'n' || i, i % 90, 'x', i % 2, 'geheim' FROM generate_series(1, 100000) i",
    )
    return server


@pytest.fixture(scope="module")
def small(postgres):
    """A database with that table, which all tests share."""
    with new_database(postgres) as database:
        yield fill(database)


def test_a_dataset_is_that_of_a_file_with_the_same_rows(vehins, postgres_database):
    rows = customers()
    rows.write_csv("rows.csv")
    rows.write_parquet("rows.parquet")
    url = postgres_database.url + "?table=customers"
    open_sink(url, WriteOptions()).write([rows], "id", replace=False, on_rows=lambda n: None)
    postgres_database.run("ALTER TABLE customers ADD extra text")
    found = {}
    for source in ("rows.csv", "rows.parquet", url):
        vehins("ingest", "--source", source)
        found[source] = manifest("Dataset")["content"]
    vehins("ingest", "--source", url, "--query", "SELECT * FROM customers ORDER BY id DESC")
    assert len({*found.values(), manifest("Dataset")["content"]}) == 1
    assert manifest("Dataset")["result"]["extra_columns"] == []


def test_it_is_read_again_each_time(vehins, postgres_database):
    """Nobody can tell whether a database changed."""
    url = postgres_database.url + "?table=customers"
    open_sink(url, WriteOptions()).write([customers()], "id", replace=False, on_rows=lambda n: None)
    assert vehins.run("--source", url).statuses["ingest"] == "ran"
    again = vehins.run("--source", url)
    assert again.statuses["ingest"] == "ran"
    assert again.statuses["train"] == "reused"


def test_batches_are_bounded_and_complete(small):
    batches = read(small.url + "?table=customers", batch_rows=30_000)
    assert sum(batch.height for batch in batches) == 100_000
    assert max(batch.height for batch in batches) < 130_000
    assert {tuple(batch.columns) for batch in batches} == {("id", "name", "age", "y")}


def test_an_empty_table_has_columns_and_no_rows(postgres_database):
    small = fill(postgres_database)
    small.run("DELETE FROM customers")
    (batch,) = read(small.url + "?table=customers")
    assert (batch.columns, batch.height) == (["id", "name", "age", "y"], 0)


@pytest.mark.parametrize(
    "name", ["customers", "public.customers", "CUSTOMERS", "Public.Customers", '"public"."customers"']
)
def test_a_table_may_be_named_in_ways_that_postgresql_takes_as_well(small, name):
    assert sum(batch.height for batch in read(f"{small.url}?table={name}")) == 100_000


NAMES = {
    '"a.b"': "a.b",
    "with blank": "with blank",
    "Größe": "Größe",
    '"qu""ote"': 'qu"ote',
    "Select": "Select",
    "x; DROP TABLE y": "x; DROP TABLE y",
    "a--": "a--",
}


def test_a_name_may_hold_any_sign(postgres_database):
    postgres_database.run("CREATE TABLE y (id int)", "INSERT INTO y VALUES (1)")
    before = "y"
    for written, name in NAMES.items():
        postgres_database.run(f"ALTER TABLE {sql.quoted(before)} RENAME TO {sql.quoted(name)}")
        assert sum(batch.height for batch in read(f"{postgres_database.url}?table={written}")) == 1
        before = name


def test_names_are_matched_whatever_their_case_and_only_when_one_fits(postgres_database):
    postgres_database.run(
        'CREATE TABLE t ("ID" int, "Name" text, "NAME" text, "Age" int, "AGE" int, age int, y int)',
        "INSERT INTO t VALUES (1, 'a', 'b', 1, 2, 3, 0)",
    )
    (batch,) = read(postgres_database.url + "?table=t")
    assert batch.to_dicts() == [{"id": 1, "age": 3, "y": 0}]  # `name` could be either


def test_a_missing_column_is_missing_and_no_error(vehins, postgres_database):
    url = postgres_database.url + "?table=customers"
    open_sink(url, WriteOptions()).write([customers().drop("Vintage")], "id", replace=False, on_rows=lambda n: None)
    vehins("ingest", "--source", url)
    assert manifest("Dataset")["result"]["missing_columns"] == ["Vintage"]


def test_a_table_with_no_column_of_the_schema_is_refused(postgres_database):
    postgres_database.run("CREATE TABLE t (a int, b int)")
    with pytest.raises(SourceFormatError, match="no column of the schema small") as caught:
        read(postgres_database.url + "?table=t")
    assert caught.value.detail == "It has `a`, `b`."


TYPES = [
    ("numeric(10,2)", "12.50", "float", 12.5),
    ("numeric", "28", "int", 28),
    ("numeric", "'NaN'", "float", None),
    ("real", "1.5", "float", 1.5),
    ("double precision", "'NaN'", "float", None),
    ("smallint", "7", "int", 7),
    ("boolean", "true", "bool", True),
    ("boolean", "true", "int", 1),
    ("char(6)", "'ab'", "string", "ab"),
    ("varchar(6)", "'ab'", "string", "ab"),
    ("uuid", "'0E984725-C51C-4BF4-9960-E1C80E27ABA0'", "string", "0e984725-c51c-4bf4-9960-e1c80e27aba0"),
    ("date", "'2024-01-02'", "string", "2024-01-02"),
    ("date", "'infinity'", "string", "infinity"),
    ("timestamp", "'2024-01-02 03:04:05.12'", "string", "2024-01-02 03:04:05.12"),
    ("timestamptz", "'2024-01-02 03:04:05+02'", "string", "2024-01-02 01:04:05+00"),
    ("interval", "'1 day'", "string", "1 day"),
    ("jsonb", "'{}'", "string", "{}"),
    ("inet", "'10.0.0.1'", "string", "10.0.0.1/32"),
    ("money", "'1.50'", "float", 1.5),
    ("bytea", "'abc'", "string", "abc"),
    ("mood", "'happy'", "string", "happy"),
    ("positive", "5", "int", 5),
]


def test_each_type_has_a_defined_value(postgres_database):
    names = [f"v{number}" for number in range(len(TYPES))]
    columns = ", ".join(f"{name} {kind}" for name, (kind, *_) in zip(names, TYPES, strict=True))
    postgres_database.run(
        "CREATE TYPE mood AS ENUM ('sad', 'happy')",
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
        f"ALTER DATABASE {urlsplit(postgres_database.url).path[1:]} SET DateStyle = 'German'",
        f"CREATE TABLE t (y int, {columns})",
        f"INSERT INTO t VALUES (1, {', '.join(value for _, value, *_ in TYPES)}), (0{', NULL' * len(TYPES)})",
    )
    schema = table({name: {"dtype": row[2], "nullable": True} for name, row in zip(names, TYPES, strict=True)})
    (batch,) = read(postgres_database.url + "?table=t", schema)
    found = conform(batch, schema, 0)
    assert dict(zip(names, found.rows.drop("y").rows()[0], strict=True)) == {
        name: row[3] for name, row in zip(names, TYPES, strict=True)
    }
    assert set(found.rows.drop("y").rows()[1]) == {None}
    assert found.unparsed.height == 0


def test_a_list_is_set_aside_as_in_a_file(postgres_database):
    postgres_database.run("CREATE TABLE t (v int[], y int)", "INSERT INTO t VALUES ('{1,2}', 1)")
    schema = table({"v": {"dtype": "string", "nullable": True}})
    (batch,) = read(postgres_database.url + "?table=t", schema)
    assert conform(batch, schema, 0).unparsed["value"].to_list() == ["[1, 2]"]


def test_only_the_columns_of_the_schema_are_asked_for(small):
    """A login that may read nothing else proves it."""
    small.run(
        "DROP ROLE IF EXISTS vehins_narrow",
        "CREATE ROLE vehins_narrow LOGIN PASSWORD 'eng'",
        "GRANT SELECT (id, name, age, y) ON customers TO vehins_narrow",
    )
    try:
        assert sum(b.height for b in read(small.with_login("vehins_narrow", "eng") + "?table=customers")) == 100_000
    finally:
        small.run("DROP OWNED BY vehins_narrow", "DROP ROLE vehins_narrow")


def test_a_login_may_stand_in_settings(small):
    bare = small.url.replace(small.url.split("//")[1].split("@")[0] + "@", "")
    user, _, password = small.url.split("//")[1].split("@")[0].partition(":")
    assert read(f"{bare}?table=customers", login=Login(user, password=_secret(password)))
    with pytest.raises(CredentialsError):
        read(f"{bare}?table=customers", login=Login(user, password=_secret("falsch")))


def _secret(text):
    from pydantic import SecretStr

    return SecretStr(text)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, name, age, y FROM customers WHERE id <= 10",
        "SELECT * FROM customers WHERE id <= 10 -- ; the first ten",
        "SELECT * FROM customers WHERE id <= 10; -- done",
        "WITH few AS (SELECT * FROM customers LIMIT 10) SELECT * FROM few ORDER BY id;",
        "/* DROP */ SELECT * FROM customers WHERE id <= 10 AND name <> 'DELETE; it' AND $a$ ; $a$ <> ''",
        'SELECT id AS "into", id, name, age, y FROM customers LIMIT 10',
    ],
)
def test_a_query_is_one_statement(small, query):
    assert sum(batch.height for batch in read(small.url, query=query)) == 10


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM customers",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE customers",
        "WITH gone AS (DELETE FROM customers RETURNING *) SELECT * FROM gone",
        "SELECT * INTO other FROM customers",
        "SELECT 1 /* no end",
        "SELECT 'no end",
        "EXPLAIN SELECT 1",
        ";",
        "-- nothing",
    ],
)
def test_anything_else_is_refused_before_it_is_sent(query):
    with pytest.raises(SettingsError, match="not one statement that reads") as caught:
        open_source("postgresql://nobody.invalid/x", ReadOptions(query=query))
    assert caught.value.hint


def test_the_transaction_is_read_only(small):
    small.run("CREATE SEQUENCE IF NOT EXISTS numbers")
    with pytest.raises(SettingsError) as caught:
        read(small.url, query="SELECT nextval('numbers') AS id FROM customers")
    assert "read-only transaction" in caught.value.detail
    assert small.value("SELECT is_called FROM numbers") is False


@pytest.mark.parametrize(
    ("query", "said"),
    [("SELECT nix FROM customers", "nix"), ("SELECT FROM WHERE", "syntax"), ("SELECT 1/0 AS id", "zero")],
)
def test_a_query_that_does_not_work_is_a_setting(small, query, said):
    with pytest.raises((SettingsError, SourceFormatError)) as caught:
        read(small.url, query=query)
    assert said in caught.value.detail
    assert "--query" in caught.value.hint


# --- What can go wrong on the way -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [("custommers", "`?table=public.customers`"), ("zzz", "sees `public.customers`"), ("nix.customers", "customers")],
)
def test_a_table_that_is_not_there(small, name, hint):
    with pytest.raises(NotFoundError, match="There is no table") as caught:
        read(f"{small.url}?table={name}")
    assert hint in caught.value.hint
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("end", ["", "?table=", "?table=a.b.c", "?tabel=a", "?table=a&sslmode=require&password=x"])
def test_an_address_that_makes_no_sense(end):
    with pytest.raises(SettingsError) as caught:
        open_source(f"postgresql://u:geheim@h/db{end}", ReadOptions())
    assert "geheim" not in str(caught.value.as_dict())


def test_an_address_without_a_database():
    with pytest.raises(SettingsError, match="names no database"):
        open_source("postgresql://h/?table=a", ReadOptions())


def failing(vehins, *words: str, code: int, secret: str) -> dict[str, str]:
    """The error of an ingest that leaves no Dataset, and the password nowhere."""
    answer = vehins("ingest", "--json", "--debug", *words, code=code)
    assert secret not in answer.out + answer.err
    assert not list(WORKSPACE.glob("artifacts/Dataset/*"))
    for path in Path().rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()
    error = answer.error
    assert error["headline"]
    assert error["detail"]
    assert error["hint"]
    return error


def test_a_wrong_password(vehins, small):
    url = small.with_login("vehins", "pl%40nted")
    error = failing(vehins, "--source", url + "?table=customers", code=3, secret="pl@nted")
    assert "does not accept the login" in error["headline"]
    assert "VEHINS_CREDENTIALS_SOURCE_USER" in error["hint"]
    failing(vehins, "--source", url + "?table=customers", code=3, secret="pl%40nted")


def test_no_right_to_read(vehins, small):
    small.run("DROP ROLE IF EXISTS vehins_nobody", "CREATE ROLE vehins_nobody LOGIN PASSWORD 'geheim-nobody'")
    try:
        url = small.with_login("vehins_nobody", "geheim-nobody")
        error = failing(vehins, "--source", url + "?table=customers", code=3, secret="geheim-nobody")
    finally:
        small.run("DROP ROLE vehins_nobody")
    assert "lacks a right" in error["headline"]
    assert "GRANT SELECT" in error["hint"]


def test_no_such_database(vehins, postgres):
    url = postgres.with_database("nix").url + "?table=customers"
    assert "no such database" in failing(vehins, "--source", url, code=6, secret="geheim-pg")["headline"]


def test_nobody_listens(vehins, free_tcp_port):
    url = f"postgresql://u:geheim-pg@127.0.0.1:{free_tcp_port}/db?table=t"
    error = failing(vehins, "--source", url, code=6, secret="geheim-pg")
    assert "refused" in error["detail"]


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_tls_that_the_server_does_not_speak(vehins, small, mode):
    url = f"{small.url}?table=customers&sslmode={mode}"
    error = failing(vehins, "--source", url, code=6, secret="geheim-pg")
    assert "do not agree on TLS" in error["headline"]
    assert "sslmode=" in error["hint"]


def test_a_server_that_breaks_off_leaves_nothing_behind(vehins, small):
    """The server ends the connection itself, at a row that comes late."""
    query = (
        "SELECT id, name, age, CASE WHEN id = 90000 THEN pg_terminate_backend(pg_backend_pid())::int ELSE y END AS y "
        "FROM customers"
    )
    words = ("--source", small.url, "--query", query, "--set", "ingest.part_rows=1000")
    error = failing(vehins, *words, code=6, secret="geheim-pg")
    assert "broke off" in error["headline"]


def test_a_server_that_is_killed_while_it_is_read(own_cluster):
    own_cluster.run(
        "CREATE TABLE t AS SELECT i AS id, repeat('x', 500) AS name, 1 AS y FROM generate_series(1, 200000) i"
    )
    batches = open_source(own_cluster.url + "?table=t", ReadOptions(batch_rows=1000)).batches(CUSTOMERS)
    assert next(batches).height >= 1000
    own_cluster.kill()
    with pytest.raises(UnreachableError, match="broke off"):
        list(batches)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        read(own_cluster.url + "?table=t")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT pg_sleep(250)::text AS name",
        "SELECT id, pg_sleep(CASE WHEN id = 50000 THEN 250 ELSE 0 END)::text AS name FROM customers",
    ],
)
def test_a_slow_server_is_not_waited_for(small, query):
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="does not answer in time") as caught:
        read(small.url, query=query, batch_rows=1000, **SLOW)
    assert time.monotonic() - began < 120  # the query would take 250
    assert "remote.read_timeout" in caught.value.hint
    wait_until(lambda: _asleep(small) == 0)


def test_ctrl_c_cancels_the_statement(small):
    source = open_source(small.url, ReadOptions(query="SELECT pg_sleep(250)::text AS name"))

    def interrupt():
        while not _asleep(small):
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        list(source.batches(CUSTOMERS))
    wait_until(lambda: _asleep(small) == 0)


def _asleep(server) -> int:
    return server.value(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep%' "
        "AND pid <> pg_backend_pid() AND datname = current_database()"
    )


def test_a_server_that_is_full_is_tried_again(small):
    small.run(
        "DROP ROLE IF EXISTS vehins_one",
        "CREATE ROLE vehins_one LOGIN PASSWORD 'eins' CONNECTION LIMIT 1",
        "GRANT SELECT ON customers TO vehins_one",
    )
    import adbc_driver_postgresql.dbapi as driver

    url = small.with_login("vehins_one", "eins")
    try:
        holder = driver.connect(url)
        with pytest.raises(UnreachableError, match="cannot be reached"):
            read(url + "?table=customers", remote=RemoteSettings(attempts=1))
        threading.Timer(0.3, holder.close).start()
        assert read(url + "?table=customers", remote=RemoteSettings(attempts=10))
    finally:
        small.run("DROP OWNED BY vehins_one", "DROP ROLE vehins_one")


def test_one_statement_sees_one_state(postgres_database):
    """Rows that come and go meanwhile are not seen."""
    small = fill(postgres_database)
    batches = open_source(small.url + "?table=customers", ReadOptions(batch_rows=1000)).batches(CUSTOMERS)
    first = next(batches)
    small.run("DELETE FROM customers WHERE id > 50000", "INSERT INTO customers VALUES (0, 'new', 1, '', 1)")
    rest = list(batches)
    assert first.height + sum(batch.height for batch in rest) == 100_000


# --- vehins doctor --------------------------------------------------------------------------------------------------


def probed(url, **options):
    return {check.name: check for check in postgres.probe(url, ReadOptions(**options))}


def test_probe_of_a_way_that_is_free(small):
    small.run("ANALYZE customers")
    found = probed(small.url + "?table=customers")
    assert list(found) == list(postgres.CHECKS)
    assert {check.verdict for check in found.values()} == {"ok"}
    assert found["rows seen"].found == "about 100,000"
    assert "geheim-pg" not in str(found)
    assert probed(small.url, query="SELECT * FROM customers")["permission to read"].found == "the query"


@pytest.mark.parametrize(
    ("change", "end", "last", "code"),
    [
        (("vehins:geheim-pg", "vehins:wrong"), "?table=customers", "login", 3),
        (("", ""), "?table=customerz", "permission to read", 6),
        (("", ""), "?table=customers&sslmode=require", "TLS", 6),
        (("", ""), "?tabel=customers", "address", 3),
        (("127.0.0.1", "nobody.invalid"), "?table=customers", "DNS", 6),
    ],
)
def test_probe_stops_where_the_way_ends(small, change, end, last, code):
    found = probed(small.url.replace(*change) + end)
    assert list(found)[-1] == last
    assert found[last].failed
    assert found[last].mend
    assert found[last].exit_code == code
