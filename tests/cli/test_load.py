"""`vehins load`: checked as a whole, then written."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from vehins_runner import Vehins, customers, manifest


def test_a_file_is_loaded_and_twice_is_once(vehins: Vehins) -> None:
    customers(500).write_csv("in.csv")
    for _ in range(2):
        answer = vehins("load", "in.csv", "--to", "out.parquet", "--json")
    assert answer.json["seconds"] >= 0
    assert {name: answer.json[name] for name in ("rows", "target", "key", "replaced")} == {
        "rows": 500,
        "target": "out.parquet",
        "key": "id",
        "replaced": False,
    }
    found = pl.read_parquet("out.parquet")
    assert found["Age"].dtype == pl.Int64
    assert found.drop("Region_Code", "Policy_Sales_Channel").equals(
        customers(500).drop("Region_Code", "Policy_Sales_Channel")
    )


def test_what_was_loaded_is_ingested_as_the_file_is(vehins: Vehins) -> None:
    customers(800).write_csv("in.csv")
    vehins("load", "in.csv", "--to", "out.parquet")
    vehins("ingest", "-s", "in.csv", "-w", "one")
    vehins("ingest", "-s", "out.parquet", "-w", "two")
    assert manifest("Dataset", Path("one"))["content"] == manifest("Dataset", Path("two"))["content"]


def test_columns_that_the_schema_does_not_know_are_kept(vehins: Vehins) -> None:
    rows = customers(20).with_columns(note=pl.lit("x"), paid=pl.col("Age") / 2)
    rows.write_parquet("in.parquet")
    vehins("load", "in.parquet", "--to", "out.parquet")
    assert pl.read_parquet("out.parquet").select("note", "paid").equals(rows.select("note", "paid"))


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("Age", ["1", "many", "3"], "row 2: `Age` is 'many'"),
        ("id", ["1", None, "3"], "row 2"),
        ("id", ["1", "3", "3.0"], "row 2: '3'; row 3: '3'"),
    ],
)
def test_a_bad_row_is_refused_before_anything_is_written(
    column: str, values: list[str | None], said: str, vehins: Vehins
) -> None:
    customers(3).with_columns(pl.Series(column, values)).write_csv("in.csv")
    answer = vehins("load", "in.csv", "--to", "out.csv", "--json", code=4)
    assert said in answer.error["detail"]
    assert not Path("out.csv").exists()


def test_a_key_of_ones_own(vehins: Vehins) -> None:
    pl.DataFrame({"policy": ["a", "b"], "Age": [30, 40]}).write_csv("in.csv")
    assert "--key" in vehins("load", "in.csv", "--to", "out.csv", "--json", code=4).error["hint"]
    vehins("load", "in.csv", "--to", "out.csv", "--key", "policy")
    assert Path("out.csv").read_text() == "policy,Age\na,30\nb,40\n"


def test_an_old_file_of_other_columns_is_not_mixed_with(vehins: Vehins) -> None:
    customers(5).write_csv("in.csv")
    Path("out.csv").write_text("id,other\n1,2\n")
    assert "--replace" in vehins("load", "in.csv", "--to", "out.csv", "--json", code=3).error["hint"]
    assert Path("out.csv").read_text() == "id,other\n1,2\n"
    vehins("load", "in.csv", "--to", "out.csv", "--replace")
    assert len(Path("out.csv").read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("to", "code"), [("ftp://there/x", 3), ("nowhere/out.csv", 6), ("s3://bucket/name.txt", 3), ("s3:///x.csv", 3)]
)
def test_an_address_that_cannot_be(to: str, code: int, vehins: Vehins) -> None:
    customers(5).write_csv("in.csv")
    assert vehins("load", "in.csv", "--to", to, "--json", code=code).error["hint"]
