"""Parquet of any types and nesting; what is damaged is refused by name."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from small_tables import CUSTOMERS, read

from vehins.data.conform import conform
from vehins.errors import SourceFormatError

ROWS = pl.DataFrame({"id": range(1, 1001), "name": "x", "age": 40, "note": "n", "y": 1, "extra": 7})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.parquet"


def test_what_is_not_kept_is_named_and_left_empty(path):
    ROWS.write_parquet(path)
    batch = pl.concat(read(path))
    assert batch.columns == ROWS.columns
    assert batch.height == 1000
    assert batch.select("note", "extra").null_count().row(0) == (1000, 1000)
    assert batch.select("id", "name", "age", "y").equals(ROWS.select("id", "name", "age", "y"))


def test_without_a_column_of_the_schema_the_rows_still_count(path):
    ROWS.select("extra", "note").write_parquet(path)
    assert sum(batch.height for batch in read(path)) == 1000


def test_batches_are_bounded_and_in_order(tmp_path):
    for number, part in enumerate(ROWS.iter_slices(300)):
        part.write_parquet(tmp_path / f"{number}.parquet", row_group_size=77)
    batches = read(tmp_path, batch_rows=100)
    assert max(batch.height for batch in batches) <= 100
    assert pl.concat(batches)["id"].to_list() == ROWS["id"].to_list()


def test_files_may_have_other_types(tmp_path):
    """Exports of different days often do; the schema gives every value its type."""
    casts = [pl.Int64, pl.Int32, pl.String, pl.Float64, pl.Categorical]
    for number, dtype in enumerate(casts):
        age = pl.Series(["40"]).cast(dtype)
        ROWS.head(1).with_columns(age=age).write_parquet(tmp_path / f"{number}.parquet")
    typed = [conform(batch, CUSTOMERS, 0) for batch in read(tmp_path)]
    assert [one.rows["age"].to_list() for one in typed] == [[40]] * len(casts)
    assert all(one.unparsed.is_empty() for one in typed)


@pytest.mark.parametrize(
    ("value", "text"),
    [([1, 2], "[1, 2]"), ({"a": 1}, "{'a': 1}"), (dt.date(2026, 1, 1), "2026-01-01"), (b"\xff", "\\xff")],
)
def test_nested_and_foreign_values_reach_the_unparsed(path, value, text):
    pl.DataFrame({"id": [1], "name": [value], "age": [40], "y": [1]}).write_parquet(path)
    (batch,) = read(path)
    _, unparsed = conform(batch, CUSTOMERS, 0)
    assert unparsed.rows() == [(0, "1", "name", text)]


def damaged_files() -> dict[str, bytes]:
    import io

    buffer = io.BytesIO()
    ROWS.write_parquet(buffer)
    whole = buffer.getvalue()
    return {
        "no Parquet": b"id,name\n1,x\n",
        "cut short": whole[: len(whole) // 2],
        "without its beginning": whole[100:],
        "without its end": whole[:-8],
        "damaged end": whole[:-30] + bytes(26) + whole[-4:],
        "damaged pages": whole[:4] + bytes(byte ^ 0x5A for byte in whole[4:400]) + whole[400:],
        "one byte": b"x",
    }


@pytest.mark.parametrize("content", damaged_files().values(), ids=damaged_files())
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    ROWS.write_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(content)
    with pytest.raises(SourceFormatError, match=r"b\.parquet is not readable as Parquet") as caught:
        read(tmp_path)
    assert caught.value.exit_code == 4
    assert caught.value.detail
    assert "\n" not in caught.value.detail
    assert caught.value.hint


def test_folders_named_like_hive_partitions_add_no_column(tmp_path):
    (tmp_path / "age=99").mkdir()
    ROWS.write_parquet(tmp_path / "age=99" / "a.parquet")
    assert set(pl.concat(read(tmp_path))["age"]) == {40}
