"""`vehins runs diff`: which stage made something else and why, and what differs in settings, data and metrics."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from vehins_runner import STAGES, WORKSPACE, customers, folders

if TYPE_CHECKING:
    from vehins_runner import Vehins

APPROVED = ("--approve", "for the test")


def changes(found: dict[str, Any]) -> dict[str, str]:
    return {stage["stage"]: stage["change"] for stage in found["stages"]}


def reasons(found: dict[str, Any]) -> dict[str, list[str]]:
    return {stage["stage"]: stage["reasons"] for stage in found["stages"]}


def values(found: dict[str, Any], part: str) -> dict[str, tuple[Any, Any]]:
    return {item["name"]: (item["a"], item["b"]) for item in found[part]}


def test_a_run_that_reuses_everything_differs_in_nothing(finished: Vehins) -> None:
    finished("pipeline", "run", "--quiet")
    found = finished("runs", "diff", "--json").json
    assert changes(found) == dict.fromkeys(STAGES, "same")
    assert (found["settings"], found["data"]) == ([], [])
    assert {item["difference"] for item in found["metrics"]} == {0, None}
    assert values(found, "metrics")["gate.verdict"] == ("accept", "accept")


def test_another_setting(finished: Vehins) -> None:
    finished("pipeline", "run", "--quiet", "--set", "train.seed=2", *APPROVED)
    found = finished("runs", "diff", "--json").json
    same = dict.fromkeys(("ingest", "validate", "transform"), "same")
    assert changes(found) == {**same, **dict.fromkeys(("train", "evaluate", "push"), "changed")}
    assert reasons(found)["train"] == ["setting train.seed 1 -> 2"]
    assert "input TrainedModel changed" in reasons(found)["evaluate"]
    assert values(found, "settings") == {"train.seed": (1, 2), "gate.approve": (None, "for the test")}
    assert found["data"] == []
    metrics = {item["name"]: item for item in found["metrics"]}
    assert metrics["evaluate.rows"]["difference"] == 0
    auc = metrics["evaluate.auc"]
    assert auc["difference"] == auc["b"] - auc["a"] != 0
    assert (metrics["push.version"]["a"], metrics["push.version"]["b"]) == (1, 2)
    assert values(found, "metrics")["champion.version"] == (None, 1)


def test_other_data_and_a_run_that_was_refused(finished: Vehins) -> None:
    rows = customers(3600).with_columns(Age=pl.when(pl.col("id") < 3).then(5).otherwise("Age"))
    rows.write_csv("customers.csv")
    finished("pipeline", "run", "--quiet", "--source", "customers.csv", "--set", "gate.min_auc=0.99", code=5)
    found = finished("runs", "diff", "last-1", "last", "--json").json
    assert changes(found) == {**dict.fromkeys(STAGES[:-1], "changed"), "push": "only in a"}
    assert reasons(found)["push"] == ["skipped in the second run: evaluate stopped the chain"]
    assert any("source demo://?rows=3000" in reason for reason in reasons(found)["ingest"])
    data = values(found, "data")
    assert data["ingest.rows"] == (3000, 3600)
    assert data["validate.quarantined_rows"] == (0, 2)
    assert data["validate.anomalies.Age too small.rows"] == (None, 2)
    assert "validate.statistics.Age.mean" in data
    assert values(found, "settings") == {"gate.min_auc": (0.6, 0.99)}  # those of push are in one run alone
    assert values(found, "metrics")["gate.verdict"] == ("accept", "refuse")


def test_the_same_rows_from_elsewhere_stop_the_change(finished: Vehins) -> None:
    customers().write_parquet("customers.parquet")
    finished("pipeline", "run", "--quiet", "--source", "customers.parquet")
    found = finished("runs", "diff", "--json").json
    assert changes(found) == {**dict.fromkeys(STAGES, "same"), "ingest": "same content"}
    assert values(found, "data")["ingest.source"] == ("demo://?rows=3000&seed=1", "customers.parquet")
    assert "ingest.rows" not in values(found, "data")


def test_a_stage_that_was_forced(finished: Vehins) -> None:
    finished("pipeline", "run", "--quiet", "--force", "validate")
    found = finished("runs", "diff", "--json").json
    assert changes(found)["validate"] == "same content"
    assert reasons(found)["validate"] == ["made again from the same"]


def test_a_run_of_one_stage(finished: Vehins) -> None:
    finished("train", "--quiet", "--set", "train.num_leaves=7")
    found = finished("runs", "diff", "--json").json
    assert changes(found) == {**dict.fromkeys(STAGES, "only in a"), "train": "changed"}
    assert reasons(found)["push"] == ["not part of the second run"]
    assert values(found, "settings") == {"train.num_leaves": (31, 7)}
    back = finished("runs", "diff", "last", "last-1", "--json").json
    assert changes(back) == {**dict.fromkeys(STAGES, "only in b"), "train": "changed"}
    assert values(back, "settings") == {"train.num_leaves": (7, 31)}


def test_a_run_that_failed(finished: Vehins) -> None:
    finished("pipeline", "run", "--quiet", "--source", "nowhere.csv", code=6)
    found = finished("runs", "diff", "--json").json
    assert changes(found) == dict.fromkeys(STAGES, "only in a")
    assert reasons(found)["ingest"] == ["failed in the second run: There is no file nowhere.csv"]
    twice = finished("runs", "diff", "last", "last", "--json").json
    assert changes(twice) == dict.fromkeys(STAGES, "in neither")


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_an_artifact_that_is_gone(harm: str, finished: Vehins) -> None:
    finished("pipeline", "run", "--quiet", "--set", "train.seed=2", *APPROVED)
    lost = folders("TrainedModel")[0]
    shutil.rmtree(lost) if harm == "gone" else (lost / "manifest.json").write_text("{}")
    found = finished("runs", "diff", "--json").json
    assert changes(found)["train"] == "gone"
    assert reasons(found)["train"] == [f"TrainedModel/{lost.name} is no longer on disk"]
    assert changes(found)["evaluate"] == "changed"
    assert "train.seed" not in values(found, "settings")


def test_runs_by_their_names(finished: Vehins) -> None:
    finished("pipeline", "run", "--quiet")
    second, first = [run["run"] for run in finished("runs", "list", "--json").json["runs"]]
    for names in ((), ("last-1",), ("last-1", "last"), (first, second), (first[:-2], second[:-2])):
        found = finished("runs", "diff", *names, "--json").json
        assert (found["a"], found["b"]) == (first, second)
    assert finished("runs", "show", "last-1", "--json").json["run"] == first
    for name in ("last-2", "1999", "last-"):
        assert f"There is no run {name} in" in finished("runs", "diff", name, "--json", code=6).error["headline"]
    assert "no run yet" in finished("runs", "diff", "-w", "empty", "--json", code=6).error["headline"]
    assert WORKSPACE.exists()


def test_it_is_told_to_people_too(finished: Vehins) -> None:
    finished("pipeline", "run", "--quiet", "--set", "train.seed=2", *APPROVED)
    told = [" ".join(line.split()) for line in finished("runs", "diff").out.splitlines()]
    assert told[0].startswith("A: run ")
    assert told[1].startswith("B: run ")
    assert "train.seed 1 2" in told
    assert "evaluate.positives" in "\n".join(told)
    assert any(line.startswith("train TrainedModel/") for line in told)
    assert not any(line.startswith("Data ") for line in told)
