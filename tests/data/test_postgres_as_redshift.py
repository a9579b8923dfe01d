"""Redshift over a plain connection, as far as PostgreSQL behind a proxy can stand for it."""

from __future__ import annotations

from urllib.parse import urlsplit

import polars as pl
import pytest
from plain_redshift import proxy
from small_tables import CUSTOMERS, read

from vehins.data.sinks import WriteOptions, open_sink
from vehins.data.sources import ReadOptions, postgres
from vehins.errors import NotFoundError, SettingsError


@pytest.fixture
def redshift(postgres_database):
    """A database with 120,000 customers behind the proxy."""
    postgres_database.run(
        "CREATE TABLE customers (id bigint PRIMARY KEY, name text, age numeric(5,1), note text, y boolean)",
        "INSERT INTO customers SELECT i, 'n' || i, i % 90, 'x', i % 2 = 0 FROM generate_series(1, 120000) i",
    )
    name = urlsplit(postgres_database.url).path[1:]
    postgres_database.run(
        "CREATE FUNCTION version() RETURNS text LANGUAGE sql AS $$SELECT 'PostgreSQL 8.0.2 on x, Redshift 1.0.12103'$$",
        f"ALTER DATABASE {name} SET search_path = public, pg_catalog",
    )
    port = urlsplit(postgres_database.url).port
    with proxy(port) as made:
        made.url = postgres_database.url.replace(f":{port}/", f":{made.port}/")
        yield made


def test_rows_come_through_a_cursor_and_never_by_copy(redshift, postgres_database):
    batches = read(redshift.url + "?table=customers", CUSTOMERS, batch_rows=50_000)
    assert [batch.height for batch in batches] == [50_000, 50_000, 20_000]
    assert not redshift.copied
    assert redshift.sent.count(b"FETCH FORWARD") >= 3
    postgres_database.run("DROP FUNCTION version()")
    assert pl.concat(batches).equals(pl.concat(read(redshift.url + "?table=customers", CUSTOMERS)))
    assert redshift.copied


@pytest.mark.parametrize(("rows", "found"), [(0, [0]), (50_000, [50_000])])
def test_as_many_rows_as_are_fetched_at_once_or_none(redshift, rows, found):
    query = f"SELECT * FROM customers WHERE id <= {rows}"
    assert [batch.height for batch in read(redshift.url, CUSTOMERS, query=query)] == found


def test_a_table_that_is_not_there(redshift):
    with pytest.raises(NotFoundError) as caught:
        read(redshift.url + "?table=custommers", CUSTOMERS)
    assert "public.customers" in caught.value.hint


def test_probe(redshift):
    found = {check.name: check for check in postgres.probe(redshift.url + "?table=customers", ReadOptions())}
    assert list(found) == list(postgres.CHECKS)
    assert not any(check.failed for check in found.values())


def test_rows_are_not_written_so(redshift):
    with pytest.raises(SettingsError, match="Redshift takes no rows") as caught:
        open_sink(redshift.url + "?table=t", WriteOptions()).write([], "id", replace=True, on_rows=lambda n: None)
    assert "s3://" in caught.value.hint
