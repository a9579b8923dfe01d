"""Training on tables of other shapes and names, and what the artifacts of a run look like from outside."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
from vehins_runner import KINDS, WORKSPACE, customers, folders, manifest

from vehins.artifacts.manifest import TrainedModel, json_schema
from vehins.artifacts.workspace import Workspace
from vehins.data import schema
from vehins.model.bundle import Bundle

# LightGBM refuses some of these names and confuses others.
HOSTILE = ["Charges [USD]", "a b", "a_b", 'say "yes"', "x:{y},z"]


@pytest.fixture
def hostile_table(place: Path) -> None:
    """A table whose column names are unfriendly, with its schema."""
    rng = np.random.default_rng(5)
    columns = {name: rng.integers(0, 50, 4000) for name in HOSTILE}
    chance = 1 / (1 + np.exp(-(columns["a b"] - columns["a_b"]) / 10))
    bought = np.where(rng.random(4000) < chance, "yes", "no")
    pl.DataFrame({"who": [f"c{i}" for i in range(4000)], **columns, "bought": bought}).write_csv("table.csv")
    lines = ['name = "hostile"', "[columns.who]", 'dtype = "string"', 'role = "key"']
    for name in HOSTILE:
        lines += [f"[columns.{json.dumps(name)}]", 'dtype = "int"']
    lines += ["[columns.bought]", 'dtype = "string"', 'role = "target"', 'values = ["no", "yes"]', 'positive = "yes"']
    Path("table.toml").write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.usefixtures("hostile_table")
def test_any_column_name_can_be_trained_on(vehins):
    vehins("pipeline", "run", "--source", "table.csv", "--schema", "table.toml", "--quiet")
    model = Workspace(WORKSPACE).newest(TrainedModel).manifest.result
    assert set(model.importance) == set(HOSTILE)
    assert set(list(model.importance)[:2]) == {"a b", "a_b"}
    assert sum(model.importance.values()) == pytest.approx(1)


def test_the_baseline_and_the_chosen_fit_are_recorded(finished):
    result = Workspace(WORKSPACE).newest(TrainedModel).manifest.result
    assert result.baseline.name == "logistic regression"
    assert 0.5 < result.baseline.valid_auc < 1
    assert 0.5 < result.valid_auc < 1
    assert 1 <= result.trees <= 20
    assert result.parameters["objective"] == "binary"
    assert result.parameters["deterministic"] is True


@pytest.mark.parametrize("kind", KINDS)
def test_manifests_keep_to_their_published_schema(finished, kind):
    (path,) = (WORKSPACE / "artifacts" / kind).glob("*/manifest.json")
    manifest = json.loads(path.read_bytes())
    validator = jsonschema.Draft202012Validator(json_schema(kind), format_checker=jsonschema.FormatChecker())
    validator.validate(manifest)
    for broken in ({**manifest, "surprise": 1}, {k: v for k, v in manifest.items() if k != "checksum"}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(broken)


def test_the_recorded_judgement_is_that_of_the_watched_rows(vehins):
    """The final fit has all rows, whatever is watched."""
    vehins.run("--source", "demo://?rows=12000")
    before = Workspace(WORKSPACE).newest(TrainedModel).manifest.result
    vehins("train", "--set", "train.watched_rows=1000")
    after = Workspace(WORKSPACE).newest(TrainedModel).manifest.result
    assert after.rows == before.rows
    assert after.valid_auc != before.valid_auc


def newest_bundle() -> Bundle:
    return Bundle(folders("TrainedModel")[-1] / "bundle", 1)


# --- Seeds ------------------------------------------------------------------------------------------------------------


def test_seeds_are_averaged_into_one_bundle(finished):
    alone = []
    for seed in (1, 2, 3):
        finished("train", "--set", f"train.seed={seed}")
        alone.append(newest_bundle())
    answer = finished("train", "--seeds", "3", "--json")
    assert answer.reasons == {"train": "setting train.seed 3 -> 1; setting train.seeds 1 -> 3"}
    result = manifest("TrainedModel")["result"]
    assert result["trees"] == sum(result["trees_by_seed"])
    assert len(result["trees_by_seed"]) == 3
    together, rows = newest_bundle(), customers(500)
    odds = [np.log(p / (1 - p)) for p in (one.predict(rows.lazy()) for one in alone)]
    expected = 1 / (1 + np.exp(-np.mean(odds, axis=0)))
    assert together.calibrator is None  # so few rows calibrate nothing
    np.testing.assert_allclose(together.predict(rows.lazy()), expected, rtol=0, atol=1e-12)
    digest = together.digest
    finished("train", "--seeds", "3", "--force")
    assert newest_bundle().digest == digest
    assert finished("train", "--seeds", "3", "--json").statuses == {"train": "reused"}


def test_the_chain_takes_seeds(finished):
    assert finished.run("--seeds", "2", "--set", "gate.mode=not-worse", "--set", "gate.margin=0.1").json["version"] == 2


@pytest.mark.parametrize("words", [("--seeds", "0"), ("--tune", "-1"), ("--set", "train.calibrate=always")])
def test_settings_that_cannot_be(vehins, words):
    assert "train." in vehins("train", *words, "--json", code=3).error["headline"]


# --- Calibration ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def timid(tmp_path_factory) -> Path:
    """A file of customers, enough of them to calibrate on."""
    path = tmp_path_factory.mktemp("timid") / "customers.parquet"
    customers(12_000).write_parquet(path)
    return path


def test_a_calibrator_is_added_where_it_helps_and_used_everywhere(vehins, timid):
    """A few small steps end far from the labels: what is fitted so is too timid."""
    few = ("--source", timid, "--set", "train.learning_rate=0.02")
    vehins.run(*few)
    found = manifest("TrainedModel")["result"]["calibration"]
    assert found["method"] in {"sigmoid", "isotonic"}
    helped = next(one for one in found["tried"] if one["method"] == found["method"])
    assert helped["gain_low"] > 0
    assert helped["ece"] < found["valid_ece"]
    loaded, rows = newest_bundle(), customers(10_000)
    bulk = loaded.predict(rows.lazy())
    assert bulk.tolist() == loaded.predict_rows(rows.to_dicts())
    assert loaded.percentile(float(np.median(bulk))) == pytest.approx(50, abs=3)
    with_it = manifest("Evaluation")["result"]["metrics"]
    vehins.run(*few, "--set", "train.calibrate=never", "--set", "gate.approve=a comparison")
    without = manifest("Evaluation")["result"]["metrics"]
    assert manifest("TrainedModel")["result"]["calibration"]["method"] == "none"
    assert with_it["log_loss"] < without["log_loss"]
    assert with_it["auc"] == pytest.approx(without["auc"], abs=1e-9)


# --- Monotone columns and interactions --------------------------------------------------------------------------------

INTERACTIONS = """
[interactions.channel_and_age_of_vehicle]
kind = "cross"
columns = ["Policy_Sales_Channel", "Vehicle_Age"]

