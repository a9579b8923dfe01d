"""Rows from Redshift, whose Data API is answered by a double that writes real Parquet; see `redshift_data_double`."""

from __future__ import annotations

import signal

import polars as pl
import pytest
from small_tables import CUSTOMERS, read
from vehins_runner import customers, folders, manifest

from vehins.data.sources import ReadOptions, open_source, redshift
from vehins.errors import CredentialsError, NotFoundError, SettingsError, UnreachableError
from vehins.remote.logins import Login
from vehins.settings import RedshiftSettings

URL = "redshift://analyst@cluster-1/dev?table=customers"
ROWS = pl.DataFrame({"id": range(100), "name": "x", "AGE": 40, "y": 1, "secret": "geheim"})


def options(store, **more):
    return {**store.options, "redshift": RedshiftSettings(unload_to=f"{store.url}/out", **more)}


@pytest.fixture
def small(redshift_data):
    redshift_data.tables["customers"] = ROWS
    return redshift_data


def refused(store, kind, url=URL, **more):
    with pytest.raises(kind) as caught:
        read(url, **{**options(store), **more})
    assert caught.value.hint
    assert store.keys() == []
    return caught.value


def test_rows_come_under_the_names_of_the_schema_and_nothing_is_left(small, store):
    batches = read(URL, **options(store), batch_rows=20)
    assert pl.concat(batches).sort("id").equals(ROWS.select("id", "name", pl.col("AGE").alias("age"), "y"))
    assert len(batches) > 3
    assert store.keys() == []
    sent = small.requests[0]
    assert (sent["ClusterIdentifier"], sent["DbUser"], sent["Database"]) == ("cluster-1", "analyst", "dev")
    assert 'SELECT "id", "name", "age", "y" FROM "public"."customers"' in sent["Sql"]
    assert "IAM_ROLE default" in sent["Sql"]


def test_a_workgroup_a_role_and_a_secret(small, store):
    url = "redshift-serverless://group-1/dev?table=public.customers"
    read(url, **options(store, iam_role="arn:aws:iam::1:role/r"), login=Login(secret="arn:secret"))
    sent = small.requests[0]
    assert (sent["WorkgroupName"], sent["SecretArn"]) == ("group-1", "arn:secret")
    assert "ClusterIdentifier" not in sent
    assert "IAM_ROLE 'arn:aws:iam::1:role/r'" in sent["Sql"]


def test_a_query_is_quoted_into_the_statement(small, store):
    query = "SELECT 'it''s', * FROM customers"
    assert sum(frame.height for frame in read(URL, **options(store), query=query)) == 100
    assert "SELECT ''it''''s'', * FROM customers" in small.requests[0]["Sql"]


@pytest.mark.parametrize("query", ["DROP TABLE t", "SELECT 1; SELECT 2", "SELECT 'a\\'' FROM t"])
def test_a_query_that_may_not_only_read_is_not_sent(small, store, query):
    refused(store, SettingsError, query=query)
    assert small.requests == []


@pytest.mark.parametrize(
    "url",
    ["redshift://c?table=t", "redshift://c:5439/dev?table=t", "redshift://u:geheim@c/dev?table=t", "redshift://c/dev"],
)
def test_an_address_that_makes_no_sense(small, store, url):
    assert "geheim" not in str(refused(store, SettingsError, url).as_dict())


def test_a_place_to_unload_to_is_needed(small, store):
    assert "redshift.unload_to" in refused(store, SettingsError, redshift=RedshiftSettings()).hint


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("ERROR: permission denied for relation customers", CredentialsError),
        ("ERROR: S3ServiceException:Access Denied,Status 403", CredentialsError),
        ('ERROR: column "x" does not exist', NotFoundError),
        ('ERROR: syntax error at or near "FORM"', SettingsError),
        ("ERROR: disk full", UnreachableError),
    ],
)
def test_a_statement_that_fails_leaves_nothing(small, store, said, kind):
    small.error = said
    error = refused(store, kind)
    assert type(error) is kind
    assert said in error.detail


def test_a_statement_that_somebody_cancels(small, store):
    small.aborts = True
    assert "cancelled" in refused(store, UnreachableError).headline


