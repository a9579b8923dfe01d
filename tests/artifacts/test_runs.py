"""Runs as a list: the newest first, and none that is dead called alive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from artifact_processes import kill, run_and_hold, start

from vehins.artifacts import runs
from vehins.artifacts.runs import RunRecord, StageRecord
from vehins.artifacts.workspace import Workspace
from vehins.errors import NotFoundError

BEGIN = datetime(2026, 11, 24, 10, 11, 12, tzinfo=UTC)


@pytest.fixture
def place(tmp_path) -> Workspace:
    return Workspace(tmp_path / "work")


def add(place: Workspace, run: str, outcome: str = "completed", seconds: float = 0) -> RunRecord:
    started = BEGIN + timedelta(seconds=seconds)
    found = RunRecord(run=run, command="vehins train", started_at=started, outcome=outcome, pid=1, host="h")
    runs.save(place, found)
    return found


def test_a_run_is_read_back(place):
    stage = StageRecord(stage="train", status="ran", reason="first run", artifact="TrainedModel/x", seconds=1.5)
    begun = runs.start("vehins train")
    ended = begun.model_copy(update={"outcome": "completed", "exit_code": 0, "stages": [stage]})
    runs.save(place, begun)
    runs.save(place, ended)
    assert runs.listing(place) == [ended]
    assert runs.find(place, None) == ended
    assert begun.run.startswith(begun.started_at.strftime("%Y%m%dT%H%M%S-"))


def test_there_may_be_none(place):
    assert runs.listing(place) == []
    with pytest.raises(NotFoundError, match="There is no run yet") as caught:
        runs.find(place, None)
    assert caught.value.exit_code == 6
    assert "vehins runs list" in caught.value.hint


def test_the_newest_is_first_even_within_one_second(place):
    """Runs that reuse everything take less than a second, and the end of their ids is random."""
    for run, seconds in (("20261124T101112-aaa", 0.9), ("20261124T101112-zzz", 0.1), ("20261124T101112-mmm", 0.5)):
        add(place, run, seconds=seconds)
    add(place, "20261124T101111-old", seconds=-1)
    assert [record.run[-3:] for record in runs.listing(place)] == ["aaa", "mmm", "zzz", "old"]
    assert runs.find(place, None).run.endswith("aaa")


def test_a_run_whose_process_died_was_interrupted(place):
    process = start(run_and_hold, place.root)
    assert runs.find(place, None).outcome == "running"
    kill(process)
    assert runs.find(place, None).outcome == "interrupted"


def test_only_the_newest_run_can_be_running(place):
    add(place, "20261124T101110-dead", "running", seconds=-9)
    process = start(run_and_hold, place.root)
    assert [record.outcome for record in runs.listing(place)] == ["running", "interrupted"]
    kill(process)
    add(place, "20301124T101110-later", "completed", seconds=1e8)
    assert [record.outcome for record in runs.listing(place)] == ["completed", "interrupted", "interrupted"]


@pytest.mark.parametrize("outcome", ["completed", "refused", "failed", "interrupted"])
def test_how_a_run_ended_stays(place, outcome):
    add(place, "20261124T101112-aaa", outcome)
    assert runs.find(place, None).outcome == outcome


def test_records_that_cannot_be_read_are_left_out(place):
    whole = add(place, "20261124T101112-aaa")
    folder = place.root / "runs"
    for name, content in (("a", b""), ("b", b"{}"), ("c", b"\xff"), ("d", b'{"run": 1}')):
        (folder / f"{name}.json").write_bytes(content)
    (folder / ".tmp-x").write_text("x")
    assert runs.listing(place) == [whole]


def test_a_run_is_found_by_the_beginning_of_its_id(place):
    one = add(place, "20261124T101112-abc")
    other = add(place, "20261124T101112-abd", seconds=1)
    assert runs.find(place, "20261124T101112-abc") == one
    assert runs.find(place, "20261124T101112-abd") == other
    with pytest.raises(NotFoundError, match="2 runs begin with 20261124") as caught:
        runs.find(place, "20261124")
    assert one.run in caught.value.detail
    with pytest.raises(NotFoundError, match="no run 2025"):
        runs.find(place, "2025")


def test_a_whole_id_is_found_though_another_begins_with_it(place):
    one = add(place, "20261124T101112-abc")
    add(place, "20261124T101112-abcd", seconds=1)
    assert runs.find(place, one.run) == one
