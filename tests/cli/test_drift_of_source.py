"""`vehins validate --source`: rows of today, and above all a prediction log, against the model in production."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from service_process import serving
from vehins_runner import KINDS, WORKSPACE, folders

from vehins.data import demo
from vehins.settings import Settings

if TYPE_CHECKING:
    from vehins_runner import Vehins


def customers(rows: int, seed: int = 7) -> pl.DataFrame:
    """Customers as the model was trained on, without key and answer."""
    return next(demo.batches(rows, seed=seed)).drop("id", "Response")


def older(frame: pl.DataFrame) -> pl.DataFrame:
    """The same, fifteen years later."""
    return frame.with_columns((pl.col("Age") + 15).clip(18, 120))


def by_column(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {column["column"]: column for column in found["drift"]["columns"]}


def serve_and_ask(frame: pl.DataFrame, folder: str) -> None:
    """Send rows to a service with a prediction log, in requests of several sizes, and end it."""
    settings = Settings(workspace=WORKSPACE.absolute(), prediction_log=Path(folder).absolute())
    with serving(settings) as service:
        start = 0
        for size in [*[1] * 200, 300, *[1_000] * 9]:
            rows = frame[start : start + size].to_dicts()
            start += size
            if rows:
                assert service.predict(*rows).status_code == 200
        assert service.stop() == 0


def test_a_prediction_log_as_in_training_and_one_of_other_customers(finished: Vehins) -> None:
    serve_and_ask(customers(4_000), "calm")
    answer = finished("validate", "--source", "calm", "--json")
    found = answer.json
    assert (found["verdict"], found["rows"], found["left_out"], found["anomalies"]) == ("accept", 4_000, 0, [])
    assert "error" not in found
    assert set(by_column(found)) == {*customers(1).columns, "probability"}
    assert by_column(found)["probability"]["role"] == "score"
    assert all(column["psi"] < 0.1 for column in found["drift"]["columns"])
    assert found["drift"]["version"] == 1
    serve_and_ask(older(customers(4_000)), "moved")
    found = finished("validate", "--source", "moved", "--json", code=4).json
    assert found["verdict"] == "refuse"
    assert by_column(found)["Age"]["psi"] > 0.5
    assert by_column(found)["probability"]["psi"] > 0.02
    assert by_column(found)["Vintage"]["psi"] < 0.1
    assert found["error"]["headline"] == "`Age` has drifted since version 1 was trained"
    assert found["error"]["exit_code"] == 4
    shown = finished("validate", "--source", "moved", code=4)
    assert "these are other customers" in shown.out
    assert "no more than chance" in shown.out
    assert "4,000 rows of moved/vehicle-insurance/version-1 against the" in shown.err
    assert "`--set gate.max_drift=...`" in shown.err
    assert finished("validate", "--source", "moved", "--set", "gate.max_drift=50").code == 0


def test_any_source_will_do_with_key_and_answer_or_without(finished: Vehins) -> None:
    before = {kind: folders(kind) for kind in KINDS}
    next(demo.batches(3_000, seed=7)).write_csv("labelled.csv")
    customers(3_000).write_csv("plain.csv")
    labelled, plain = (finished("validate", "--source", name, "--json").json for name in ("labelled.csv", "plain.csv"))
    assert labelled["drift"]["columns"] == plain["drift"]["columns"]
    assert "probability" not in by_column(plain)
    assert {kind: folders(kind) for kind in KINDS} == before  # nothing is written


def test_scores_that_vehins_predict_wrote_are_compared_as_well(finished: Vehins) -> None:
    next(demo.batches(3_000, seed=7)).write_parquet("customers.parquet")
    finished("predict", "customers.parquet", "scores.parquet")
    scores = pl.read_parquet("scores.parquet")
    pl.read_parquet("customers.parquet").join(scores, on="id").write_parquet("both.parquet")
    assert by_column(finished("validate", "--source", "both.parquet", "--json").json)["probability"]["psi"] < 0.1
    pl.read_parquet("both.parquet").with_columns(pl.col("probability") * 0.3 + 0.5).write_parquet("both.parquet")
    found = finished("validate", "--source", "both.parquet", "--json", code=4).json
    assert found["error"]["headline"].startswith("`probability` has drifted")


def test_rows_that_break_the_schema_are_left_out_and_told_of(finished: Vehins) -> None:
    frame = customers(3_000).with_row_index("n")
    ages = pl.when(pl.col("n") < 10).then(7).otherwise("Age").alias("Age")
    frame.with_columns(ages).drop("n").write_csv("some.csv")
    answer = finished("validate", "--source", "some.csv")
    assert "Left out  10 rows, Age: too small, expected at least 18" in answer.err
    assert "2,990 rows of some.csv against" in answer.err
    frame.with_columns(pl.lit(7).alias("Age")).drop("n").write_csv("all.csv")
    assert "All 3,000 rows of all.csv break the schema" in finished("validate", "--source", "all.csv", code=4).err


def test_a_log_without_rows_of_the_version_in_production(finished: Vehins) -> None:
    place = Path("log/vehicle-insurance/version-7")
    place.mkdir(parents=True)
    customers(10).write_parquet(place / "a.parquet")
    error = finished("validate", "--source", "log", "--json", code=6).error
    assert error["headline"] == "The prediction log has no rows of version 1, which is in production"
    assert "version 7" in error["detail"]


def test_a_handful_of_rows_is_no_drift(finished: Vehins) -> None:
    customers(20).write_csv("few.csv")
    assert finished("validate", "--source", "few.csv", "--json").json["verdict"] == "accept"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--source", "x.csv", "--input", "m.json"), 2, "two things to look at"),
        (("--source", "nowhere.csv"), 6, "There is no file nowhere.csv"),
        (("--source", "lacking.csv"), 4, "does not have every column that the model needs"),
        (("--source", "demo://", "--model-name", "other"), 6, "No version of other is in production"),
    ],
)
def test_what_cannot_be_compared(finished: Vehins, words: tuple[str, ...], code: int, said: str) -> None:
    customers(10).drop("Age").write_csv("lacking.csv")
    assert said in json.dumps(finished("validate", *words, "--json", code=code).error)
