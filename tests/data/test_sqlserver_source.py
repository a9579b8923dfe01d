"""Rows through SQL Server's driver: the same as from a file, and faults in plain words.

Behind the driver is a real server where VEHINS_TEST_MSSQL_URL names one, else the responder.
"""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest
from small_tables import CUSTOMERS, read, table
from vehins_runner import WORKSPACE, customers, manifest

from vehins.data.conform import conform
from vehins.data.sinks import WriteOptions, open_sink
from vehins.data.sources import ReadOptions, open_source, sqlserver
from vehins.errors import ConfigurationError, NotFoundError, SettingsError, SourceFormatError, UnreachableError
from vehins.remote import drivers
from vehins.remote import sqlserver as remote_sqlserver
from vehins.remote.logins import Login
from vehins.settings import RemoteSettings, S3Settings


def put(server, rows, name="customers"):
    open_sink(server.of_table(name), WriteOptions()).write([rows], "id", replace=False, on_rows=lambda n: None)


@pytest.fixture
def small(sqlserver_database):
    """A database with a table like `CUSTOMERS`, with 3,000 rows."""
    import polars as pl

    ids = pl.Series("id", range(1, 3001))
    put(sqlserver_database, pl.DataFrame({"id": ids, "name": "ä", "age": 40, "note": "x", "y": ids % 2, "more": "m"}))
    return sqlserver_database


def test_a_dataset_is_that_of_a_file_with_the_same_rows(vehins, sqlserver_database):
    rows = customers()
    rows.write_csv("rows.csv")
    put(sqlserver_database, rows)
    found = []
    for words in (["rows.csv"], [sqlserver_database.of_table("customers")]):
        vehins("ingest", "--source", *words)
        found.append(manifest("Dataset")["content"])
    query = "SELECT * FROM dbo.customers WHERE id IS NOT NULL;"
    vehins("ingest", "--source", sqlserver_database.url, "--query", query)
    assert len({*found, manifest("Dataset")["content"]}) == 1


def test_batches_are_bounded_and_have_the_columns_of_the_schema(small):
    batches = read(small.of_table("customers"), batch_rows=1000)
    assert [batch.height for batch in batches] == [1000, 1000, 1000, 0]
    assert {tuple(batch.columns) for batch in batches} == {("id", "name", "age", "y")}
    assert batches[0]["name"].unique().to_list() == ["ä"]


def test_an_empty_table_has_columns_and_no_rows(small):
    small.run("DELETE FROM dbo.customers")
    (batch,) = read(small.of_table("customers"))
    assert (batch.columns, batch.height) == (["id", "name", "age", "y"], 0)


def test_names_are_matched_whatever_their_case(sqlserver_database):
    sqlserver_database.run(
        "CREATE TABLE dbo.t ([ID] int, [Name] nvarchar(9), y int)", "INSERT INTO dbo.t VALUES (1, N'a', 0)"
    )
    (batch, _) = read(sqlserver_database.of_table("T"), batch_rows=1)
    assert batch.to_dicts() == [{"id": 1, "name": "a", "y": 0}]


def test_a_missing_column_is_missing_and_no_error(vehins, sqlserver_database):
    put(sqlserver_database, customers().drop("Vintage"))
    vehins("ingest", "--source", sqlserver_database.of_table("customers"))
    assert manifest("Dataset")["result"]["missing_columns"] == ["Vintage"]


def test_a_table_with_no_column_of_the_schema_is_refused(sqlserver_database):
    sqlserver_database.run("CREATE TABLE dbo.t (a int, b int)")
    with pytest.raises(SourceFormatError, match="no column of the schema small"):
        read(sqlserver_database.of_table("t"))


