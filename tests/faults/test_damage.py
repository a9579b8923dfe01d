"""Artifacts that were cut short, altered, edited or lost are never used: set aside, told, made again."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from vehins_runner import (
    KINDS,
    STAGES,
    WORKSPACE,
    all_are,
    call_main,
    contents,
    customers,
    folders,
    in_folder,
    manifest,
    production,
    tree,
)

from vehins.artifacts.manifest import canonical, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from vehins_runner import Answer, Vehins

MAKER = dict(zip(KINDS, STAGES, strict=True))
FILES = [
    ("Dataset", "parts/part-00000.parquet"),
    ("Dataset", "unparsed.parquet"),
    ("Dataset", "schema.json"),
    ("Validation", "quarantine.parquet"),
    ("FeatureSet", "train.parquet"),
    ("FeatureSet", "features.json"),
    ("TrainedModel", "bundle/model.txt"),
    ("TrainedModel", "bundle/bundle.json"),
    ("TrainedModel", "bundle/golden.jsonl"),
]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete(path: Path) -> None:
    path.unlink()


def alter(path: Path) -> None:
    """Change one bit, and neither the size nor the time."""
    data, times = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def edit(path: Path) -> None:
    """Change a number in a manifest by hand."""
    body = json.loads(path.read_bytes())
    body["seconds"] += 1
    path.write_text(json.dumps(body))


HARMED_FILES = [
    *((truncate, kind, name) for kind, name in FILES),
    *((alter, kind, "bundle/model.txt" if kind == "TrainedModel" else name) for kind, name in FILES[::3]),
    (delete, "Dataset", "schema.json"),
    (delete, "FeatureSet", "valid.parquet"),
    (replace_by_folder, "TrainedModel", "bundle/signature.json"),
]


@pytest.fixture(scope="module")
def quarantined_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished workspace in which every kind that can have files has some; not to be changed."""
    with pytest.MonkeyPatch.context() as patch, in_folder(patch, tmp_path_factory.mktemp("quarantined")) as folder:
        age = pl.when(pl.col("id") <= 3).then(5).otherwise("Age").alias("Age")
        customers().with_columns(age).write_parquet("customers.parquet")
        patch.setattr(sys, "argv", ["vehins", "pipeline", "run", "--quiet", *SOURCE])
        assert call_main() == 0
        return folder


SOURCE = ("--source", "customers.parquet")


@pytest.fixture
def quarantined(quarantined_once: Path, vehins: Vehins) -> Vehins:
    """The command in a copy of it."""
    shutil.copytree(quarantined_once, ".", dirs_exist_ok=True)
    return vehins


def check_mended(answer: Answer, kind: str, harmed: Path, before: dict[str, str]) -> None:
    """Only the damaged artifact was made again; it is as it was; the damaged one can be looked at."""
    stage = MAKER[kind]
    assert answer.statuses == {**dict.fromkeys(STAGES, "reused"), stage: "ran"}
    (aside,) = (WORKSPACE / "damaged").iterdir()
    assert aside.name.startswith(f"{kind}-{harmed.name}-")
    assert f"Note: {kind} {harmed.name} is damaged (" in answer.err
    assert f"it was set aside in {aside}" in answer.err
    assert not harmed.exists()
    after = contents()
    if kind != "PushedModel":  # its record says that it found the version there
        assert after == before
    assert production() == 1


@pytest.mark.parametrize(("harm", "kind", "name"), HARMED_FILES)
def test_a_damaged_file(harm: Callable[[Path], None], kind: str, name: str, quarantined: Vehins) -> None:
    before, harmed = contents(), folders(kind)[0]
    harm(harmed / name)
    answer = quarantined.run(*SOURCE)
    if kind == "Dataset":  # with bad rows, validate checks the new data set for itself
        assert answer.statuses == {**dict.fromkeys(STAGES, "reused"), "ingest": "ran", "validate": "ran"}
        answer = quarantined.run(*SOURCE)
        assert all_are("reused", answer)
        assert contents() == before
        return
    check_mended(answer, kind, harmed, before)
    assert answer.reasons[MAKER[kind]].startswith(f"the artifact there was damaged: {name} ")
    assert all_are("reused", quarantined.run(*SOURCE))


@pytest.mark.parametrize(
    ("harm", "kind"),
    [*((edit, kind) for kind in KINDS), (truncate, "Dataset"), (delete, "TrainedModel"), (alter, "Evaluation")],
)
def test_a_damaged_manifest(harm: Callable[[Path], None], kind: str, finished: Vehins) -> None:
    before, harmed = contents(), folders(kind)[0]
    harm(harmed / "manifest.json")
    check_mended(finished.run(), kind, harmed, before)
    assert all_are("reused", finished.run())


def test_a_lost_artifact(finished: Vehins) -> None:
    before = contents()
    shutil.rmtree(folders("FeatureSet")[0])
    answer = finished.run()
    assert answer.statuses == {**dict.fromkeys(STAGES, "reused"), "transform": "ran"}
    assert contents() == before


def test_a_folder_that_is_no_artifact(finished: Vehins) -> None:
    (WORKSPACE / "artifacts" / "Dataset" / "mine").mkdir()
    answer = finished.run()
    assert all_are("reused", answer)
    assert "Note: Dataset mine is damaged (" in answer.err
    assert "The manifest .vehins/artifacts/Dataset/mine/manifest.json is missing" in answer.err


