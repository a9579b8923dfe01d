"""Reading from a MongoDB server: every document is a row, whatever it is like, and no value is lost unseen."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

import bson
import polars as pl
import pytest
from bson import Binary, Code, DatetimeMS, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp
from mongodb_tables import CUSTOMERS, address, batches, customers, schema_of, typed, write_schema
from vehins_runner import folders, manifest

from vehins.data import conform
from vehins.data.sources import ReadOptions, open_source
from vehins.data.sources.mongodb import reading, source
from vehins.data.sources.mongodb.decoding import decoder
from vehins.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from mongodb_server import Mongo
    from vehins_runner import Vehins

NESTED = schema_of(
    {
        "id": {"dtype": "int", "role": "key", "path": "_id"},
        "age": {"dtype": "int", "path": "person.age", "nullable": True},
        "gone": {"dtype": "string", "nullable": True},
    }
)
OID = ObjectId("65f0c0ffee0123456789abcd")
UUID = uuid.UUID("0e984725-c51c-4bf4-9960-e1c80e27aba0")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the documents at a time: the server of the tests takes long to store many."""
    monkeypatch.setattr(reading, "FETCHED", 1_000)
    monkeypatch.setattr(source, "_HELD_ROWS", 5_000)


@pytest.mark.usefixtures("small_batches")
def test_every_document_is_a_row(mongodb: Mongo, collection: Any) -> None:
    collection.insert_many([{"_id": i, "person": {"age": i % 90}, "y": i % 2} for i in range(2_500)])
    found = pl.concat(batches(address(mongodb, collection), NESTED))
    assert conform.plain(found).columns == ["id", "age", "y"]
    assert found["id"].to_list() == list(range(2_500))
    assert found["age"].to_list() == [i % 90 for i in range(2_500)]


def test_a_filter_chooses(mongodb: Mongo, collection: Any) -> None:
    collection.insert_many([{"_id": i, "person": {"age": i}, "y": 0} for i in range(50)])
    query = '{"person.age": {"$gte": {"$numberLong": "48"}}}'
    assert batches(address(mongodb, collection), NESTED, query=query)[0]["id"].to_list() == [48, 49]


@pytest.mark.parametrize("query", ["{", "[]", '{"$where": "true"}', '{"$and": [{"$expr": {"$function": {}}}]}'])
def test_a_query_that_cannot_be_is_refused(query: str) -> None:
    with pytest.raises(SettingsError):
        open_source("mongodb://127.0.0.1:1/db?collection=c", ReadOptions(query=query))


def test_only_what_the_schema_names_is_asked_for(mongodb: Mongo, collection: Any) -> None:
    from pymongo import monitoring

    seen: list[dict[str, Any]] = []

    class Listener(monitoring.CommandListener):
        def started(self, event: monitoring.CommandStartedEvent) -> None:
            if event.command_name == "find" and "batchSize" in event.command:
                seen.append(dict(event.command))

        def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...
        def failed(self, event: monitoring.CommandFailedEvent) -> None: ...

    collection.insert_one({"_id": 1, "person": {"age": 2, "secret": 1}, "secret": 2, "y": 0})
    listener, before = Listener(), list(monitoring._LISTENERS.command_listeners)
    try:
        monitoring.register(listener)
        batches(address(mongodb, collection), NESTED)
    finally:
        monitoring._LISTENERS.command_listeners[:] = before
    assert [dict(one["projection"]) for one in seen] == [{"_id": 1, "person": 1, "gone": 1, "y": 1}]


# --- Conversions ------------------------------------------------------------------------------------------------------

