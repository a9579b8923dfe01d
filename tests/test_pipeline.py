"""The chain: what it reuses and why, what it makes again and why, and that it makes the same every time."""

from __future__ import annotations

import os
import shutil
import subprocess
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
    child_environment,
    contents,
    customers,
    folders,
    manifest,
    tree,
)

from vehins.artifacts import fingerprint
from vehins.data import checks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vehins_runner import Answer, Vehins

LENIENT = ("--set", "gate.mode=not-worse", "--set", "gate.margin=0.4")
SAME = "nothing it depends on has changed"


def first_to_run(answer: Answer) -> str | None:
    """The first stage that did not find its artifact there; all before it did."""
    ran = [stage for stage, status in answer.statuses.items() if status != "reused"]
    return ran[0] if ran else None


# --- Reuse --------------------------------------------------------------------------------------------------------


def test_the_first_run_runs_everything(vehins: Vehins) -> None:
    answer = vehins.run()
    assert all_are("ran", answer)
    assert answer.reasons == dict.fromkeys(STAGES, "first run")


def test_the_second_run_reuses_everything_and_writes_only_its_record(finished: Vehins) -> None:
    before, runs = tree(WORKSPACE), len(list((WORKSPACE / "runs").iterdir()))
    answer = finished.run()
    assert all_are("reused", answer)
    assert answer.reasons == dict.fromkeys(STAGES, SAME)
    changed = {name for name, mark in tree(WORKSPACE).items() if before.get(name) != mark}
    assert {name.partition("/")[0] for name in changed} <= {"runs", "lock"}
    assert len(list((WORKSPACE / "runs").iterdir())) == runs + 1


@pytest.mark.parametrize(
    ("setting", "stage", "reason"),
    [
        ("split.salt=other", "ingest", "setting split.salt vehins -> other"),
        ("ingest.part_rows=1000", "ingest", "setting ingest.part_rows 500000 -> 1000"),
        ("validate.max_bad_values=0.5", "validate", "setting validate.max_bad_values 0.001 -> 0.5"),
        ("train.learning_rate=0.1", "train", "setting train.learning_rate 0.05 -> 0.1"),
        ("business.sale_value=9", "train", "setting business.sale_value 5.0 -> 9.0"),
        ("evaluate.confidence=0.9", "evaluate", "setting evaluate.confidence 0.95 -> 0.9"),
        ("gate.min_auc=0.55", "evaluate", "setting gate.min_auc 0.6 -> 0.55"),
        ("alias=staging", "push", "setting alias production -> staging"),
    ],
)
def test_a_changed_setting_is_the_reason_to_run(setting: str, stage: str, reason: str, finished: Vehins) -> None:
    finished.run(*LENIENT)
    answer = finished.run("--set", setting, *LENIENT)
    assert first_to_run(answer) == stage
    assert answer.reasons[stage] == reason


def test_a_changed_number_of_threads_is_no_reason(finished: Vehins) -> None:
    assert all_are("reused", finished.run("--set", "threads=1", "--set", "lock_timeout=5"))


def test_a_changed_source_is_the_reason_to_run(finished: Vehins) -> None:
    answer = finished.run("--source", "demo://?rows=3500", *LENIENT)
    assert all_are("ran", answer)
    assert "source demo://?rows=3000&seed=1 -> demo://?rows=3500&seed=1" in answer.reasons["ingest"]
    # The model in production was trained on other rows, so it is what these are compared with.
    assert answer.reasons["validate"].startswith("input Dataset changed; champion.version none -> 1; champion.bundle ")
    assert answer.reasons["transform"] == "input Validation changed; input Dataset changed"


def test_a_changed_file_is_the_reason_to_run(vehins: Vehins) -> None:
    customers().write_csv("customers.csv")
    vehins.run("--source", "customers.csv")
    customers(3001).write_csv("customers.csv")
    answer = vehins.run("--source", "customers.csv", *LENIENT)
    assert answer.statuses["ingest"] == "ran"
    assert answer.reasons["ingest"].startswith("content ")
    # The same bytes at another time are the same source.
    Path("customers.csv").touch()
    assert all_are("reused", vehins.run("--source", "customers.csv", *LENIENT))


