"""Training on tables of other shapes and names, and what the artifacts of a run look like from outside."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
from vehins_runner import KINDS, WORKSPACE

from vehins.artifacts.manifest import TrainedModel, json_schema
from vehins.artifacts.workspace import Workspace

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