TYPES = [
    ("decimal(10,2)", "12.5", "float", 12.5),
    ("numeric(9,0)", "28", "int", 28),
    ("float", "1.5", "float", 1.5),
    ("tinyint", "7", "int", 7),
    ("smallint", "-7", "int", -7),
    ("bit", "1", "bool", True),
    ("bit", "1", "int", 1),
    ("nchar(6)", "N'ab    '", "string", "ab"),
    ("nvarchar(max)", "N'ünï'", "string", "ünï"),
    ("nvarchar(20)", "N''", "string", None),
    ("uniqueidentifier", "'0E984725-C51C-4BF4-9960-E1C80E27ABA0'", "string", "0e984725-c51c-4bf4-9960-e1c80e27aba0"),
    ("date", "'2024-01-02'", "string", "2024-01-02"),
    ("datetime2(7)", "'2024-01-02 03:04:05'", "string", "2024-01-02 03:04:05"),
]


@pytest.mark.parametrize(("kind", "value", "dtype", "expected"), TYPES)
def test_each_type_has_a_defined_value(sqlserver_database, kind, value, dtype, expected):
    sqlserver_database.run(f"CREATE TABLE dbo.t (v {kind}, y int)", f"INSERT INTO dbo.t VALUES ({value}, 1), (NULL, 0)")
    schema = table({"v": {"dtype": dtype, "nullable": True}})
    (batch,) = read(sqlserver_database.of_table("t"), schema)
    found = conform(batch, schema, 0)
    assert found.rows["v"].to_list() == [expected, None]
    assert found.unparsed.height == 0


@pytest.mark.parametrize(
    "query", ["DELETE FROM t", "SELECT 1 DROP TABLE t", "SELECT 1; SELECT 2", "EXEC p", "SELECT * INTO b FROM a"]
)
def test_a_query_that_does_not_only_read_is_refused_before_it_is_sent(query):
    with pytest.raises(SettingsError, match="not one statement that reads"):
        open_source("mssql://nobody.invalid/x", ReadOptions(query=query))


@pytest.mark.parametrize("query", ["SELECT nix FROM dbo.customers", "SELECT FROM WHERE"])
def test_a_query_that_does_not_work_is_a_setting(small, query):
    with pytest.raises(SettingsError, match="does not understand the query") as caught:
        read(small.url, query=query)
    assert "--query" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "mssql://u:geheim@h/db",
        "mssql://u:geheim@h/?table=t",
        "mssql://u:geheim@/db?table=t",
        "mssql://u:geheim@h:x/db?table=t",
        "mssql://u:geheim@h/db?table=t&encrypt=maybe",
        "mssql://u:geheim@h/db?table=t&trust_server_certificate=true",
        "mssql://u:geheim@h/db?table=t&driver=x",
    ],
)
def test_an_address_that_makes_no_sense(url):
    with pytest.raises(SettingsError) as caught:
        open_source(url, ReadOptions())
    assert caught.value.hint
    assert "geheim" not in str(caught.value.as_dict())


def test_without_the_driver_its_extra_is_named(small, monkeypatch):
    real = drivers.load_driver
    monkeypatch.setattr(drivers, "load_driver", lambda module, extra: real("mssql_python_absent", extra))
    with pytest.raises(ConfigurationError) as caught:
        read(small.of_table("customers"))
    assert "vehins[sqlserver]" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "hint"), [("custommers", "`?table=dbo.customers`"), ("Customer", "`?table=dbo.customers`")]
)
def test_a_table_that_is_not_there(small, name, hint):
    with pytest.raises(NotFoundError, match=f"There is no table dbo.{name}") as caught:
        read(small.of_table(name))
    assert hint in caught.value.hint


def failing(vehins, *words: str, code: int, secret: str) -> dict[str, str]:
    """The error of an ingest that leaves no Dataset, and the password nowhere."""
    answer = vehins("ingest", "--json", "--debug", *words, code=code)
    assert secret not in answer.out + answer.err
    assert not list(WORKSPACE.glob("artifacts/Dataset/*"))
    for path in Path().rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()
    assert all(answer.error[part] for part in ("headline", "detail", "hint"))
    return answer.error


