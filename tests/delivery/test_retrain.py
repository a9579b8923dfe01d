"""retrain.yml, run here step by step: a model that is taken, one that is refused, rows and stores at fault."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from github_runner import ROOT, Runner
from server_process import free_port
from vehins_runner import MODEL, SETTINGS, customers

if TYPE_CHECKING:
    from pathlib import Path

    from github_runner import Job

pytestmark = pytest.mark.timeout(900)  # many processes, one after the other
RETRAIN = ROOT / ".github/workflows/retrain.yml"
STAGES = ["Ingest", "Validate", "Transform", "Train", "Evaluate"]
SOURCE = "demo://?rows=3000"
# A store that does not answer is asked twice at most.
IMPATIENT = SETTINGS + "[remote]\nconnect_timeout = 1\nattempts = 2\n"


def retrain(folder: Path, registry: Path, settings: str = SETTINGS, source: str = SOURCE, approve: str = "") -> Runner:
    given = {"VEHINS_REGISTRY": str(registry), "VEHINS_SOURCE": source}
    runner = Runner(RETRAIN, folder, settings, vars=given, inputs={"approve": approve})
    runner.run()
    return runner


def production(registry: Path) -> dict[str, object]:
    return json.loads((registry / MODEL.relative_to("registry") / "aliases/production.json").read_bytes())


def failed(job: Job) -> str:
    assert job.result == "failure"
    return next(name for name, step in job.steps.items() if step.outcome == "failure")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runner, Path]:
    """The first run, and the registry that it has filled; not to be changed."""
    folder = tmp_path_factory.mktemp("first")
    return retrain(folder / "run", folder / "registry"), folder / "registry"


def test_a_model_that_is_accepted_is_pushed_by_the_second_job(first: tuple[Runner, Path]) -> None:
    runner, registry = first
    train, push = runner.jobs["train"], runner.jobs["push"]
    assert (train.result, push.result) == ("success", "success"), [*train.steps.values(), *push.steps.values()]
    assert train.ran == ["Set up", *STAGES, "Write the report"]
    assert push.ran == ["Set up", "Push"]
    assert push.steps["Push"].outputs["version"] == "1"
    assert production(registry)["version"] == 1


def test_steps_hand_manifests_on(first: tuple[Runner, Path]) -> None:
    steps = first[0].jobs["train"].steps
    manifests = [steps[stage].outputs["manifest"] for stage in STAGES]
    kinds = [path.split("/")[2] for path in manifests]
    assert kinds == ["Dataset", "Validation", "FeatureSet", "TrainedModel", "Evaluation"]


def test_what_is_kept_is_the_report_and_the_manifests_and_no_customer_rows(first: tuple[Runner, Path]) -> None:
    artifacts = first[0].artifacts
    assert sorted(path.name for path in artifacts.iterdir()) == ["manifests", "model", "report"]
    assert "<html" in next((artifacts / "report").glob("*.html")).read_text(encoding="utf-8")
    assert {path.suffix for path in (artifacts / "manifests").rglob("*") if path.is_file()} == {".json"}
    assert len(list((artifacts / "manifests").rglob("manifest.json"))) == 5
    kept = {path.relative_to(artifacts).parts[1] for path in (artifacts / "model").rglob("*") if path.is_file()}
    assert kept == {"TrainedModel", "Evaluation"}
    assert not list(artifacts.rglob("*.parquet"))


def test_the_job_pages_tell_the_verdict_and_the_rules(first: tuple[Runner, Path]) -> None:
    train, push = first[0].jobs["train"].summary, first[0].jobs["push"].summary
    for stage in STAGES:
        assert f"### {stage.lower()}: ran" in train
    assert "| passed | AUC floor |" in train
    assert "**Accepted: version 1 of vehicle-insurance is in production**" in push


def test_a_refusal_is_a_notice_and_nothing_is_pushed(first: tuple[Runner, Path], tmp_path: Path) -> None:
    registry = shutil.copytree(first[1], tmp_path / "registry")
    settings = SETTINGS.replace("[train]", "[train]\nseed = 2")
    runner = retrain(tmp_path / "run", registry, settings)
    train, push = runner.jobs["train"], runner.jobs["push"]
    assert (train.result, push.result) == ("success", "skipped"), train.steps
    evaluate = train.steps["Evaluate"]
    assert (evaluate.code, evaluate.outputs["exit-code"], evaluate.outputs["verdict"]) == (0, "5", "refuse")
    [(kind, title, text)] = evaluate.annotations
    assert (kind, title.split(":")[0]) == ("notice", "The gate refused this model")
    assert "Try: The champion stays." in text
    assert "Version 1 stays in production." in train.summary
    assert "| failed | Better than champion |" in train.summary
    assert train.steps["Hand the model on"].outcome == "skipped"
    assert train.steps["Keep the report"].outcome == "success"
    assert production(registry)["version"] == 1


def test_anomalies_fail_the_job_with_the_hint(tmp_path: Path) -> None:
    rows = customers(2000)
    rows = rows.with_columns(Gender=rows["Gender"].head(1000).append(rows["Gender"].head(1000).str.to_uppercase()))
    rows.write_csv(tmp_path / "customers.csv")
    runner = retrain(tmp_path / "run", tmp_path / "registry", source=str(tmp_path / "customers.csv"))
    train = runner.jobs["train"]
    assert failed(train) == "Validate"
    assert train.steps["Validate"].code == 4
    [(kind, title, text)] = train.steps["Validate"].annotations
    assert kind == "error"
    assert title
    assert "Try: " in text
    assert "### validate: refused" in train.summary
    assert train.ran == ["Set up", "Ingest", "Validate", "Write the report"]
    assert runner.jobs["push"].result == "skipped"
    assert not (tmp_path / "registry/models").exists()


def test_a_store_out_of_reach_fails_the_job_with_the_hint(tmp_path: Path) -> None:
    source = f"mongodb://127.0.0.1:{free_port()}/crm?collection=customers"
    train = retrain(tmp_path / "run", tmp_path / "registry", IMPATIENT, source).jobs["train"]
    assert failed(train) == "Ingest"
    assert train.steps["Ingest"].code == 6
    [(kind, _, text)] = train.steps["Ingest"].annotations
    assert kind == "error"
    assert "Try: " in text
    assert "### ingest: failed" in train.summary
    assert train.ran == ["Set up", "Ingest"]


def test_settings_that_cannot_be_are_told_too(tmp_path: Path) -> None:
    train = retrain(tmp_path / "run", tmp_path / "registry", "unheard_of = 1\n").jobs["train"]
    assert train.steps["Ingest"].code == 3
    [(kind, _, text)] = train.steps["Ingest"].annotations
    assert kind == "error"
    assert "Try: " in text
    assert "unheard_of" in train.summary


def test_a_schedule_without_a_registry_does_nothing(tmp_path: Path) -> None:
    runner = Runner(RETRAIN, tmp_path, SETTINGS, github={"event_name": "schedule"})
    assert {job.result for job in runner.run().values()} == {"skipped"}