# value, then what it is as int, float, string and bool; "!" where it is set aside
CONVERSIONS = [
    (28, 28, 28.0, "28", "!"),
    (Int64(28), 28, 28.0, "28", "!"),
    (28.0, 28, 28.0, "28", "!"),
    (28.5, "!", 28.5, "28.5", "!"),
    (float("nan"), None, None, None, None),
    (float("inf"), "!", float("inf"), "inf", "!"),
    (Int64(2**53 + 1), 2**53 + 1, float(2**53), str(2**53 + 1), "!"),
    ("28", 28, 28.0, "28", "!"),
    (" 28.0 ", 28, 28.0, "28.0", "!"),
    ("", None, None, None, None),
    ("x\x00é", "!", "!", "x\x00é", "!"),
    (True, 1, 1.0, "true", True),
    (1, 1, 1.0, "1", True),
    (None, None, None, None, None),
    (Decimal128("28"), 28, 28.0, "28", "!"),
    (Decimal128("28.50"), "!", 28.5, "28.50", "!"),
    (Decimal128("2.8E+1"), 28, 28.0, "28", "!"),
    (Decimal128("NaN"), None, None, None, None),
    (Decimal128("Infinity"), "!", float("inf"), "Infinity", "!"),
    (OID, "!", "!", str(OID), "!"),
    (ObjectId("0" * 23 + "7"), "!", "!", "0" * 23 + "7", "!"),
    (dt.datetime(2026, 11, 24, 1, 2), "!", "!", "2026-11-24 01:02:00", "!"),
    (dt.datetime(2026, 11, 24, 1, 2, 3, 45_000), "!", "!", "2026-11-24 01:02:03.045", "!"),
    (Binary(UUID.bytes, 4), "!", "!", str(UUID), "!"),
    (Binary(UUID.bytes, 3), "!", "!", "!", "!"),
    (b"text", "!", "!", "text", "!"),
    (b"28", 28, 28.0, "28", "!"),
    (b"\xff", "!", "!", "!", "!"),
    ([], "!", "!", "!", "!"),
    ([28], "!", "!", "!", "!"),
    ({}, "!", "!", "!", "!"),
    ({"a": 28}, "!", "!", "!", "!"),
    (Regex("^a"), "!", "!", "!", "!"),
    (Code("1"), "!", "!", "!", "!"),
    (Timestamp(1, 1), "!", "!", "!", "!"),
    (MaxKey(), "!", "!", "!", "!"),
]
DTYPES = ("int", "float", "string", "bool")