def test_a_changed_schema_is_the_reason_to_run(finished: Vehins) -> None:
    packaged = Path(fingerprint.__file__).parents[1] / "data" / "schemas" / "vehicle-insurance.toml"
    Path("own.toml").write_text(packaged.read_text().replace("maximum = 120", "maximum = 99"))
    answer = finished.run("--schema", "own.toml", *LENIENT)
    assert answer.statuses["ingest"] == "ran"
    assert answer.reasons["ingest"].startswith("schema ")


@pytest.fixture
def other_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fingerprint, "source_digest", lambda: "0" * 64)
    fingerprint.code_record.cache_clear()
    yield
    fingerprint.code_record.cache_clear()


def test_changed_code_is_the_reason_to_run(finished: Vehins, other_code: None) -> None:
    answer = finished.run()
    # The code may do another thing now; it did not, so push finds what it needs, but has to look for itself.
    assert all_are("ran", answer)
    assert set(answer.reasons.values()) == {"the code of vehins changed"}
    assert manifest("TrainedModel")["code"]["source"] == "0" * 64
    assert all_are("reused", finished.run())


def test_another_version_of_a_library_is_the_reason_to_run(finished: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = fingerprint.library_versions(("lightgbm",))["lightgbm"]
    real = fingerprint.library_versions
    monkeypatch.setattr(
        fingerprint,
        "library_versions",
        lambda names: real(names) | ({"lightgbm": "9.9"} if "lightgbm" in names else {}),
    )
    answer = finished.run()
    assert first_to_run(answer) == "train"
    assert answer.reasons["train"] == f"library lightgbm {installed} -> 9.9"
    assert answer.statuses["push"] == "reused"
    assert manifest("TrainedModel")["libraries"]["lightgbm"] == "9.9"


# --- Early cut-off ------------------------------------------------------------------------------------------------

AFTER_INGEST = {"ingest": "ran", **dict.fromkeys(STAGES[1:], "reused")}


def test_the_same_rows_from_another_kind_of_file_stop_the_change_at_ingest(finished: Vehins) -> None:
    customers().write_csv("customers.csv")
    customers().write_parquet("customers.parquet")
    assert finished.run("--source", "customers.csv").statuses == AFTER_INGEST
    assert finished.run("--source", "customers.parquet").statuses == AFTER_INGEST


def test_rows_in_another_order_stop_the_change_at_ingest(finished: Vehins) -> None:
    customers().reverse().write_parquet("customers.parquet")
    assert finished.run("--source", "customers.parquet").statuses == AFTER_INGEST


def test_one_other_value_goes_as_far_as_the_model(finished: Vehins) -> None:
    age = pl.when(pl.col("id") == 7).then(pl.col("Age") + 1).otherwise("Age").alias("Age")
    customers().with_columns(age).write_parquet("customers.parquet")
    answer = finished.run("--source", "customers.parquet", *LENIENT)
    assert [answer.statuses[stage] for stage in STAGES[:4]] == ["ran"] * 4


def customers_of_whom_some_are_bad() -> pl.DataFrame:
    """Customers of whom the first hundred are too young."""
    age = pl.when(pl.col("id") <= 100).then(5).otherwise("Age").alias("Age")
    return customers().with_columns(age)


TOLERANT = ("--source", "customers.parquet", "--set", "validate.max_bad_values=0.1")


def test_bad_rows_are_the_same_customers_in_whatever_order_they_come(vehins: Vehins) -> None:
    """The quarantine names rows by their place: it must not be taken along to another order of the rows."""
    bad = customers_of_whom_some_are_bad()
    bad.write_parquet("customers.parquet")
    first = vehins.run(*TOLERANT)
    assert first.json["evaluation"]["rows"] < 600
    bad.reverse().write_parquet("customers.parquet")
    second = vehins.run(*TOLERANT)
    assert second.statuses == {**AFTER_INGEST, "validate": "ran"}
    assert second.reasons["validate"] == "the rows may stand in another order"
    quarantine = pl.read_parquet(folders("Validation")[-1] / "quarantine.parquet")
    assert sorted(quarantine["id"]) == list(range(1, 101))
    # What runs from here on sees the right customers.
    third = vehins.run(*TOLERANT, "--force", "evaluate")
    assert third.json["evaluation"] == pytest.approx(first.json["evaluation"])


def test_alone_a_stage_takes_the_rows_that_its_validation_has_checked(vehins: Vehins) -> None:
    bad = customers_of_whom_some_are_bad()
    bad.write_parquet("customers.parquet")
    first = vehins.run(*TOLERANT).json["evaluation"]
    bad.reverse().write_parquet("customers.parquet")
    vehins("ingest", *TOLERANT)
    assert vehins("evaluate", "--force", "--json").json["evaluation"] == first
    assert manifest("Evaluation")["inputs"][2]["id"] == folders("Dataset")[0].name
    # With another order of the same rows in their place, it does not guess.
    shutil.rmtree(folders("Dataset")[0])
    answer = vehins("evaluate", "--force", code=6)
    assert "is no longer in the workspace" in answer.err
    assert "Try: Check the rows again: `vehins validate`." in answer.err


def test_alone_a_stage_takes_the_validation_and_the_rows_that_go_together(vehins: Vehins) -> None:
    """Of two checks of the same customers in two orders, one is gone; the other comes with its own rows."""
    bad = customers_of_whom_some_are_bad()
    bad.write_parquet("customers.parquet")
    vehins.run(*TOLERANT)
    bad.reverse().write_parquet("customers.parquet")
    vehins.run(*TOLERANT)
    shutil.rmtree(folders("Validation")[0])
    vehins("train", "--force")
    found = {record["kind"]: record["id"] for record in manifest("TrainedModel")["inputs"]}
    assert found["Validation"] == folders("Validation")[0].name
    assert found["Dataset"] == folders("Dataset")[1].name


def test_other_bad_rows_of_the_same_data_set_are_a_change(vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the code of a check is mended: the data set is the same, the rows that are left are not."""
    customers_of_whom_some_are_bad().write_parquet("customers.parquet")
    vehins.run(*TOLERANT)
    real = checks.checks
    # Another rule sets as many rows aside, and they are not the same ones.
    older = checks.Check("Age", "odd", "nothing", (pl.col("id") > 2900) & ~pl.col(checks.UNPARSED))
    monkeypatch.setattr(checks, "checks", lambda *given: [*(c for c in real(*given) if c.rule != "too small"), older])
    answer = vehins.run(*TOLERANT, "--force", "validate", *LENIENT)
    assert manifest("Validation")["result"]["quarantined_rows"] == 100
    assert answer.statuses["transform"] == "ran"
    assert answer.reasons["transform"] == "input Validation changed"


# --- Force and plan -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("--force",), ("--force", "--quiet"), ("--force", "all")])
def test_force_alone_runs_every_stage(words: tuple[str, ...], finished: Vehins) -> None:
    before = contents()
    answer = finished.run(*words)
    assert all_are("ran", answer)
    assert answer.reasons == dict.fromkeys(STAGES, "forced")
    assert answer.json["version"] == 1
    assert {kind: digest for kind, digest in contents().items() if kind != "PushedModel"} == {
        kind: digest for kind, digest in before.items() if kind != "PushedModel"
    }


@pytest.mark.parametrize("words", [("--force", "train"), ("--force=train",)])
def test_force_with_a_stage_runs_that_one(words: tuple[str, ...], finished: Vehins) -> None:
    answer = finished.run(*words)
    assert answer.statuses == {**dict.fromkeys(STAGES, "reused"), "train": "ran"}
    assert answer.reasons["train"] == "forced"


def test_force_with_two_stages(finished: Vehins) -> None:
    answer = finished.run("--force", "train", "--force", "validate")
    assert answer.statuses == {**dict.fromkeys(STAGES, "reused"), "train": "ran", "validate": "ran"}


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_force_with_nonsense(verb: str, vehins: Vehins) -> None:
    answer = vehins("pipeline", verb, "--force", "nonsense", code=2)
    assert answer.err == (
        "Error: There is no stage nonsense\n  Try: Name one of ingest, validate, transform, train, evaluate, push, "
        "or write `--force` alone for all.\n"
    )
    assert not WORKSPACE.exists()


def plan(vehins: Vehins, *words: str) -> dict[str, tuple[str, str]]:
    """What `pipeline plan` says of each stage, after a look that it has touched nothing."""
    before = tree(Path())
    answer = vehins("pipeline", "plan", "--json", *words)
    assert tree(Path()) == before
    return {stage["stage"]: (stage["action"], stage["reason"]) for stage in answer.json["stages"]}


ACTIONS = {"run": "ran", "reuse": "reused", "refuse": "refused", "skip": "skipped"}


def check_plan(vehins: Vehins, *words: str, code: int = 0) -> dict[str, str]:
    """Compare the plan with what the run then does; return the actions."""
    planned = plan(vehins, *words)
    done = vehins.run(*words, code=code)
    for stage, (action, reason) in planned.items():
        if action != "unknown":
            assert done.statuses[stage] == ACTIONS[action]
            assert reason in done.reasons[stage]
    return {stage: action for stage, (action, _) in planned.items()}


def test_plan_before_anything_is_there(vehins: Vehins) -> None:
    assert check_plan(vehins) == {"ingest": "run", **dict.fromkeys(STAGES[1:], "unknown")}


def test_plan_when_all_is_there(finished: Vehins) -> None:
    assert check_plan(finished) == dict.fromkeys(STAGES, "reuse")


def test_plan_after_a_change(finished: Vehins) -> None:
    found = check_plan(finished, "--set", "train.learning_rate=0.1", *LENIENT)
    assert list(found.values()) == ["reuse", "reuse", "reuse", "run", "unknown", "unknown"]


def test_plan_with_force(finished: Vehins) -> None:
    found = check_plan(finished, "--force", "transform")
    assert list(found.values()) == ["reuse", "reuse", "run", "unknown", "unknown", "unknown"]
    assert plan(finished, "--force") == {
        "ingest": ("run", "forced"),
        "validate": ("unknown", "depends on the Dataset that is to be made"),
        "transform": ("unknown", "depends on the Validation that is to be made"),
        "train": ("unknown", "depends on the FeatureSet that is to be made"),
        "evaluate": ("unknown", "depends on the TrainedModel that is to be made"),
        "push": ("unknown", "depends on the Evaluation that is to be made"),
    }


def test_plan_says_where_the_chain_will_stop(finished: Vehins) -> None:
    words = ("--set", "train.seed=2")
    finished.run(*words, code=5)
    assert check_plan(finished, *words, code=5) == {
        **dict.fromkeys(STAGES[:4], "reuse"),
        "evaluate": "refuse",
        "push": "skip",
    }


def test_plan_sees_damage_and_leaves_it_where_it_is(finished: Vehins) -> None:
    (folders("FeatureSet")[0] / "train.parquet").write_bytes(b"")
    (folders("Evaluation")[0] / "manifest.json").write_bytes(b"{}")
    found = check_plan(finished)
    assert found == {**dict.fromkeys(STAGES, "unknown"), "ingest": "reuse", "validate": "reuse", "transform": "run"}


def test_plan_sees_that_the_alias_has_moved(finished: Vehins) -> None:
    shutil.rmtree(WORKSPACE / "registry")
    found = plan(finished)
    assert found["push"] == ("run", "the registry has no production")


def test_the_plan_for_people_is_a_table(finished: Vehins) -> None:
    answer = finished("pipeline", "plan")
    assert answer.err == ""
    lines = answer.out.splitlines()
    assert [line.split()[0] for line in lines[3:9]] == list(STAGES)
    assert all(SAME in line for line in lines[3:9])


# --- Determinism --------------------------------------------------------------------------------------------------


def trained(workspace: Path) -> tuple[str, bytes]:
    """Digest of the newest bundle, and its model."""
    result = manifest("TrainedModel", workspace)["result"]
    return result["bundle"], (folders("TrainedModel", workspace)[-1] / "bundle" / "model.txt").read_bytes()


def test_another_process_in_another_workspace_makes_the_same_bytes(place: Path, finished_once: Path) -> None:
    """Hash seeds, the order of a set, the time, the folder: none of it may shape a model."""
    command = [sys.executable, "-m", "vehins", "pipeline", "run", "--quiet", "-w", "elsewhere"]
    subprocess.run(command, check=True, env=child_environment(PYTHONHASHSEED="7", TZ="Asia/Tokyo"), cwd=place)
    assert trained(Path("elsewhere")) == trained(finished_once)
    here, there = contents(Path("elsewhere")), contents(finished_once)
    assert {kind for kind in KINDS if here[kind] != there[kind]} == {"PushedModel"}  # it names the registry's place


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores to tell one thread from two")
def test_the_number_of_threads_makes_no_difference(vehins: Vehins) -> None:
    for threads in (1, 2):
        words = ("--source", "demo://?rows=20000", "--set", f"threads={threads}", "-w", f"with-{threads}")
        answer = vehins.run(*words)
        assert all_are("ran", answer)
    assert trained(Path("with-1")) == trained(Path("with-2"))
    assert contents(Path("with-1"))["Evaluation"] == contents(Path("with-2"))["Evaluation"]
