"""Each stage by itself: what it consumes, what it makes, and that the chain makes the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from vehins_runner import KINDS, STAGES, WORKSPACE, contents, customers, folders, manifest, tree

if TYPE_CHECKING:
    from vehins_runner import Vehins

CONSUMES = dict(zip(STAGES[1:], KINDS, strict=False))
LENIENT = ("--set", "gate.mode=not-worse", "--set", "gate.margin=0.4")


def test_one_after_the_other_they_make_what_the_chain_makes(vehins: Vehins, finished_once: Path) -> None:
    for stage, kind in zip(STAGES, KINDS, strict=True):
        printed = vehins(stage).out
        assert printed == f"{folders(kind)[0] / 'manifest.json'}\n"
    assert contents() == contents(finished_once)
    bundle = folders("TrainedModel")[0] / "bundle"
    other = folders("TrainedModel", finished_once)[0] / "bundle"
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


@pytest.mark.parametrize("stage", STAGES)
def test_after_the_chain_each_has_nothing_to_do(stage: str, finished: Vehins) -> None:
    before = tree(WORKSPACE / "artifacts"), tree(WORKSPACE / "registry")
    answer = finished(stage, "--json")
    assert answer.statuses == {stage: "reused"}
    assert answer.reasons == {stage: "nothing it depends on has changed"}
    # It tells of what it made, not of what it consumed.
    assert (answer.json["evaluation"] is not None, answer.json["gate"] is not None) == (stage == "evaluate",) * 2
    assert answer.json["version"] == (1 if stage == "push" else None)
    assert (tree(WORKSPACE / "artifacts"), tree(WORKSPACE / "registry")) == before


@pytest.mark.parametrize("stage", STAGES)
def test_force_makes_it_again(stage: str, finished: Vehins) -> None:
    before = contents()
    answer = finished(stage, "--force", "--json")
    assert (answer.statuses, answer.reasons) == ({stage: "ran"}, {stage: "forced"})
    kind = KINDS[STAGES.index(stage)]
    assert len(folders(kind)) == 2
    if stage != "push":  # its record says that it found the version there
        assert contents() == before


@pytest.fixture
def with_two(finished: Vehins) -> Vehins:
    """A workspace in which the chain has run on two data sets."""
    finished.run("--source", "demo://?rows=3500", *LENIENT)
    return finished


@pytest.mark.parametrize("stage", STAGES[1:5])
def test_it_consumes_the_newest_or_the_one_that_is_named(stage: str, with_two: Vehins) -> None:
    first, second = folders(CONSUMES[stage])
    kind = KINDS[STAGES.index(stage)]
    for words, wanted in (((), second), (("--input", first / "manifest.json"), first), (("--input", first), first)):
        with_two(stage, "--force", *words, *(LENIENT if stage == "evaluate" else ()))
        made = manifest(kind)
        assert made["inputs"][0]["id"] == wanted.name
        # The other inputs are those that led to it.
        origin = json.loads((wanted / "manifest.json").read_bytes())
        shared = {record["kind"]: record["id"] for record in origin["inputs"]}
        for record in made["inputs"][1:]:
            assert shared[record["kind"]] == record["id"]


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_manifest_of_another_kind_is_refused(stage: str, finished: Vehins) -> None:
    other = "Dataset" if stage != "validate" else "FeatureSet"
    answer = finished(stage, "--input", folders(other)[0] / "manifest.json", code=2)
    assert answer.err.startswith(f"Error: `vehins {stage}` consumes a {CONSUMES[stage]}\n")
    assert f"is a {other}" in answer.err
    assert f"Try: Name a {CONSUMES[stage]} manifest." in answer.err


def test_ingest_consumes_nothing(vehins: Vehins) -> None:
    assert "No such option: --input" in vehins("ingest", "--input", "x", code=2).err


@pytest.mark.parametrize(("stage", "maker"), list(zip(STAGES[1:], STAGES, strict=False)))
def test_with_nothing_to_consume_it_names_the_stage_that_makes_it(stage: str, maker: str, vehins: Vehins) -> None:
    answer = vehins(stage, code=6)
    assert f"Error: There is no {CONSUMES[stage]} in {WORKSPACE}\n" in answer.err
    assert answer.err.endswith(f"Try: Make one: `vehins {maker}`.\n")
    assert not (WORKSPACE / "artifacts").exists()


def test_a_manifest_that_is_not_there(finished: Vehins) -> None:
    answer = finished("validate", "--input", "nowhere/manifest.json", code=6)
    assert answer.err.startswith("Error: There is no manifest at nowhere/manifest.json\n")


def test_a_file_that_is_no_manifest(finished: Vehins) -> None:
    Path("other").mkdir()
    Path("other/manifest.json").write_text('{"name": "a web application"}')
    answer = finished("validate", "--input", "other/manifest.json", code=4)
    assert answer.err.startswith("Error: The manifest other/manifest.json is damaged\n")


def test_an_input_that_led_to_another_and_is_gone(finished: Vehins) -> None:
    shutil.rmtree(folders("Validation")[0])
    answer = finished("train", code=6)
    assert "is no longer in the workspace" in answer.err
    assert "Try: Make it again: `vehins pipeline run`." in answer.err


def test_what_only_led_to_its_inputs_may_be_gone(finished: Vehins) -> None:
    for kind in ("Dataset", "Validation", "FeatureSet"):
        shutil.rmtree(folders(kind)[0])
    assert finished("push", "--json").statuses == {"push": "reused"}


def test_transform_goes_no_further_than_the_chain_with_a_refused_validation(vehins: Vehins) -> None:
    age = pl.when(pl.int_range(pl.len()) < 300).then(5).otherwise("Age").alias("Age")
    customers().with_columns(age).write_csv("customers.csv")
    vehins("ingest", "--source", "customers.csv")
    vehins("validate", code=4)
    answer = vehins("transform", code=4)
    assert "does not accept these rows" in answer.err
    assert "300 of 3,000 rows (10.00%) have bad values" in answer.err
    assert "`vehins validate --set validate.max_bad_values=SHARE`" in answer.err
    assert not (WORKSPACE / "artifacts" / "FeatureSet").exists()
    vehins("validate", "--set", "validate.max_bad_values=0.1")
    vehins("transform")