def test_everything_at_once(finished: Vehins) -> None:
    before = contents()
    for kind in KINDS:
        edit(folders(kind)[0] / "manifest.json")
    answer = finished.run()
    assert all_are("ran", answer)
    assert len(list((WORKSPACE / "damaged").iterdir())) == 6
    assert {kind for kind, content in contents().items() if content != before[kind]} == {"PushedModel"}
    assert production() == 1


# --- A stage alone ------------------------------------------------------------------------------------------------

CONSUMES = dict(zip(STAGES[1:], KINDS, strict=False))
A_FILE = {"Dataset": "schema.json", "FeatureSet": "valid.parquet", "TrainedModel": "bundle/model.txt"}


@pytest.mark.parametrize("stage", STAGES[1:])
@pytest.mark.parametrize("name", ["manifest.json", None])
def test_a_stage_alone_refuses_a_damaged_input(stage: str, name: str | None, finished: Vehins) -> None:
    kind = CONSUMES[stage]
    harmed = folders(kind)[0]
    alter(harmed / (name or A_FILE.get(kind, "manifest.json")))
    for named in ((), ("--input", harmed), ("--input", harmed / "manifest.json"), ()):  # it does not go away by itself
        answer = finished(stage, "--json", *named, code=4)
        assert answer.error["headline"] == f"{kind} {harmed.name} is damaged"
        assert f"Make it anew: `vehins {MAKER[kind]}`" in answer.error["hint"]
        assert answer.json["stages"] == []
    # What the hint says works.
    finished(MAKER[kind])
    assert finished(stage, "--json").statuses == {stage: "reused"}


def test_a_stage_alone_does_not_fall_back_on_an_older_input(finished: Vehins) -> None:
    finished("ingest", "--source", "demo://?rows=3100")
    edit(folders("Dataset")[1] / "manifest.json")
    answer = finished("validate", "--json", code=4)
    assert "is damaged" in answer.error["headline"]
    assert finished("validate", "--json", "--input", folders("Dataset")[0], code=0).statuses == {"validate": "reused"}


@pytest.mark.parametrize("harm", [truncate, edit])
def test_a_stage_alone_refuses_damage_behind_its_input(harm: Callable[[Path], None], finished: Vehins) -> None:
    harmed = folders("Dataset")[0]
    harm(harmed / ("schema.json" if harm is truncate else "manifest.json"))
    for stage in ("transform", "train", "evaluate"):
        answer = finished(stage, "--json", code=4)
        assert answer.error["headline"] == f"Dataset {harmed.name} is damaged"
        assert "`vehins ingest`" in answer.error["hint"]
    finished("ingest")
    for stage in ("transform", "train", "evaluate"):
        assert finished(stage, "--json").statuses == {stage: "reused"}


# --- Newer versions -----------------------------------------------------------------------------------------------


def check_refused_untouched(vehins: Vehins, *words: str) -> Answer:
    before = tree(WORKSPACE / "artifacts"), tree(WORKSPACE / "registry")
    answer = vehins(*words, "--json", code=3)
    assert (tree(WORKSPACE / "artifacts"), tree(WORKSPACE / "registry")) == before
    assert "Upgrade vehins" in answer.error["hint"]
    return answer


@pytest.mark.parametrize("words", ["pipeline run", "pipeline plan", "train", "runs list", "gc --apply"])
def test_a_workspace_that_a_newer_vehins_wrote(words: str, finished: Vehins) -> None:
    (WORKSPACE / "workspace.json").write_text('{"version": 99}')
    answer = check_refused_untouched(finished, *words.split())
    assert answer.error["headline"] == "The workspace .vehins was written by a newer vehins"
    assert "layout 99" in answer.error["detail"]


@pytest.mark.parametrize("words", ["pipeline run", "pipeline plan", "gc --apply --keep-runs 1"])
@pytest.mark.parametrize("change", [{"manifest_version": 2}, {"kind": "Report"}])
def test_an_artifact_that_a_newer_vehins_wrote(words: str, change: dict[str, object], finished: Vehins) -> None:
    path = folders("Dataset")[0] / "manifest.json"
    body = {**json.loads(path.read_bytes()), **change}
    del body["checksum"]
    path.write_bytes(canonical({**body, "checksum": digest(body)}))
    answer = check_refused_untouched(finished, *words.split())
    assert "was written by a newer vehins" in answer.error["headline"]


def test_a_workspace_file_that_says_nothing(finished: Vehins) -> None:
    (WORKSPACE / "workspace.json").write_text("{}")
    answer = finished.run(code=3)
    assert "does not say which layout" in answer.error["headline"]


def test_a_run_record_that_is_damaged_is_left_out(finished: Vehins) -> None:
    (record,) = (WORKSPACE / "runs").iterdir()
    truncate(record)
    assert finished("runs", "list", "--json").json == {"runs": []}
    assert all_are("reused", finished.run())
    assert len(finished("runs", "list", "--json").json["runs"]) == 1


def test_what_is_made_again_is_what_its_manifest_says(finished: Vehins) -> None:
    """The new artifact is not the old one with a new name: its files are there and right."""
    alter(folders("TrainedModel")[0] / "bundle" / "model.txt")
    finished.run()
    from vehins.artifacts.files import FileRecord, damage

    made = folders("TrainedModel")[0]
    records = manifest("TrainedModel")["files"]
    assert len(records) == 6
    assert all(damage(made, FileRecord(**record)) is None for record in records)
