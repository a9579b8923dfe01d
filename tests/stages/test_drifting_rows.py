"""Drift in the chain: against whom, what a champion of an older vehins means, and what the gate says to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from vehins_runner import STAGES, WORKSPACE, all_are, customers, folders, manifest, production

from vehins.artifacts.files import record_file
from vehins.artifacts.record import canonical
from vehins.model import bundle

if TYPE_CHECKING:
    from vehins_runner import Vehins

LENIENT = ("--set", "gate.mode=not-worse", "--set", "gate.margin=0.4")
VERSION = WORKSPACE / "registry/models/vehicle-insurance/versions/1"


def validated() -> dict[str, Any] | None:
    return manifest("Validation")["result"]["drift"]


def judged() -> dict[str, Any] | None:
    return manifest("Evaluation")["result"]["drift"]


def rule(answer: Any) -> dict[str, Any]:
    return next(found for found in answer.json["gate"]["rules"] if found["name"] == "no_drift")


def write(rows: pl.DataFrame) -> tuple[str, str]:
    rows.write_parquet("newer.parquet")
    return ("--source", "newer.parquet")


def test_without_a_champion_nothing_is_compared(finished: Vehins) -> None:
    assert validated() is None
    assert judged() is None


def test_newer_rows_are_compared_with_those_the_champion_was_trained_on(finished: Vehins) -> None:
    answer = finished.run(*write(customers(6_000).tail(3_000)), *LENIENT)
    assert validated() == judged()
    found = validated()
    assert (found["version"], found["rows"]) == (1, 3_000)
    trained = json.loads((folders("TrainedModel")[0] / "manifest.json").read_bytes())
    assert found["reference_rows"] == trained["result"]["rows"]
    assert {column["column"] for column in found["columns"]} == {*customers(1).columns} - {"id"}
    assert rule(answer)["verdict"] == "pass"
    assert "Since champion 1 was trained" in rule(answer)["sentence"]


def test_once_promoted_a_model_does_not_change_what_its_rows_are_compared_with(finished: Vehins) -> None:
    """Or every run would be followed by one that has to compare anew."""
    source = write(customers(3_200))
    finished.run(*source, *LENIENT)
    assert (production(), validated()["version"]) == (2, 1)
    assert all_are("reused", finished.run(*source, *LENIENT))
    # Another model of the same rows meets the new champion, and the rows keep their rival.
    answer = finished.run(*source, *LENIENT, "--set", "train.seed=2")
    assert answer.statuses["validate"] == "reused"
    assert (production(), validated()["version"], judged()["version"]) == (3, 1, 2)
    assert all_are("reused", finished.run(*source, *LENIENT, "--set", "train.seed=2"))


def test_customers_of_another_kind_are_refused_until_a_person_says_otherwise(finished: Vehins) -> None:
    older = customers(3_000).with_columns(pl.col("Age") + 18)
    answer = finished.run(*write(older), *LENIENT, code=5)
    assert [found["name"] for found in answer.json["gate"]["rules"] if found["verdict"] == "fail"] == ["no_drift"]
    assert "`Age` has drifted the most" in answer.error["detail"]
    assert "Age" in answer.err
    assert validated()["columns"][0]["column"] == "Age"
    assert production() == 1
    finished.run(*write(older), *LENIENT, "--approve", "we have bought an insurer of pensioners")
    assert production() == 2


def test_a_source_that_was_resampled_before_it_was_read_has_another_target(finished: Vehins) -> None:
    """Each side is a fair draw of it, so that nothing else can tell."""
    rows = customers(3_000)
    buyers, others = rows.filter(pl.col("Response") == 1), rows.filter(pl.col("Response") == 0)
    more = buyers.sample(others.height, with_replacement=True, seed=1)
    balanced = pl.concat([others, more]).with_columns(pl.int_range(1, pl.len() + 1).alias("id"))
    answer = finished.run(*write(balanced), *LENIENT, code=5)
    failed = [found["name"] for found in answer.json["gate"]["rules"] if found["verdict"] == "fail"]
    assert failed == ["no_drift"]
    assert "`Response` has drifted the most" in rule(answer)["sentence"]


def test_a_bound_for_drift_is_a_setting(finished: Vehins) -> None:
    older = customers(3_000).with_columns(pl.col("Age") + 18)
    assert finished.run(*write(older), *LENIENT, "--set", "gate.max_drift=9").json["version"] == 2


def without_statistics() -> None:
    """Make a champion as an older vehins wrote it: its bundle does not say what its training rows looked like."""
    folder = VERSION / "bundle"
    (folder / bundle.STATISTICS_FILE).unlink()
    names = sorted(path.name for path in folder.iterdir() if path.name != bundle.BUNDLE_FILE)
    index = bundle.BundleIndex(files=[record_file(folder, folder / name) for name in names])
    (folder / bundle.BUNDLE_FILE).write_bytes(canonical(index.model_dump(mode="json")) + b"\n")
    record = json.loads((VERSION / "manifest.json").read_bytes())
    del record["lineage"]["rows"]
    files = [record_file(folder, path).model_dump(mode="json") for path in sorted(folder.iterdir())]
    record |= {"files": files, "bundle": record_file(folder, folder / bundle.BUNDLE_FILE).sha256}
    (VERSION / "manifest.json").write_text(json.dumps(record))


def test_of_a_champion_without_statistics_drift_is_unknown_and_does_not_pass(finished: Vehins) -> None:
    without_statistics()
    answer = finished.run(*write(customers(3_200)), *LENIENT, code=5)
    assert (rule(answer)["verdict"], rule(answer)["value"]) == ("fail", None)
    assert "an older vehins trained it" in rule(answer)["sentence"]
    assert "`--approve`" in rule(answer)["sentence"]
    assert validated()["reason"] == "Champion 1 carries no statistics of its training rows: an older vehins trained it."
    # It serves and scores as ever, and a person's word is enough to replace it.
    finished.run(*write(customers(3_200)), *LENIENT, "--approve", "the last one of its kind")
    assert production() == 2
    assert finished.run(*write(customers(3_400)), *LENIENT).json["version"] == 3


def test_a_champion_that_is_damaged_stops_the_validation(finished: Vehins) -> None:
    (VERSION / "bundle" / bundle.STATISTICS_FILE).write_text("{}")
    answer = finished.run(*write(customers(3_200)), code=4)
    assert answer.statuses == {"ingest": "ran", "validate": "failed", **dict.fromkeys(STAGES[2:], "skipped")}
    assert "Version 1 of vehicle-insurance is damaged in the registry" in answer.error["headline"]


def test_validation_alone_names_its_registry(finished: Vehins) -> None:
    Path("elsewhere").mkdir()
    finished("ingest", "--source", "demo://?rows=3100")
    finished("validate", "--registry", "elsewhere")
    assert validated() is None
    finished("validate")
    assert validated()["version"] == 1
    assert len(folders("Validation")) == 3


def test_an_evaluation_that_meets_another_champion_than_the_validation_measures_itself(finished: Vehins) -> None:
    finished.run(*write(customers(3_200)), *LENIENT)
    answer = finished.run(*write(customers(3_200)), *LENIENT, "--set", "train.num_leaves=15")
    assert (validated()["version"], judged()["version"]) == (1, 2)
    assert judged()["rows"] == 3_200
    assert rule(answer)["value"] < 0.01