def test_a_wrong_password(vehins, small):
    url = small.with_login("sa", "Pl4nted;x%7D").of_table("customers")
    error = failing(vehins, "--source", url, code=3, secret="Pl4nted;x}")
    assert "does not accept the login" in error["headline"]
    assert "Login failed" in error["detail"]


def test_no_such_database(vehins, sqlserver):
    error = failing(vehins, "--source", sqlserver.with_database("nix").of_table("t"), code=3, secret="geheim")
    assert "nix" in error["detail"]


def test_no_right_to_read(vehins, small):
    small.run(
        "CREATE LOGIN vehins_nobody WITH PASSWORD = 'Geheim-n1'", "CREATE USER vehins_nobody FOR LOGIN vehins_nobody"
    )
    try:
        url = small.with_login("vehins_nobody", "Geheim-n1").of_table("customers")
        error = failing(vehins, "--source", url, code=3, secret="Geheim-n1")
    finally:
        small.run("DROP LOGIN vehins_nobody")
    assert "lacks a right" in error["headline"]


def test_nobody_listens(vehins, sqlserver, free_tcp_port):
    url = f"mssql://u:geheim@127.0.0.1:{free_tcp_port}/db?table=t"
    words = ("--source", url, "--set", "remote.connect_timeout=3")
    assert "cannot be reached" in failing(vehins, *words, code=6, secret="geheim")["headline"]


def test_tls_that_the_server_does_not_speak(vehins, own_responder):
    url = own_responder.of_table("t").replace("encrypt=no", "encrypt=yes")
    error = failing(vehins, "--source", url, code=6, secret="geheim")
    assert "do not agree on TLS" in error["headline"]
    assert "encrypt=no" in error["hint"]


def test_a_server_that_is_killed_while_it_is_read(own_responder):
    import polars as pl

    rows = pl.DataFrame({"id": range(50_000), "name": "x" * 100, "y": 1})
    put(own_responder, rows)
    batches = open_source(own_responder.of_table("customers"), ReadOptions(batch_rows=1000)).batches(CUSTOMERS)
    assert next(batches).height == 1000
    own_responder.process.kill()
    with pytest.raises(UnreachableError, match="broke off"):
        list(batches)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        read(own_responder.of_table("customers"), remote=RemoteSettings(connect_timeout=2))


def test_a_slow_statement_is_cancelled(small):
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="does not answer in time"), _session(small) as session:
        session.execute("WAITFOR DELAY '00:00:30'")
    assert time.monotonic() - began < 25  # the statement would take 30


def test_ctrl_c_cancels_the_statement(small):
    main = threading.main_thread().ident
    timer = threading.Timer(1.0, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), _session(small, read_timeout=60.0) as session:
        session.execute("WAITFOR DELAY '00:00:30'")
    assert time.monotonic() - began < 25  # the statement would take 30


def _session(server, read_timeout=1.0):
    remote = RemoteSettings(read_timeout=read_timeout)
    return remote_sqlserver.session(remote_sqlserver.parse(server.url), Login(), remote, S3Settings())


# --- vehins doctor --------------------------------------------------------------------------------------------------


def probed(url, **options):
    return {check.name: check for check in sqlserver.probe(url, ReadOptions(**options))}


def test_probe_of_a_way_that_is_free(small):
    found = probed(small.of_table("customers"))
    assert list(found) == list(sqlserver.CHECKS)
    assert {check.verdict for check in found.values()} == {"ok"}
    assert found["rows seen"].found == "3,000"
    assert probed(small.url, query="SELECT * FROM dbo.customers")["permission to read"].found == "the query"


@pytest.mark.parametrize(
    ("change", "name", "last", "code"),
    [
        (("@", "x@"), "customers", "login", 3),
        (("", ""), "customerz", "permission to read", 6),
        (("encrypt", "encript"), "customers", "address", 3),
    ],
)
def test_probe_stops_where_the_way_ends(small, change, name, last, code):
    found = probed(small.of_table(name).replace(*change))
    assert list(found)[-1] == last
    assert found[last].failed
    assert found[last].mend
    assert found[last].exit_code == code
