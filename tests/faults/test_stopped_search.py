"""A search for settings that is killed or stopped goes on with the trials it has."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fault_checks import check_whole
from server_process import wait_until
from vehins_runner import WORKSPACE, folders, manifest

if TYPE_CHECKING:
    from fault_server import Server
    from vehins_runner import Vehins

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")


def trials(path: Path) -> list[dict]:
    """The whole lines of a journal."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_search_that_ends_early(server: Server, finished: Vehins, place: Path, number: int, code: int) -> None:
    process = server.start(place, "train", "--tune", "60", "--json")
    found = wait_until(lambda: list(WORKSPACE.glob("tuning/*/trials.jsonl")), lambda: process.err)
    wait_until(lambda: len(trials(found[0])) >= 3, lambda: process.err)
    process.signal(number)
    assert process.wait() == code
    check_whole(WORKSPACE)
    assert len(folders("TrainedModel")) == 1
    kept = trials(found[0])
    # Their time counts, and is more than this budget: no more is searched.
    answer = finished("train", "--tune", "0.0001", "--json")
    assert answer.statuses == {"train": "ran"}
    result = manifest("TrainedModel")["result"]
    assert result["tuning"]["trials"] == len(kept)
    assert trials(folders("TrainedModel")[-1] / "trials.jsonl") == kept
    check_whole(WORKSPACE)
