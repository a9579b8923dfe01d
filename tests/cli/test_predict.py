"""`vehins predict`: no row gets lost, the best are the best, and what cannot be scored is set aside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from vehins_runner import Vehins, customers

from vehins import scoring, settings
from vehins.data import conform
from vehins.data import schema as table_schema
from vehins.model import reasons
from vehins.serving.predictor import load

if TYPE_CHECKING:
    from vehins.serving.predictor import Predictor

NAMES = ["id", "probability", "percentile", "contact", "model", "model_version", "scored_at"]


def loaded() -> Predictor:
    return load(settings.load().settings)


def typed_rows(rows: int) -> pl.DataFrame:
    return conform.conform(customers(rows), loaded().table, 0).rows


def test_scores_are_those_of_the_predictor_in_the_order_of_the_rows(finished: Vehins) -> None:
    answer = finished("predict", "demo://?rows=4000", "out.parquet", "--json").json
    found = pl.read_parquet("out.parquet")
    assert found.columns == NAMES
    predictor = loaded()
    expected = predictor.predict(typed_rows(4000).select(list(predictor.table.features)).to_dicts())
    assert found["id"].to_list() == customers(4000)["id"].to_list()
    for column in ("probability", "percentile", "contact"):
        assert found[column].to_list() == [getattr(given, column) for given in expected]
    assert found["model"].unique().to_list() == ["vehicle-insurance"]
    assert found["model_version"].unique().to_list() == [1]
    counts = {name: answer[name] for name in ("rows", "scored", "set_aside", "written", "quarantine", "target", "key")}
    wanted = {"rows": 4000, "scored": 4000, "set_aside": 0, "written": 4000, "quarantine": None}
    assert counts == {**wanted, "target": "out.parquet", "key": "id"}


# --- Where to -----------------------------------------------------------------------------------------------------


def test_a_file_is_written_anew_and_what_to_names_is_updated(finished: Vehins) -> None:
    finished("predict", "demo://?rows=30", "out.csv")
    finished("predict", "demo://?rows=20", "--to", "out.csv")
    assert pl.read_csv("out.csv").height == 30
    finished("predict", "demo://?rows=20", "out.csv")
    assert pl.read_csv("out.csv").height == 20
    finished("predict", "demo://?rows=10", "--to", "out.csv", "--replace")
    assert pl.read_csv("out.csv").height == 10


def test_the_source_may_be_a_setting(finished: Vehins) -> None:
    assert finished("predict", "--to", "out.csv", "--json").json["rows"] == 3000


@pytest.mark.parametrize(
    ("words", "headline", "code"),
    [
        ((), "It is not said where the scores go", 2),
        (("demo://?rows=9",), "It is not said where the scores go", 2),
        (("demo://?rows=9", "out.csv", "--to", "out.csv"), "The scores go to one place", 2),
        (("demo://?rows=9", "mongodb://me:s3cr3t@host/x?collection=y"), "OUTPUT is a file on this machine", 2),
        (("demo://?rows=9", "out.txt"), "Nothing writes to an address like out.txt", 3),
        (("demo://?rows=9", "no/such/out.csv"), "There is no folder no/such", 6),
        (("demo://?rows=9", "out.csv", "--quarantine", "q.txt"), "The quarantine is no CSV and no Parquet file", 3),
        (("demo://?rows=9", "out.csv", "--quarantine", "./out.csv"), "Scores and quarantine cannot be one file", 3),
        (("demo://?rows=9", "out.csv", "--top", "0"), "Invalid value for '--top'", 2),
        (("demo://?rows=9", "out.csv", "--reasons", "-1"), "Invalid value for '--reasons'", 2),
    ],
)
def test_a_command_that_cannot_be(words: tuple[str, ...], headline: str, code: int, finished: Vehins) -> None:
    error = finished("predict", "--json", *words, code=code).error
    assert error["headline"].startswith(headline)
    assert error["hint"]
    assert "s3cr3t" not in str(error)
    assert not Path("out.csv").exists()


@pytest.mark.parametrize("source", ["rows/in.csv", "rows", "rows/*.csv"])
@pytest.mark.parametrize("words", [["rows/in.csv"], ["out.csv", "--quarantine", "./rows/in.csv"]])
def test_the_source_is_never_written_over(source: str, words: list[str], finished: Vehins) -> None:
    Path("rows").mkdir()
    customers(5).with_columns(Age=pl.Series([1, 30, 30, 30, 30])).write_csv("rows/in.csv")
    before = Path("rows/in.csv").read_bytes()
    error = finished("predict", source, *words, "--json", code=3).error
    assert error["headline"] == "The scores would take the place of the rows that they are made from"
    assert Path("rows/in.csv").read_bytes() == before


# --- The best, and why --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows_at_once", [1_000, 500_000])
def test_the_top_is_the_beginning_of_the_whole_list_in_order(rows_at_once: int, finished: Vehins) -> None:
    parts = ("--set", f"ingest.part_rows={rows_at_once}")
    finished("predict", "demo://?rows=4500", "all.parquet")
    everything = pl.read_parquet("all.parquet")
    best = everything.sort("probability", descending=True, maintain_order=True).drop("scored_at")
    for count in (1, 300, 2500, 9000):
        answer = finished("predict", "demo://?rows=4500", "top.parquet", "--top", count, *parts, "--json").json
        found = pl.read_parquet("top.parquet")
        assert (answer["scored"], answer["written"]) == (4500, min(count, 4500))
        assert found["rank"].to_list() == list(range(1, min(count, 4500) + 1))
        assert found.drop("rank", "scored_at").equals(best.head(count))


def test_of_equal_customers_the_first_are_taken(finished: Vehins) -> None:
    one = customers(1).select(pl.exclude("id"))
    pl.concat([one] * 3000).with_columns(id=pl.int_range(100, 3100)).write_csv("in.csv")
    finished("predict", "in.csv", "out.csv", "--top", "7", "--set", "ingest.part_rows=1000")
    assert pl.read_csv("out.csv")["id"].to_list() == list(range(100, 107))


def test_reasons_are_the_strongest_contributions_in_words(finished: Vehins) -> None:
    finished("predict", "demo://?rows=200", "out.csv", "--reasons", "3")
    found = pl.read_csv("out.csv")
    assert found.columns == [*NAMES[:4], "reason_1", "reason_2", "reason_3", *NAMES[4:]]
    expected = reasons.strongest(loaded().bundle, typed_rows(200), 3)
    assert found.select(expected.columns).equals(expected)
    form = r"\w+ = .+ (raises|lowers) the score by (\d+\.\d\d|less than 0\.01) \(.+\)"
    assert all(re.fullmatch(form, text) for text in found["reason_1"])


def test_the_reasons_of_the_top_are_those_of_its_rows(finished: Vehins) -> None:
    finished("predict", "demo://?rows=2200", "all.parquet", "--reasons", "2")
    words = ("--top", "40", "--reasons", "2", "--set", "ingest.part_rows=1000")
    finished("predict", "demo://?rows=2200", "top.parquet", *words)
    best = pl.read_parquet("all.parquet").sort("probability", descending=True, maintain_order=True).head(40)
    found = pl.read_parquet("top.parquet")
    assert found.drop("rank", "scored_at").equals(best.drop("scored_at"))
    assert found.columns[:6] == ["id", "rank", "probability", "percentile", "contact", "reason_1"]


# --- What cannot be scored ----------------------------------------------------------------------------------------


def bad_rows() -> pl.DataFrame:
    """A hundred customers: two share a key, one has an age that is none, one is too young."""
    rows = customers(100).drop("Response").cast({"Age": pl.String})
    ages = ["old" if number == 3 else "7" if number == 5 else age for number, age in enumerate(rows["Age"])]
    ids = [1 if number == 9 else key for number, key in enumerate(rows["id"])]
    return rows.with_columns(Age=pl.Series(ages), id=pl.Series(ids))


@pytest.mark.parametrize("name", ["q/bad.parquet", "q/bad.csv"])
def test_rows_that_break_the_schema_are_set_aside_with_their_reasons(name: str, finished: Vehins) -> None:
    bad_rows().write_csv("in.csv")
    answer = finished("predict", "in.csv", "out.csv", "--quarantine", name, "--json")
    counts = {name: answer.json[name] for name in ("rows", "scored", "set_aside", "quarantine")}
    assert counts == {"rows": 100, "scored": 96, "set_aside": 4, "quarantine": name}
    assert f"Note: 4 of 100 rows were set aside: {name}" in answer.err
    bad = pl.read_csv(name) if name.endswith("csv") else pl.read_parquet(name)
    assert dict(bad.select("__row__", "reasons").iter_rows()) == {
        0: "key: duplicated",
        3: "Age: not of its type (`old`)",
        5: "Age: too small",
        9: "key: duplicated",
    }
    assert pl.read_csv("out.csv").height == 96


def test_those_of_several_parts_stand_in_one_file_in_their_order(finished: Vehins) -> None:
    rows = customers(3500).cast({"Age": pl.String})
    ages = ["old" if number in {10, 1500, 3400} else age for number, age in enumerate(rows["Age"])]
    ids = [21 if number == 3300 else key for number, key in enumerate(rows["id"])]
    rows.with_columns(Age=pl.Series(ages), id=pl.Series(ids)).write_csv("in.csv")
    words = ("--quarantine", "bad.parquet", "--set", "ingest.part_rows=1000")
    assert finished("predict", "in.csv", "out.csv", *words, "--json").json["set_aside"] == 5
    bad = pl.read_parquet("bad.parquet")
    assert bad["__row__"].to_list() == [10, 20, 1500, 3300, 3400]
    unparsed, twice = "Age: not of its type (`old`)", "key: duplicated"
    assert bad["reasons"].to_list() == [unparsed, twice, unparsed, twice, unparsed]
    left = [key for number, key in enumerate(ids) if number not in {10, 20, 1500, 3300, 3400}]
    assert pl.read_csv("out.csv")["id"].to_list() == left


def test_they_are_not_among_the_best(finished: Vehins) -> None:
    bad_rows().write_csv("in.csv")
    answer = finished("predict", "in.csv", "out.csv", "--top", "100", "--reasons", "1", "--json").json
    assert (answer["scored"], answer["set_aside"], answer["written"]) == (96, 4, 96)
    found = pl.read_csv("out.csv")
    assert set(found["id"]) == set(customers(100)["id"]) - {1, 4, 6, 10}
    assert found["reason_1"].null_count() == 0


def test_without_a_name_they_are_set_aside_in_the_workspace(finished: Vehins) -> None:
    customers(10).with_columns(Age=pl.Series([1, *[30] * 9])).write_csv("in.csv")
    kept = Path(finished("predict", "in.csv", "out.csv", "--json").json["quarantine"])
    assert kept.parent == Path(".vehins/predictions")
    assert pl.read_parquet(kept).height == 1


def test_when_no_row_is_good_nothing_is_written(finished: Vehins) -> None:
    customers(10).with_columns(Age=pl.lit(1)).write_csv("in.csv")
    answer = finished("predict", "in.csv", "out.csv", "--json", code=4)
    assert ".vehins/predictions/quarantine-" in answer.error["hint"]
    assert not Path("out.csv").exists()


def test_a_column_that_the_model_needs(finished: Vehins) -> None:
    customers(10).drop("Age", "Vintage").write_csv("in.csv")
    assert finished("predict", "in.csv", "out.csv", "--json", code=4).error["detail"] == "Missing: `Age`, `Vintage`."


# --- Which model --------------------------------------------------------------------------------------------------


def test_a_version_by_its_number(finished: Vehins) -> None:
    few = "demo://?rows=50"
    assert finished("predict", few, "out.csv", "--version", "1", "--json").json["version"] == 1
    assert finished("predict", few, "two.csv", "--version", "7", "--json", code=6).error["headline"]
    assert not Path("two.csv").exists()


def own_schema(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    text = Path(table_schema.__file__).parent.joinpath("schemas", "vehicle-insurance.toml").read_text()
    assert old in text
    Path("own.toml").write_text(text.replace(old, new))
    monkeypatch.setenv("VEHINS_SCHEMA_FILE", "own.toml")


def test_without_a_key_a_file_has_the_order_of_the_rows_and_a_store_refuses(
    vehins: Vehins, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_schema(monkeypatch, 'role = "key"', 'role = "ignored"')
    vehins("pipeline", "run", "--quiet")
    vehins("predict", "demo://?rows=300", "out.parquet")
    predictor = loaded()
    rows: list[dict[str, Any]] = typed_rows(300).select(list(predictor.table.features)).to_dicts()
    expected = [answer.probability for answer in predictor.predict(rows)]
    found = pl.read_parquet("out.parquet")
    assert found["probability"].to_list() == expected
    vehins("predict", "demo://?rows=300", "top.parquet", "--top", "20", "--reasons", "1")
    assert pl.read_parquet("top.parquet")["probability"].to_list() == sorted(expected, reverse=True)[:20]
    store = "postgresql://localhost:1/x?table=y"
    assert "predict SOURCE scores.csv" in vehins("predict", "--to", store, "--json", code=3).error["hint"]


@pytest.mark.parametrize("name", [*scoring.COLUMNS, "reason_1"])
def test_a_key_cannot_be_called_like_a_score(name: str) -> None:
    from vehins.data.schema import TableSchema
    from vehins.data.sinks import WriteOptions, open_sink
    from vehins.errors import SettingsError

    target = {"dtype": "int", "role": "target", "values": [0, 1], "positive": 1}
    columns = {name: {"dtype": "int", "role": "key"}, "a": {"dtype": "int"}, "y": target}
    table = TableSchema.model_validate({"name": "t", "columns": columns})
    with pytest.raises(SettingsError, match="is called like a column of the scores"):
        scoring._check_key(table, open_sink("out.csv", WriteOptions()))
