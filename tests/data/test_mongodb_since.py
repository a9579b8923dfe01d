"""Incremental reading: what changed is laid over the last Dataset, and the result is that of reading everything."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from mongodb_tables import address, write_schema
from vehins_runner import folders, manifest

if TYPE_CHECKING:
    from pathlib import Path

    from mongodb_server import Mongo
    from vehins_runner import Vehins

START = dt.datetime(2026, 1, 1)


def document(i: int, **fields: Any) -> dict[str, Any]:
    return {"_id": i, "age": i % 60 + 20, "y": i % 2, "updated": START + dt.timedelta(hours=i), **fields}


class Table:
    """A collection of 100 customers, and the command that reads it."""

    def __init__(self, vehins: Vehins, folder: Path, mongodb: Mongo, collection: Any) -> None:
        self._vehins, self.collection = vehins, collection
        self.words = ["--source", address(mongodb, collection), "--schema", str(write_schema(folder))]
        collection.insert_many([document(i) for i in range(100)])

    def read(self, *words: str) -> dict[str, Any]:
        """Read since the last time; what the manifest says of it."""
        self.answer = self._vehins("ingest", "--since", "updated", *self.words, *words)
        return self.changes

    @property
    def changes(self) -> dict[str, Any]:
        found: dict[str, Any] = manifest("Dataset")["result"]["changes"]
        return found

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.changes["new"], self.changes["changed"], self.changes["kept"]

    def check_is_as_if_all_were_read(self) -> None:
        """The Dataset is the one that reading everything makes."""
        built = manifest("Dataset")
        self._vehins("ingest", *self.words)
        whole = manifest("Dataset")
        assert built["content"] == whole["content"]
        assert built["result"]["rows"] == whole["result"]["rows"] == self.collection.count_documents({})


@pytest.fixture
def table(vehins: Vehins, place: Path, mongodb: Mongo, collection: Any) -> Table:
    return Table(vehins, place, mongodb, collection)


def test_the_first_time_all_is_read_and_said_to_be(table: Table) -> None:
    changes = table.read()
    assert changes["reason"] == "there is no earlier Dataset"
    assert (changes["since"], changes["previous"]) == (None, None)
    assert changes["mark"] == '{"$date": "2026-01-05T03:00:00Z"}'
    assert table.counts == (100, 0, 0)
    assert "100 rows new, 0 changed, 0 kept; all rows read (there is no earlier Dataset)" in table.answer.err
    table.check_is_as_if_all_were_read()


def test_what_is_new_or_changed_is_laid_over_the_rest(table: Table) -> None:
    table.read()
    first = manifest("Dataset")["id"]
    later = START + dt.timedelta(days=30)
    table.collection.update_one({"_id": 7}, {"$set": {"age": 77, "updated": later}})
    table.collection.update_one({"_id": 8}, {"$set": {"age": "old", "updated": later}})
    table.collection.insert_one(document(500, updated=later))
    changes = table.read()
    assert changes["previous"] == first
    assert table.counts == (1, 2, 98)
    assert manifest("Dataset")["result"]["rows_read"] == 4, "those three, and the one at the mark"
    assert "1 rows new, 2 changed, 98 kept; read since updated" in table.answer.err
    table.check_is_as_if_all_were_read()


def test_nothing_new_keeps_everything_and_what_follows_is_reused(table: Table) -> None:
    table.read()
    content = manifest("Dataset")["content"]
    table.read()
    assert table.counts == (0, 0, 100)
    assert manifest("Dataset")["content"] == content


def test_ties_at_the_mark_are_not_lost(table: Table) -> None:
    """A document may be written at the very moment at which the last reading began."""
    table.read()
    table.collection.insert_one(document(500, updated=START + dt.timedelta(hours=99)))
    table.collection.update_one({"_id": 99}, {"$set": {"age": 90}})
    table.read()
    assert table.counts == (1, 1, 99)
    table.check_is_as_if_all_were_read()


def test_documents_without_a_moment_are_read_every_time(table: Table) -> None:
    odd = [{}, {"updated": None}, {"updated": "yesterday"}, {"updated": [START, START + dt.timedelta(days=99)]}]
    table.collection.insert_many([{"_id": 200 + i, "age": 30, "y": 0, **one} for i, one in enumerate(odd)])
    table.read()
    for i in range(len(odd)):
        table.collection.update_one({"_id": 200 + i}, {"$set": {"age": 31}})
    table.read()
    assert table.counts == (0, 4, 100)
    table.check_is_as_if_all_were_read()


def test_a_moment_that_has_not_come_yet_is_no_mark(table: Table) -> None:
    """One mistyped year would else hide every later change."""
    table.collection.insert_one(document(300, updated=dt.datetime(2199, 1, 1)))
    assert table.read()["mark"] == '{"$date": "2026-01-05T03:00:00Z"}'
    table.collection.update_one({"_id": 7}, {"$set": {"age": 77, "updated": START + dt.timedelta(days=30)}})
    table.read()
    assert table.counts == (0, 1, 100)
    table.check_is_as_if_all_were_read()


def test_unparsed_values_keep_their_rows(table: Table) -> None:
    table.collection.update_many({"_id": {"$in": [3, 50]}}, {"$set": {"age": "old"}})
    table.read("--set", "ingest.part_rows=1000")
    table.collection.update_one({"_id": 50}, {"$set": {"age": [50], "updated": START + dt.timedelta(days=30)}})
    table.read("--set", "ingest.part_rows=1000")
    folder = folders("Dataset")[-1]
    rows = pl.concat([pl.read_parquet(path) for path in sorted((folder / "parts").iterdir())])
    cells = pl.read_parquet(folder / "unparsed.parquet")
    assert {(rows["id"][cell["row"]], cell["value"]) for cell in cells.to_dicts()} == {(3, "old"), (50, "[50]")}
    assert rows.filter(pl.col("__unparsed__"))["id"].sort().to_list() == [3, 50]


def test_a_key_that_changes_leaves_no_row_behind(vehins: Vehins, place: Path, mongodb: Mongo, collection: Any) -> None:
    """Rows are told apart by `_id`, not by a key that somebody may mend."""
    table = Table(vehins, place, mongodb, collection)
    schema = place / "t.toml"
    schema.write_text(schema.read_text().replace('path = "_id"\n', ""))
    collection.update_many({}, [{"$set": {"id": {"$add": ["$_id", 1000]}}}])
    table.read()
    collection.update_one({"_id": 7}, {"$set": {"id": 5, "updated": START + dt.timedelta(days=30)}})
    table.read()
    assert table.counts == (0, 1, 99)
    table.check_is_as_if_all_were_read()


def test_without_it_or_by_force_all_is_read_again(table: Table) -> None:
    table.read()
    table.collection.delete_one({"_id": 5})
    table.read()
    assert table.counts == (0, 0, 100), "that a document is gone cannot be seen"
    changes = table.read("--force")
    assert changes["reason"] == "forced"
    assert table.counts == (99, 0, 0)
    table.check_is_as_if_all_were_read()


def test_another_filter_schema_or_source_reads_all_and_says_why(table: Table) -> None:
    table.read()
    changes = table.read("--query", '{"age": {"$gt": 30}}')
    assert changes["since"] is None
    assert "setting ingest.query none ->" in changes["reason"]
    assert "ingest.query" in table.answer.err
    assert table.read()["previous"] is not None, "the Dataset of the first way of reading is still there"


def test_a_damaged_dataset_is_not_built_upon(table: Table) -> None:
    table.read()
    part = next((folders("Dataset")[-1] / "parts").iterdir())
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    changes = table.read()
    assert changes["since"] is None
    assert changes["new"] == 100


@pytest.mark.parametrize("field", ["updatd", "$where", "a..b"])
def test_a_field_that_is_not_there_is_refused(table: Table, vehins: Vehins, field: str) -> None:
    error = vehins("ingest", "--json", *table.words, f"--since={field}", code=3).error
    assert "--since" in error["hint"]


def test_a_nested_field(table: Table, vehins: Vehins) -> None:
    table.collection.update_many({}, [{"$set": {"meta": {"at": "$updated"}}}])
    for _ in range(2):
        vehins("ingest", *table.words, "--since", "meta.at")
    assert table.changes["mark"] == '{"$date": "2026-01-05T03:00:00Z"}'
    assert table.counts == (0, 0, 100)


def test_views_are_refused(table: Table, vehins: Vehins) -> None:
    table.collection.database.command("create", "v", viewOn=table.collection.name, pipeline=[])
    url = table.words[1].replace(f"collection={table.collection.name}", "collection=v")
    error = vehins("ingest", "--json", "--source", url, *table.words[2:], "--since", "updated", code=3).error
    assert "view" in error["detail"]


@pytest.mark.parametrize("command", [("ingest",), ("pipeline", "plan")])
def test_a_source_that_cannot_tell_says_so(vehins: Vehins, command: tuple[str, ...]) -> None:
    error = vehins(*command, "--json", "--since", "updated", code=3).error
    assert error["headline"].endswith("cannot tell which rows have changed")
    assert "Leave out `--since`" in error["hint"]
