"""The same rows are the same Dataset, wherever they are read from.

PostgreSQL, the S3 server and the one that speaks MongoDB's protocol are real. What answers for SQL Server and for
Redshift's Data API are doubles of their protocols: these two prove the way of the rows and nothing of those databases.
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from vehins_runner import customers, manifest

from vehins.data.sinks import WriteOptions, open_sink

SOME = 20_000
REAL = Path(__file__).parents[3] / "shared" / "data" / "vehicle-insurance.parquet"


def through_sink(url, frame):
    open_sink(url, WriteOptions()).write([frame], "id", replace=False, on_rows=lambda n: None)
    return ["--source", url]


def from_postgres(request, frame):
    return through_sink(request.getfixturevalue("postgres_database").url + "?table=customers", frame)


def from_sqlserver(request, frame):
    return through_sink(request.getfixturevalue("sqlserver_database").of_table("customers"), frame)


def from_redshift(request, frame):
    store, double = request.getfixturevalue("store"), request.getfixturevalue("redshift_data")
    double.tables["customers"] = frame
    url = "redshift://analyst@cluster-1/dev?table=customers"
    return ["--source", url, "--set", f"redshift.unload_to={store.url}/unloaded", *store.words]


def from_s3_parquet(request, frame):
    return from_s3(request, frame, "parquet", pl.DataFrame.write_parquet)


def from_s3_csv(request, frame):
    return from_s3(request, frame, "csv", pl.DataFrame.write_csv)


def from_s3(request, frame, kind, write):
    """Two objects of unequal size."""
    store = request.getfixturevalue("store")
    for number, part in enumerate([frame[:1000], frame[1000:]]):
        path = Path(f"part-{number}.{kind}")
        write(part, path)
        store.put(f"in/{path}", path)
    return ["--source", f"{store.url}/in", *store.words]


def from_mongodb(request, frame):
    server, collection = request.getfixturevalue("mongodb"), request.getfixturevalue("collection")
    return through_sink(f"{server.url}/{collection.database.name}?collection=rows", frame)


STORES = [from_mongodb, from_postgres, from_sqlserver, from_redshift, from_s3_parquet, from_s3_csv]


def content(vehins, words):
    vehins("ingest", *words)
    found = manifest("Dataset")
    return found["content"], found["result"]["rows"]


@pytest.mark.parametrize("put", STORES)
def test_rows_are_the_same_dataset_from_every_store(vehins, request, put):
    frame = customers()
    frame.write_parquet("rows.parquet")
    expected = content(vehins, ["--source", "rows.parquet"])
    assert expected[1] == 3000
    assert content(vehins, put(request, frame)) == expected


@pytest.mark.parametrize("put", STORES)
def test_all_real_rows_are_the_same_dataset_from_every_store(vehins, request, put):
    if not os.environ.get("VEHINS_TEST_SLOW"):
        pytest.skip("takes minutes: set VEHINS_TEST_SLOW=1")
    if not REAL.exists():
        pytest.skip("shared/data/vehicle-insurance.parquet is not beside the checkout: it is no part of vehins")
    expected = content(vehins, ["--source", REAL])
    assert expected[1] == 304_784
    assert content(vehins, put(request, pl.read_parquet(REAL))) == expected


@pytest.mark.parametrize("reader", ["bson", "arrow"])
def test_some_real_rows_are_the_same_dataset_from_mongodb(vehins, request, reader):
    if not REAL.exists():
        pytest.skip("shared/data/vehicle-insurance.parquet is not beside the checkout: it is no part of vehins")
    frame = pl.read_parquet(REAL).head(SOME)
    frame.write_parquet("rows.parquet")
    expected = content(vehins, ["--source", "rows.parquet"])
    words = [*from_mongodb(request, frame), "--set", f"mongodb.reader={reader}"]
    assert content(vehins, words) == expected
    assert manifest("Dataset")["result"]["rows_read"] == SOME
