"""The gate in the chain: who is refused, who is let through, on whose word, and what a registry out of reach means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from vehins_runner import (
    STAGES,
    WORKSPACE,
    customers,
    folders,
    manifest,
    production,
    production_history,
    tree,
    versions,
)

from vehins.artifacts.evaluation import Curves, EvaluationResult

if TYPE_CHECKING:
    from vehins_runner import Answer, Vehins

EQUAL = ("--set", "train.seed=2")  # a model that is neither better nor worse
WEAK = ("--set", "train.num_leaves=2", "--set", "train.max_rounds=1")
REFUSED = {**dict.fromkeys(STAGES[:4], "ran"), "evaluate": "refused", "push": "skipped"}


def check_refused(answer: Answer, headline: str) -> None:
    assert answer.statuses["evaluate"] == "refused"
    assert answer.statuses["push"] == "skipped"
    assert answer.reasons["push"] == "evaluate stopped the chain"
    assert answer.json["gate"]["verdict"] == "refuse"
    assert answer.json["version"] is None
    assert answer.error["exit_code"] == 5
    assert answer.error["headline"] == headline


def test_a_challenger_that_is_not_better_changes_nothing(finished: Vehins) -> None:
    before = tree(WORKSPACE / "registry")
    answer = finished.run(*EQUAL, code=5)
    check_refused(answer, "The gate refused this model: 1 of 10 rules failed")
    assert tree(WORKSPACE / "registry") == before
    assert production() == 1
    # The reason is told to people as well, and how to go on.
    (failed,) = [rule for rule in answer.json["gate"]["rules"] if rule["verdict"] == "fail"]
    assert failed["name"] == "better_than_champion"
    assert f"Error: {answer.error['headline']}\n  {failed['sentence']}\n  Try: " in answer.err
    assert "`--approve REASON`" in answer.err


def test_refused_once_it_is_refused_again_without_more_work(finished: Vehins) -> None:
    finished.run(*EQUAL, code=5)
    again = finished.run(*EQUAL, code=5)
    assert [again.statuses[stage] for stage in STAGES[:4]] == ["reused"] * 4
    check_refused(again, "The gate refused this model: 1 of 10 rules failed")
    assert again.reasons["evaluate"].endswith("(as before)")
    run = finished("runs", "show", "--json").json
    assert (run["outcome"], run["exit_code"]) == ("refused", 5)


def test_a_better_challenger_takes_the_place_of_the_champion(vehins: Vehins) -> None:
    vehins.run(*WEAK)
    answer = vehins.run()
    assert answer.json["version"] == production() == 2
    assert answer.json["gate"]["champion"]["version"] == 1
    assert answer.json["gate"]["champion"]["auc_difference_low"] > 0
    assert manifest("PushedModel")["result"]["previous"] == 1
    assert versions() == [1, 2]


@pytest.mark.parametrize("setting", ["gate.min_auc=0.95", "gate.min_positives=500"])
def test_the_first_champion_must_reach_the_floors(setting: str, vehins: Vehins) -> None:
    answer = vehins.run("--set", setting, code=5)
    assert answer.statuses == REFUSED
    check_refused(answer, "The gate refused this model: 1 of 7 rules failed")
    assert production() is None
    assert versions() == []


def test_a_person_overrules_the_gate_and_the_reason_is_kept(finished: Vehins) -> None:
    reason = "the legal department wants [this] one"
    answer = finished.run(*EQUAL, "--approve", reason)
    assert production() == answer.json["version"] == 2
    assert (answer.json["gate"]["verdict"], answer.json["gate"]["approved"]) == ("accept", reason)
    assert f"accepted, overruled: {reason}" in answer.err
    # In the manifest, in the version and in the history of the alias.
    assert manifest("Evaluation")["result"]["approved"] == reason
    assert manifest("Evaluation")["settings"]["gate.approve"] == reason
    assert finished("models", "show", "2", "--json").json["approved"] == reason
    assert reason in finished("models", "list").out
    assert [move["reason"] for move in production_history()] == ["accepted by the gate", f"approved: {reason}"]


@pytest.mark.parametrize("words", [(), ("--approve", "the same person again")])
def test_what_a_person_has_approved_stays_in_place(words: tuple[str, ...], finished: Vehins) -> None:
    finished.run(*EQUAL, "--approve", "because I say so")
    before = tree(WORKSPACE / "registry")
    answer = finished.run(*EQUAL, *words)
    assert answer.statuses == {
        **dict.fromkeys(STAGES, "reused"),
        "evaluate": "ran",
        **({"push": "ran"} if words else {}),
    }
    assert answer.json["gate"]["champion"]["version"] == 1  # not itself
    assert answer.json["version"] == 2
    assert tree(WORKSPACE / "registry") == before
    assert set(finished.run(*EQUAL, *words).statuses.values()) == {"reused"}


def test_an_approval_that_was_not_needed_is_not_recorded(vehins: Vehins) -> None:
    answer = vehins.run("--approve", "just in case")
    assert (answer.json["gate"]["verdict"], answer.json["gate"]["approved"]) == ("accept", None)
    assert [move["reason"] for move in production_history()] == ["accepted by the gate"]


def test_an_approval_is_of_what_failed_then_and_of_nothing_else(finished: Vehins) -> None:
    finished.run(*EQUAL, "--approve", "good enough for us")
    assert finished("models", "show", "2", "--json").json["evaluation"]["overruled"] == "better_than_champion"
    answer = finished.run(*EQUAL, "--set", "gate.min_auc=0.95", code=5)
    failed = [rule["name"] for rule in answer.json["gate"]["rules"] if rule["verdict"] == "fail"]
    assert failed == ["auc_floor", "better_than_champion"]
    assert answer.json["gate"]["approved"] is None
    assert production() == 2


def test_an_approval_needs_a_reason(finished: Vehins) -> None:
    answer = finished.run(*EQUAL, "--approve", "", code=3)
    assert "gate.approve" in answer.error["headline"]
    assert "--approve" in finished("pipeline", "run", "--approve", code=2).err


def test_not_worse_is_enough_when_that_is_the_setting(finished: Vehins) -> None:
    narrow = finished.run(*EQUAL, "--set", "gate.mode=not-worse", "--set", "gate.margin=0.0001", code=5)
    check_refused(narrow, "The gate refused this model: 1 of 10 rules failed")
    answer = finished.run(*EQUAL, "--set", "gate.mode=not-worse", "--set", "gate.margin=0.05")
    assert {rule["name"]: rule["verdict"] for rule in answer.json["gate"]["rules"]}["not_worse_than_champion"] == "pass"
    assert production() == 2


def test_the_champion_is_never_judged_against_itself(finished: Vehins) -> None:
    answer = finished.run("--force", "evaluate")
    assert answer.json["gate"]["champion"] is None
    assert answer.json["version"] == production() == 1


def test_a_model_in_production_whose_rival_was_deleted_stays_in_place(finished: Vehins) -> None:
    finished.run(*EQUAL, "--approve", "good enough for us")
    (WORKSPACE / "registry/models/vehicle-insurance/versions/1/manifest.json").unlink()
    answer = finished.run(*EQUAL)
    assert answer.json["gate"]["champion"] is None
    assert production() == 2
    assert set(finished.run(*EQUAL).statuses.values()) == {"reused"}


# --- What an evaluation holds ---------------------------------------------------------------------------------------


def test_a_report_can_draw_everything_from_the_evaluation(finished: Vehins) -> None:
    finished.run(*EQUAL, code=5)
    folder = folders("Evaluation")[-1]
    found = EvaluationResult.model_validate(manifest("Evaluation")["result"])
    curves = Curves.model_validate_json((folder / "curves.json").read_bytes())
    assert "curves.json" in [record["path"] for record in manifest("Evaluation")["files"]]
    assert [gain.share for gain in found.gains] == [0.05, 0.1, 0.2, 0.3, 0.5]
    assert sum(one.rows for one in found.calibration) == found.metrics.rows
    assert {one.column for one in found.slices} == {
        "Gender",
        "Age",
        "Previously_Insured",
        "Vehicle_Age",
        "Vehicle_Damage",
    }
    for column in ("Gender", "Age"):  # each customer is in one slice of a column
        assert sum(one.rows for one in found.slices if one.column == column) == found.metrics.rows
    assert all((one.auc is None) == (one.reason is not None) for one in found.slices)
    assert found.champion is not None
    assert found.champion.profit is not None
    assert found.champion.profit.random.customers == found.champion.profit.model.customers
    assert (curves.challenger.bundle, curves.challenger.version) == (found.bundle, None)
    assert curves.champion is not None
    assert (curves.champion.bundle, curves.champion.version) == (found.champion.bundle, 1)
    assert sum(curves.challenger.histogram.positives) == found.metrics.positives
    assert (folder / "curves.json").stat().st_size < 200_000


def test_the_cutoff_of_the_bundle_is_that_of_the_evaluation_and_of_no_other(vehins: Vehins) -> None:
    """A tenth of the customers can be called."""
    vehins.run("--set", "business.capacity=300", "--set", "business.sale_value=50")
    money = EvaluationResult.model_validate(manifest("Evaluation")["result"]).profit
    signature = json.loads((folders("TrainedModel")[0] / "bundle" / "signature.json").read_bytes())
    assert money is not None
    assert money.cutoff == signature["cutoff"] > 1 / 50
    assert (money.capacity, money.capacity_here) == (
        300,
        round(0.1 * manifest("Evaluation")["result"]["metrics"]["rows"]),
    )
    assert 0 < money.model.customers <= money.capacity_here
    assert money.model.profit > money.random.profit > money.nobody.profit == 0
    # Other prices make another cutoff, and another judgement; the rows are the same.
    answer = vehins.run("--set", "gate.mode=not-worse", "--set", "gate.margin=0.4", "--set", "business.sale_value=50")
    assert [answer.statuses[stage] for stage in STAGES[:3]] == ["reused"] * 3
    assert answer.statuses["train"] == answer.statuses["evaluate"] == "ran"


# --- A registry that does not answer is not a registry without a champion -----------------------------------------


def test_a_file_in_place_of_the_registry(vehins: Vehins) -> None:
    Path("registry.txt").write_text("not a folder")
    answer = vehins.run("--registry", "registry.txt", code=6)
    # Validation already asks for the champion: nobody has to train first to learn that the registry is out of reach.
    assert answer.statuses == {"ingest": "ran", "validate": "failed", **dict.fromkeys(STAGES[2:], "skipped")}
    assert answer.error["headline"] == "A file stands where a folder is needed"
    assert "registry.txt" in answer.error["detail"]
    assert not (WORKSPACE / "artifacts" / "Validation").exists()
    vehins.run()
    # With all else in place, each command that needs the registry says so.
    for words in (("validate",), ("evaluate",), ("pipeline", "plan"), ("models", "list"), ("models", "show"), ("gc",)):
        assert vehins(*words, "--registry", "registry.txt", "--json", code=6).error["exit_code"] == 6


def test_a_registry_that_went_away(finished: Vehins) -> None:
    (WORKSPACE / "registry").rename("elsewhere")
    (WORKSPACE / "registry").symlink_to("unmounted")
    for words in (("pipeline", "run"), ("pipeline", "plan"), ("validate",), ("evaluate",), ("push",)):
        answer = finished(*words, "--json", code=6)
        assert "does not answer" in answer.error["headline"]
    (WORKSPACE / "registry").unlink()
    Path("elsewhere").rename(WORKSPACE / "registry")
    assert set(finished.run().statuses.values()) == {"reused"}


def test_an_alias_that_cannot_be_read(finished: Vehins) -> None:
    alias = WORKSPACE / "registry/models/vehicle-insurance/aliases/production.json"
    alias.write_bytes(b"{")
    answer = finished.run(code=4)
    assert answer.statuses["validate"] == "failed"
    assert "production.json" in answer.error["headline"]
    assert finished("evaluate", "--json", code=4).error["headline"] == answer.error["headline"]


def test_a_champion_whose_files_are_damaged_is_not_compared_with(finished: Vehins) -> None:
    model = WORKSPACE / "registry/models/vehicle-insurance/versions/1/bundle/model.txt"
    model.write_bytes(model.read_bytes()[:-1000])
    answer = finished.run(*EQUAL, code=4)
    assert answer.statuses["evaluate"] == "failed"
    assert "Version 1 of vehicle-insurance is damaged in the registry" in answer.error["headline"]
    assert production() == 1


def test_a_registry_of_an_unknown_kind(vehins: Vehins) -> None:
    answer = vehins("evaluate", "--registry", "ftp://host/models", "--json", code=6)  # there is nothing to evaluate yet
    vehins("pipeline", "run")
    answer = vehins("evaluate", "--registry", "ftp://host/models", "--json", code=3)
    assert answer.error["headline"] == "The registry is at an address of an unknown kind"


# --- Champions of another table -----------------------------------------------------------------------------------


def with_schema(name: str, old: str, new: str) -> str:
    """Write a schema that is not quite the packaged one; return its name."""
    from vehins.data import schema

    packaged = Path(schema.__file__).parent / "schemas" / "vehicle-insurance.toml"
    text = packaged.read_text()
    assert old in text
    Path(name).write_text(text.replace(old, new))
    return name


MORE = '[columns.Children]\ndtype = "int"\n\n[columns.Response]'


def test_a_champion_that_needs_a_column_which_is_not_there(vehins: Vehins) -> None:
    customers().with_columns(Children=pl.col("Age") % 4).write_parquet("more.parquet")
    schema = with_schema("more.toml", "[columns.Response]", MORE)
    vehins.run("--source", "more.parquet", "--schema", schema)
    answer = vehins.run(code=4)
    assert answer.statuses["evaluate"] == "failed"
    assert answer.error["headline"] == "Champion 1 needs the column `Children`, which these rows do not have"
    assert "--set model_name=NAME" in answer.error["hint"]
    assert production() == 1
    # What the hint says works.
    assert vehins.run("--set", "model_name=other").json["version"] == 1


def test_a_champion_that_knows_fewer_columns_is_met(finished: Vehins) -> None:
    customers().with_columns(Children=pl.col("Age") % 4).write_parquet("more.parquet")
    schema = with_schema("more.toml", "[columns.Response]", MORE)
    lenient = ("--set", "gate.mode=not-worse", "--set", "gate.margin=0.4")
    answer = finished.run("--source", "more.parquet", "--schema", schema, *lenient)
    assert answer.json["gate"]["champion"]["version"] == 1
    assert production() == 2


def test_a_test_side_without_both_classes(vehins: Vehins) -> None:
    # As few positives as there must be to train, and none on the test side.
    rows = customers(4000)
    vehins("ingest")
    side = pl.read_parquet(folders("Dataset")[0] / "parts/*.parquet").filter(pl.col("__side__") == "test")["id"]
    response = pl.when(pl.col("id").is_in(side.implode())).then(0).otherwise("Response").alias("Response")
    rows.with_columns(response).filter(pl.col("id") <= 3000).write_csv("customers.csv")
    answer = vehins.run("--source", "customers.csv", code=4)
    assert answer.statuses["evaluate"] == "failed"
    assert "and not both classes" in answer.error["headline"]
    assert "--set split.test=" in answer.error["hint"]


def test_the_judgement_is_told_by_the_stage_alone_too(finished: Vehins) -> None:
    answer = finished("evaluate")
    auc = manifest("Evaluation")["result"]["metrics"]["auc"]
    assert f"Test AUC  {auc:.4f} (95% interval " in answer.err
    assert "Gate      accepted" in answer.err
    alone = finished("evaluate", "--set", "gate.min_auc=0.9", "--json", code=5)
    assert alone.json["gate"]["verdict"] == "refuse"
    assert alone.statuses == {"evaluate": "refused"}
