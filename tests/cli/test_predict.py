"""`vehins predict`: the scores are those of the service, and no row gets lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from vehins_runner import Vehins, customers

from vehins import settings
from vehins.data import conform
from vehins.serving.app import create_app
from vehins.serving.predictor import load

if TYPE_CHECKING:
    import pytest


def plain_rows(rows: int) -> list[dict[str, Any]]:
    """Customers as the service is asked for them."""
    predictor = load(settings.load().settings)
    typed = conform.conform(customers(rows), predictor.table, 0).rows
    return typed.select(list(predictor.table.features)).to_dicts()


def test_scores_are_bit_equal_to_those_of_the_service(finished: Vehins) -> None:
    finished("predict", "demo://?rows=4000", "--to", "out.parquet")
    found = pl.read_parquet("out.parquet")
    predictor = load(settings.load().settings)
    expected = predictor.predict(plain_rows(4000))
    assert found["id"].to_list() == customers(4000)["id"].to_list()
    for column in ("probability", "percentile", "contact"):
        assert found[column].to_list() == [getattr(answer, column) for answer in expected]
    assert found["model"].unique().to_list() == ["vehicle-insurance"]
    assert found["model_version"].unique().to_list() == [1]


def test_scores_are_those_that_http_answers(finished: Vehins) -> None:
    import asyncio

    import httpx

    finished("predict", "demo://?rows=50", "--to", "out.csv")
    app = create_app(load(settings.load().settings), 100)

    async def asked() -> list[dict[str, Any]]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vehins.test") as client:
            answer = await client.post("/v1/predict", json={"rows": plain_rows(50)})
            return answer.json()["predictions"]

    expected = asyncio.run(asked())
    assert pl.read_csv("out.csv").select("probability", "percentile", "contact").to_dicts() == expected


def test_rows_that_break_the_schema_are_set_aside_with_their_reasons(finished: Vehins) -> None:
    rows = customers(100).drop("Response").cast({"Age": pl.String})
    ages = ["old" if number == 3 else "7" if number == 5 else age for number, age in enumerate(rows["Age"])]
    ids = [1 if number == 9 else key for number, key in enumerate(rows["id"])]
    rows.with_columns(Age=pl.Series(ages), id=pl.Series(ids)).write_csv("in.csv")
    answer = finished("predict", "in.csv", "--to", "out.csv", "--quarantine", "q/bad.parquet", "--json").json
    assert (answer["rows"], answer["scored"], answer["set_aside"]) == (100, 96, 4)
    assert answer["quarantine"] == "q/bad.parquet"
    bad = pl.read_parquet("q/bad.parquet")
    assert dict(bad.select("__row__", "reasons").iter_rows()) == {
        0: "key: duplicated",
        3: "Age: not of its type (`old`)",
        5: "Age: too small",
        9: "key: duplicated",
    }
    assert pl.read_csv("out.csv").height == 96


def test_without_a_name_they_are_set_aside_in_the_workspace(finished: Vehins) -> None:
    customers(10).with_columns(Age=pl.Series([1, *[30] * 9])).write_csv("in.csv")
    kept = Path(finished("predict", "in.csv", "--to", "out.csv", "--json").json["quarantine"])
    assert kept.parent == Path(".vehins/predictions")
    assert pl.read_parquet(kept).height == 1


def test_when_no_row_is_good_nothing_is_written(finished: Vehins) -> None:
    customers(10).with_columns(Age=pl.lit(1)).write_csv("in.csv")
    answer = finished("predict", "in.csv", "--to", "out.csv", "--json", code=4)
    assert ".vehins/predictions/quarantine-" in answer.error["hint"]
    assert not Path("out.csv").exists()


def test_a_column_that_the_model_needs(finished: Vehins) -> None:
    customers(10).drop("Age", "Vintage").write_csv("in.csv")
    assert finished("predict", "in.csv", "--to", "out.csv", "--json", code=4).error["detail"] == "`Age`, `Vintage`."


def test_a_version_by_its_number(finished: Vehins) -> None:
    assert finished("predict", "--to", "out.csv", "--version", "1", "--json").json["version"] == 1
    assert finished("predict", "--to", "two.csv", "--version", "7", "--json", code=6).error["headline"]
    assert not Path("two.csv").exists()


def test_without_a_key_a_file_has_the_order_of_the_rows_and_a_store_refuses(
    vehins: Vehins, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path(settings.__file__).parent.joinpath("data/schemas/vehicle-insurance.toml").read_text()
    Path("own.toml").write_text(text.replace('role = "key"', 'role = "ignored"'))
    monkeypatch.setenv("VEHINS_SCHEMA_FILE", "own.toml")
    vehins("pipeline", "run", "--quiet")
    vehins("predict", "demo://?rows=300", "--to", "out.parquet")
    predictor = load(settings.load().settings)
    expected = [answer.probability for answer in predictor.predict(plain_rows(300))]
    assert pl.read_parquet("out.parquet")["probability"].to_list() == expected
    store = "postgresql://localhost:1/x?table=y"
    assert "--to FILE.csv" in vehins("predict", "--to", store, "--json", code=3).error["hint"]
