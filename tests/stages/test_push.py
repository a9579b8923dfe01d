"""Registering and promoting: once, and only what the gate has accepted against the champion of the day."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from vehins_runner import STAGES, WORKSPACE, folders, manifest, production, production_history, tree, versions

from vehins.artifacts.manifest import dump, parse
from vehins.registry.registry import Registry
from vehins.registry.stores import open_store
from vehins.settings import RemoteSettings, S3Settings

if TYPE_CHECKING:
    from vehins_runner import Vehins

LENIENT = ("--set", "gate.mode=not-worse", "--set", "gate.margin=0.4")


def registry() -> Registry:
    return Registry(open_store(str(WORKSPACE / "registry"), S3Settings(), RemoteSettings()), "vehicle-insurance")


def test_what_is_registered_is_the_bundle_and_where_it_came_from(finished: Vehins) -> None:
    version = finished("models", "show", "--json").json
    model = folders("TrainedModel")[0]
    assert version["bundle"] == manifest("TrainedModel")["result"]["bundle"]
    assert version["lineage"] == {
        "TrainedModel": model.name,
        "Evaluation": folders("Evaluation")[0].name,
        "rows": manifest("Dataset")["content"],
    }
    stored = WORKSPACE / "registry/models/vehicle-insurance/versions/1/bundle"
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == {
        path.name: path.read_bytes() for path in (model / "bundle").iterdir()
    }


@pytest.mark.parametrize(("words", "status"), [((), "reused"), (("--force",), "ran")])
def test_pushing_again_changes_nothing_and_says_so(words: tuple[str, ...], status: str, finished: Vehins) -> None:
    before = tree(WORKSPACE / "registry")
    answer = finished("push", *words)
    assert "Version   vehicle-insurance 1 (production), in place already, in .vehins/registry\n" in answer.err
    assert tree(WORKSPACE / "registry") == before
    assert finished("push", "--json").json["version"] == 1
    if status == "ran":
        result = manifest("PushedModel")["result"]
        assert (result["registered"], result["promoted"]) == (False, False)


def test_the_first_push_says_what_it_did(vehins: Vehins) -> None:
    answer = vehins("pipeline", "run")
    assert "Version   vehicle-insurance 1 (production), registered and promoted, in .vehins/registry\n" in answer.err
    result = manifest("PushedModel")["result"]
    assert result == {
        "registry": ".vehins/registry",
        "model": "vehicle-insurance",
        "version": 1,
        "alias": "production",
        "previous": None,
        "registered": True,
        "promoted": True,
    }


def test_a_refused_model_is_not_pushed(finished: Vehins) -> None:
    finished.run("--set", "train.seed=2", code=5)
    answer = finished("push", "--json", code=5)
    assert "does not accept this model" in answer.error["headline"]
    assert "`vehins evaluate --approve REASON`, then `vehins push`" in answer.error["hint"]
    assert (production(), versions()) == (1, [1])
    # What the hint says works.
    finished("evaluate", "--approve", "a better reason")
    finished("push")
    assert (production(), versions()) == (2, [1, 2])


def test_an_evaluation_of_another_model_is_refused(finished: Vehins) -> None:
    path = folders("Evaluation")[0] / "manifest.json"
    found = parse(path.read_bytes(), "it")
    path.write_bytes(dump(found.model_copy(update={"result": found.result.model_copy(update={"bundle": "0" * 64})})))
    before = tree(WORKSPACE / "registry")
    answer = finished("push", "--force", "--json", code=4)
    assert answer.error["headline"] == "The evaluation is not of this model"
    assert answer.error["hint"] == "Evaluate it: `vehins evaluate`."
    assert tree(WORKSPACE / "registry") == before


def test_when_the_alias_has_moved_meanwhile_it_pushes_again(finished: Vehins) -> None:
    finished.run("--set", "train.seed=2", *LENIENT)
    registry().point("production", 1, reason="rolled back by hand")
    answer = finished.run("--set", "train.seed=2", *LENIENT)
    assert answer.statuses == {**dict.fromkeys(STAGES, "reused"), "push": "ran"}
    assert answer.reasons["push"] == "production is version 1 by now"
    assert (production(), versions()) == (2, [1, 2])
    assert [move["version"] for move in production_history()] == [1, 2, 1, 2]
    assert manifest("PushedModel")["result"] | {"registry": ""} == {
        "registry": "",
        "model": "vehicle-insurance",
        "version": 2,
        "alias": "production",
        "previous": 1,
        "registered": False,
        "promoted": True,
    }


def test_what_was_rolled_back_is_promoted_by_a_person_alone(finished: Vehins) -> None:
    finished.run("--set", "train.seed=2", *LENIENT)
    finished("models", "rollback", "--reason", "complaints")
    answer = finished.run("--set", "train.seed=2", *LENIENT, code=5)
    assert answer.error["headline"] == "Version 2 was rolled back from production"
    assert "complaints" in answer.error["detail"]
    assert "`vehins models promote 2`" in answer.error["hint"]
    assert (production(), versions()) == (1, [1, 2])
    # What the hint says works, and from then on the version stands.
    finished("models", "promote", "2")
    assert finished.run("--set", "train.seed=2", *LENIENT).json["version"] == 2
    assert [move["version"] for move in production_history()] == [1, 2, 1, 2]


def test_when_the_registry_is_gone_it_registers_again(finished: Vehins) -> None:
    shutil.rmtree(WORKSPACE / "registry")
    answer = finished.run()
    assert answer.statuses["push"] == "ran"
    assert answer.reasons["push"] == "the registry has no production"
    assert (production(), versions()) == (1, [1])


def test_a_model_replaces_no_champion_that_it_has_not_met(finished: Vehins) -> None:
    """Judged against version 1; meanwhile somebody promotes another model."""
    finished.run("--set", "train.seed=2", *LENIENT)  # version 2, met version 1
    finished.run("--set", "train.seed=3", *LENIENT)  # version 3, met version 2
    second = folders("Evaluation")[1]
    assert json.loads((second / "manifest.json").read_bytes())["result"]["champion"]["version"] == 1
    answer = finished("push", "--force", "--input", second, "--json", code=6)
    assert answer.error["headline"] == "Version 3 has been promoted since this model was evaluated"
    assert answer.error["detail"] == "It was judged against version 1."
    assert "`vehins evaluate`, then `vehins push`" in answer.error["hint"]
    assert production() == 3
    first = finished("push", "--force", "--input", folders("Evaluation")[0], "--json", code=6)
    assert first.error["detail"] == "It was judged against no champion."
    # What the hint says works.
    finished("evaluate", "--input", folders("TrainedModel")[1], *LENIENT)
    finished("push")
    assert production() == 2


def test_another_registry_gets_the_model_as_its_first(finished: Vehins) -> None:
    answer = finished.run("--registry", "other", "--model-name", "cars")
    assert answer.statuses == {**dict.fromkeys(STAGES, "reused"), "push": "ran"}
    assert answer.json["version"] == 1
    assert (
        (answer.reasons["push"]) == "setting model_name vehicle-insurance -> cars; registry .vehins/registry -> other"
    )