def test_a_table_that_is_not_there(small, store):
    refused(store, NotFoundError, "redshift://c/dev?table=customerz")


def test_a_statement_that_takes_too_long_is_cancelled(small, store):
    small.seconds = 60
    error = refused(store, UnreachableError, **options(store, timeout=0.3))
    assert "redshift.timeout" in error.hint
    assert len(small.cancelled) == 1


def test_ctrl_c_cancels_the_statement(small, store):
    small.seconds = 60
    said = []

    def interrupted(text):
        said.append(text)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        read(URL, **options(store), say=interrupted)
    assert len(small.cancelled) == 1
    assert said[0].startswith("Redshift: submitted for")
    assert store.keys() == []


def test_who_stops_reading_leaves_nothing(small, store):
    batches = open_source(URL, ReadOptions(**options(store), batch_rows=10)).batches(CUSTOMERS)
    next(batches)
    assert store.keys() != []
    batches.close()
    assert store.keys() == []


def test_a_lost_reply_starts_no_second_statement(small, store):
    small.loses_reply = True
    assert sum(frame.height for frame in read(URL, **options(store))) == 100
    assert len(small.requests) == 2
    assert len(small.statements) == 1


@pytest.mark.parametrize("kind", ["ThrottlingException", "ActiveStatementsExceededException"])
def test_a_busy_service_is_asked_again(small, store, kind):
    small.refusals = [(400, kind, "Too many")]
    assert sum(frame.height for frame in read(URL, **options(store))) == 100


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("ExpiredTokenException", "The token has expired", CredentialsError),
        ("AccessDeniedException", "not authorized to perform redshift-data:ExecuteStatement", CredentialsError),
        ("ValidationException", "Redshift endpoint doesn't exist in this region.", NotFoundError),
        ("ValidationException", "DbUser is missing", SettingsError),
    ],
)
def test_a_request_that_is_refused(small, store, kind, message, expected):
    small.refusals = [(400, kind, message)]
    assert message.rstrip(".") in refused(store, expected).detail


def test_nobody_answers(store, monkeypatch, free_tcp_port):
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_DATA", f"http://127.0.0.1:{free_tcp_port}")
    refused(store, UnreachableError)


def test_rows_that_cannot_be_removed_are_told_of(small, store, monkeypatch):
    source = open_source(URL, ReadOptions(**options(store)))

    def fail(**_):
        from botocore.exceptions import ClientError

        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no DeleteObject"}}, "DeleteObjects")

    monkeypatch.setattr(source.bucket.client, "delete_objects", fail)
    with pytest.raises(CredentialsError, match=f"left at {store.url}/out/vehins-") as caught:
        list(source.batches(CUSTOMERS))
    assert "aws s3 rm --recursive" in caught.value.hint


def test_a_file_that_goes_away_is_no_silent_loss(small, store):
    source = open_source(URL, ReadOptions(**options(store)))
    whole = small._write

    def lose(frame, bucket, prefix):
        whole(frame, bucket, prefix)
        store.client.delete_object(Bucket=bucket, Key=f"{prefix}0001_part_00.parquet")

    small._write = lose
    with pytest.raises(UnreachableError, match="is gone"):
        list(source.batches(CUSTOMERS))
    assert store.keys() == []


def test_ingest(vehins, small, store):
    small.tables["customers"] = customers()
    words = ["--source", URL, *store.words, "--set", f"redshift.unload_to={store.url}"]
    vehins("ingest", *words)
    assert manifest("Dataset")["result"]["rows"] == 3000
    assert store.keys() == []
    vehins("ingest", *words)
    assert len(folders("Dataset")) == 2  # nobody can tell whether a database changed


def test_probe_of_a_way_that_is_free(small, store):
    found = {check.name: check for check in redshift.probe(URL, ReadOptions(**options(store)))}
    assert list(found) == list(redshift.CHECKS)
    assert {check.verdict for check in found.values()} == {"ok"}


def test_probe_stops_at_a_right_that_lacks(small, store):
    small.error = "ERROR: permission denied for relation customers"
    last = list(redshift.probe(URL, ReadOptions(**options(store))))[-1]
    assert (last.name, last.verdict, last.exit_code) == ("permission to read", "failed", 3)