@pytest.mark.parametrize("among", ["alone", "among others"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_each_type_has_one_conversion_whatever_stands_beside_it(
    dtype: str, among: str, mongodb: Mongo, collection: Any
) -> None:
    schema = schema_of({"id": {"dtype": "int", "role": "key", "path": "_id"}, "x": {"dtype": dtype, "nullable": True}})
    collection.insert_many([{"_id": i, "x": case[0], "y": 0} for i, case in enumerate(CONVERSIONS)])
    url = address(mongodb, collection)
    if among == "alone":
        frames = [batches(url, schema, query=f'{{"_id": {i}}}')[0] for i in range(len(CONVERSIONS))]
    else:
        frames = batches(url, schema)
    rows, unparsed = typed(frames, schema)
    wanted = [case[1 + DTYPES.index(dtype)] for case in CONVERSIONS]
    assert rows["x"].to_list() == [None if value == "!" else value for value in wanted]
    assert unparsed["row"].sort().to_list() == [i for i, value in enumerate(wanted) if value == "!"]
    assert unparsed["key"].to_list() == [str(row) for row in unparsed["row"]]
    assert unparsed["value"].null_count() == 0


def test_a_date_beyond_the_calendar_is_set_aside() -> None:
    raw = bson.encode({"_id": 1, "age": DatetimeMS(2**60), "y": 0})
    frame = decoder("bson", {"id": "_id", "age": "age", "y": "y"}, CUSTOMERS, identify=False).frame(raw)
    assert conform.conform(frame, CUSTOMERS, 0).unparsed["value"].to_list() == [f"DatetimeMS({2**60})"]


def test_what_is_set_aside_is_shown_but_not_at_any_length(mongodb: Mongo, collection: Any) -> None:
    collection.insert_many([{"_id": 1, "age": ["x" * 10_000], "y": 0}, {"_id": 2, "age": {"a": 1}, "y": 0}])
    shown = typed(batches(address(mongodb, collection), CUSTOMERS), CUSTOMERS).unparsed["value"].to_list()
    assert [text[:7] for text in shown] == ["['xxxxx", "{'a': 1"]
    assert len(shown[0]) < 250


def test_a_field_that_stands_twice_is_read_as_the_driver_reads_it() -> None:
    """No driver writes such a document, but some servers keep it."""
    inside = bson.encode({"_id": 1, "age": 30})[4:-1] + bson.encode({"age": 31, "y": 0})[4:]
    raw = (len(inside) + 4).to_bytes(4, "little") + inside
    paths = {"id": "_id", "age": "age", "y": "y"}
    for reader in ("bson", "arrow"):
        by = decoder(reader, paths, CUSTOMERS, identify=False)
        for _ in range(2):  # a reader may learn
            assert by.frame(raw + bson.encode({"_id": 2, "y": 1}))["age"].to_list() == [31, None]


DEEP = schema_of(
    {"id": {"dtype": "string", "role": "key", "path": "_id"}, "x": {"dtype": "int", "path": "a.b.c", "nullable": True}}
)


def test_deep_paths(mongodb: Mongo, collection: Any) -> None:
    inner: list[Any] = [
        {"b": {"c": 1}},
        {"b": {"c": "2"}},
        {"b": {}},
        {"b": {"c": 3.0}},
        {},
        4,
        [{"b": {"c": 5}}],
        None,
    ]
    collection.insert_many([{"_id": str(i), "a": a, "y": 0} for i, a in enumerate(inner)])
    collection.insert_one({"_id": "8", "y": 0})
    rows, unparsed = typed(batches(address(mongodb, collection), DEEP), DEEP)
    assert rows["x"].to_list() == [1, 2, None, 3, *[None] * 5]
    assert dict(zip(unparsed["key"], unparsed["value"], strict=True)) == {"5": "4", "6": "[{'b': {'c': 5}}]"}


def test_a_value_in_the_way_of_a_path_is_seen(mongodb: Mongo, collection: Any) -> None:
    collection.insert_many([{"_id": "1", "a": "x", "y": 0}, {"_id": "2", "a": {"b": {"c": 1}}, "y": 0}])
    rows, unparsed = typed(batches(address(mongodb, collection), DEEP), DEEP)
    assert rows["x"].to_list() == [None, 1]
    assert unparsed["value"].to_list() == ["'x'"]


@pytest.mark.usefixtures("small_batches")
def test_types_may_change_from_batch_to_batch(mongodb: Mongo, collection: Any) -> None:
    ages = [*[True] * 1_100, *["7"] * 1_100, *[8.0] * 1_100]
    collection.insert_many([{"_id": i, "age": age, "y": 0} for i, age in enumerate(ages)])
    rows, unparsed = typed(batches(address(mongodb, collection), CUSTOMERS), CUSTOMERS)
    assert rows["age"].to_list() == [int(age) for age in ages]
    assert unparsed.is_empty()


@pytest.mark.usefixtures("small_batches")
def test_batches_are_bounded(mongodb: Mongo, collection: Any) -> None:
    collection.insert_many(customers(6_000))
    heights = [frame.height for frame in batches(address(mongodb, collection), CUSTOMERS)]
    assert sum(heights) == 6_000
    assert 1_000 < max(heights) <= 5_000


def test_a_field_that_no_document_has_is_a_missing_column(mongodb: Mongo, collection: Any) -> None:
    collection.insert_one({"_id": 1, "y": 0})
    (frame,) = batches(address(mongodb, collection), CUSTOMERS)
    assert conform.plain(frame).columns == ["id", "y"]


# --- The manifest, and the quarantine ---------------------------------------------------------------------------------

KEYED = """name = "k"
[columns.customer]
dtype = "int"
role = "key"
[columns.age]
dtype = "int"
[columns.y]
dtype = "int"
role = "target"
values = [0, 1]
positive = 1
"""


@pytest.mark.usefixtures("small_batches")
def test_documents_in_and_rows_out_are_in_the_manifest(
    vehins: Vehins, place: Path, mongodb: Mongo, collection: Any
) -> None:
    collection.insert_many([*customers(6_000), {"_id": 6_000, "age": [1]}, {"_id": "x"}])
    vehins("ingest", "--source", address(mongodb, collection), "--schema", write_schema(place))
    result = manifest("Dataset")["result"]
    assert (result["rows_read"], result["rows"], result["unparsed_cells"]) == (6_002, 6_002, 2)


def test_a_document_lost_on_the_way_is_found_out(
    vehins: Vehins, place: Path, mongodb: Mongo, collection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vehins.data.sources.mongodb import decoding

    whole = decoding.BsonDecoder.table
    monkeypatch.setattr(decoding.BsonDecoder, "table", lambda self, found: whole(self, found[1:]))
    collection.insert_many(customers(50))
    url = address(mongodb, collection)
    error = vehins("ingest", "--json", "--source", url, "--schema", write_schema(place), code=4).error
    assert "Of 50 rows" in error["headline"]
    assert "49 came out" in error["headline"]
    from vehins_runner import WORKSPACE

    assert not (WORKSPACE / "artifacts" / "Dataset").exists()


def test_a_row_without_a_key_is_set_aside_under_its_id(
    vehins: Vehins, place: Path, mongodb: Mongo, collection: Any
) -> None:
    good = [{"_id": ObjectId(), "customer": i, "age": 30, "y": i % 2} for i in range(100)]
    bad = [
        {"_id": OID, "age": 30, "y": 0},
        {"_id": "no number", "customer": "abc", "age": 30, "y": 0},
        {"_id": 7, "customer": None, "age": "old", "y": 0},
        {"_id": dt.datetime(2026, 1, 1), "customer": [1], "age": 30, "y": 0},
        {"_id": ObjectId(), "customer": 1_000, "age": {"a": 1}, "y": 1},
    ]
    collection.insert_many([*good, *bad])
    (place / "k.toml").write_text(KEYED)
    tolerant = ("--set", "validate.max_wrong_types=1", "--set", "validate.max_bad_values=1")
    vehins("ingest", "--source", address(mongodb, collection), "--schema", "k.toml")
    cells = pl.read_parquet(folders("Dataset")[-1] / "unparsed.parquet")
    moment = '{"$date": "2026-01-01T00:00:00Z"}'
    assert set(zip(cells["key"], cells["column"], cells["value"], strict=True)) == {
        ('"no number"', "customer", "abc"),
        ("7", "age", "old"),
        (moment, "customer", "[1]"),
        ("1000", "age", "{'a': 1}"),
    }
    vehins("validate", *tolerant)
    aside = pl.read_parquet(folders("Validation")[-1] / "quarantine.parquet")
    assert dict(zip(aside["__id__"], aside["reasons"], strict=True)) == {
        str(OID): "customer: missing",
        '"no number"': "customer: not of its type (`abc`)",
        "7": "age: not of its type (`old`)",
        moment: "customer: not of its type (`[1]`)",
        None: "age: not of its type (`{'a': 1}`)",
    }
    missing = next(one for one in manifest("Validation")["result"]["anomalies"] if one["rule"] == "missing")
    assert missing["examples"] == [{"key": str(OID), "value": "null"}]


def test_without_a_key_in_the_schema_every_row_has_its_id(
    vehins: Vehins, place: Path, mongodb: Mongo, collection: Any
) -> None:
    collection.insert_many([{"_id": OID, "age": "old", "y": 0}, {"_id": 2, "age": 30, "y": 1}])
    (place / "k.toml").write_text(KEYED.replace('role = "key"', 'role = "ignored"'))
    vehins("ingest", "--source", address(mongodb, collection), "--schema", "k.toml")
    assert pl.read_parquet(folders("Dataset")[-1] / "unparsed.parquet")["key"].to_list() == [str(OID)]


def test_an_objectid_may_be_the_key(vehins: Vehins, place: Path, mongodb: Mongo, collection: Any) -> None:
    ids = [ObjectId() for _ in range(50)]
    collection.insert_many([{"_id": one, "age": 30, "y": i % 2} for i, one in enumerate(ids)])
    schema = write_schema(place)
    schema.write_text(schema.read_text().replace('dtype = "int"\nrole = "key"', 'dtype = "string"\nrole = "key"'))
    vehins("ingest", "--source", address(mongodb, collection), "--schema", schema)
    rows = pl.read_parquet(folders("Dataset")[-1] / "parts" / "*.parquet")
    assert rows["id"].to_list() == sorted(map(str, ids))
    assert rows["__id__"].null_count() == 50, "it would only repeat the key"


def test_the_whole_chain_runs_on_documents(vehins: Vehins, place: Path, mongodb: Mongo, collection: Any) -> None:
    from vehins_runner import customers as demo_customers

    collection.insert_many(demo_customers().with_columns(_id=pl.col("id")).to_dicts())
    statuses = vehins.run("--source", address(mongodb, collection)).statuses
    assert set(statuses.values()) == {"ran"}