[interactions.premium_per_day]
kind = "ratio"
columns = ["Annual_Premium", "Vintage"]
"""


def own_schema(text: str) -> str:
    packaged = (Path(schema.__file__).parent / "schemas" / "vehicle-insurance.toml").read_text()
    Path("own.toml").write_text(packaged.replace("[columns.Age]\n", "[columns.Age]\nmonotone = -1\n") + text)
    return "own.toml"


def test_the_schema_brings_interactions_and_directions(vehins):
    vehins.run("--schema", own_schema(INTERACTIONS))
    result = manifest("TrainedModel")["result"]
    assert list(manifest("FeatureSet")["result"]["features"])[-2:] == ["channel_and_age_of_vehicle", "premium_per_day"]
    assert set(result["importance"]) >= {"channel_and_age_of_vehicle", "premium_per_day"}
    assert result["parameters"]["monotone_constraints"] == [0, -1, *[0] * 10]
    loaded, rows = newest_bundle(), customers(2_000)
    assert loaded.predict(rows.lazy()).tolist() == loaded.predict_rows(rows.to_dicts())
    ages = [loaded.predict(rows.with_columns(Age=pl.lit(age)).lazy()) for age in range(20, 86, 5)]
    assert (np.diff(ages, axis=0) <= 1e-12).all()


def test_a_change_of_an_interaction_trains_again(vehins):
    vehins.run("--schema", own_schema(""))
    assert vehins.run("--schema", own_schema(INTERACTIONS), code=5).statuses["transform"] == "ran"


# --- The search for settings ------------------------------------------------------------------------------------------


def test_a_search_records_its_trials_and_its_best_settings_make_the_same_model(finished):
    told = finished("train", "--tune", "0.05").err
    made = manifest("TrainedModel")
    tuned, trials = made["result"]["tuning"], folders("TrainedModel")[-1] / "trials.jsonl"
    lines = [json.loads(line) for line in trials.read_text().splitlines()]
    assert len(lines) == tuned["trials"] >= 1
    assert f"{tuned['trials']} trials on 3 folds of the train side" in told
    assert lines[tuned["best"]]["parameters"] == tuned["parameters"]
    assert next(record["rows"] for record in made["files"] if record["path"] == "trials.jsonl") == len(lines)
    assert {name: made["result"]["parameters"][name] for name in tuned["parameters"]} == tuned["parameters"]
    assert made["outside"]["optuna"] in tuned["library"]
    assert finished("train", "--tune", "0.05", "--json").statuses == {"train": "reused"}
    by_hand = [word for name, value in tuned["parameters"].items() for word in ("--set", f"train.{name}={value}")]
    finished("train", *by_hand, "--force")
    again = manifest("TrainedModel")
    assert again["content"] == made["content"]
    assert again["outside"] == {}
    assert again["result"]["tuning"] is None


def test_more_seeds_after_a_search_search_no_more(finished):
    finished("train", "--tune", "0.03")
    before = manifest("TrainedModel")["result"]["tuning"]
    finished("train", "--tune", "0.0001", "--seeds", "2")
    assert manifest("TrainedModel")["result"]["tuning"] == before
    # With other settings to begin with, it is another search.
    finished("train", "--tune", "0.0001", "--set", "train.lambda_l2=1")
    assert manifest("TrainedModel")["result"]["tuning"]["trials"] == 1
    assert len(list((WORKSPACE / "tuning").iterdir())) == 2
    listed = finished("gc", "--json").json["folders"]
    assert [item["reason"] for item in listed] == ["trials of an earlier search for settings"]
    finished("gc", "--apply")
    assert len(list((WORKSPACE / "tuning").iterdir())) == 1


def test_the_chain_takes_a_search_and_reuses_what_it_made(finished):
    words = ("--tune", "0.02", "--set", "gate.mode=not-worse", "--set", "gate.margin=0.2")
    assert finished.run(*words).statuses["train"] == "ran"
    assert finished.run(*words).statuses["train"] == "reused"
    planned = finished("pipeline", "plan", "--json", *words).json["stages"]
    assert {stage["action"] for stage in planned} == {"reuse"}


def test_a_search_without_its_library_says_what_to_install(finished, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    error = finished("train", "--tune", "1", "--json", code=3).error
    assert error["headline"] == "The search for settings needs Optuna, which is not installed"
    assert error["hint"] == "Install it: `pip install 'vehins[tune]'`."
    assert len(folders("TrainedModel")) == 1
