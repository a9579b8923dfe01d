"""Runs as records: which artifact each stage made or reused, and how the run ended."""

from __future__ import annotations

import os
import re
import secrets
import socket
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, ValidationError

from vehins.artifacts import lock
from vehins.artifacts.files import write_atomically
from vehins.artifacts.manifest import Record
from vehins.artifacts.workspace import RUNS, Workspace, storage_faults
from vehins.errors import NotFoundError

VERSUS = "-vs-"
"""Between the two ids in the name of a report that compares two runs."""
_BACK = re.compile(r"last(?:-([0-9]{1,9}))?")
Status = Literal["ran", "reused", "refused", "failed", "skipped"]


class StageRecord(Record):
    """What one stage of a run did."""

    stage: str
    status: Status
    reason: str = Field(description="Why it ran, was reused, refused, failed or was skipped.")
    artifact: str | None = Field(default=None, description="Kind and id of the artifact, as `Kind/id`.")
    manifest: str | None = Field(default=None, description="Path of the artifact's manifest.")
    seconds: float = 0.0


class RunRecord(Record):
    """One run of one stage or of the chain."""

    run: str
    command: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Literal["running", "completed", "refused", "failed", "interrupted"] = "running"
    exit_code: int | None = None
    pid: int
    host: str
    stages: list[StageRecord] = Field(default_factory=list)
    report: str | None = Field(default=None, description="File below `reports` that tells what the run came to.")


def start(command: str) -> RunRecord:
    """A record of a run that begins now."""
    now = datetime.now(UTC)
    run = now.strftime("%Y%m%dT%H%M%S") + "-" + secrets.token_hex(3)
    return RunRecord(run=run, command=command, started_at=now, pid=os.getpid(), host=socket.gethostname())


def save(workspace: Workspace, record: RunRecord) -> None:
    """Write a run's record, replacing the one before."""
    with storage_faults(workspace.root):
        write_atomically(
            workspace.root / RUNS / f"{record.run}.json", record.model_dump_json(indent=2).encode() + b"\n"
        )


def listing(workspace: Workspace) -> list[RunRecord]:
    """All runs, the newest first. A run whose process died without a word counts as interrupted."""
    place = workspace.root / RUNS
    records = []
    for path in place.glob("*.json") if place.is_dir() else []:
        with suppress(ValidationError, FileNotFoundError):
            records.append(RunRecord.model_validate_json(path.read_bytes()))
    records.sort(key=lambda record: record.started_at, reverse=True)  # several may begin in one second
    alive = any(record.outcome == "running" for record in records) and lock.is_locked(workspace.root)
    return [_settled(record, is_newest=i == 0, alive=alive) for i, record in enumerate(records)]


def _settled(record: RunRecord, *, is_newest: bool, alive: bool) -> RunRecord:
    # Only the holder of the lock runs, and it is the newest that says so.
    if record.outcome == "running" and not (is_newest and alive):
        return record.model_copy(update={"outcome": "interrupted"})
    return record


def find(workspace: Workspace, run: str | None) -> RunRecord:
    """The run with this id (or its beginning); ``last`` or None is the newest, ``last-1`` the one before it, ...

    Raises:
        NotFoundError: there is none, or more than one begins so.
    """
    everything = listing(workspace)
    back = _BACK.fullmatch(run or "last")
    if back is not None:
        records = everything[int(back[1] or 0) :][:1]
        run = run if everything else None
    else:
        records = [record for record in everything if record.run.startswith(run or "")]
    if not records:
        what = f"no run {run}" if run else "no run yet"
        raise NotFoundError(f"There is {what} in the workspace {workspace.root}", hint="`vehins runs list` lists them.")
    exact = [record for record in records if record.run == run]
    if len(records) > 1 and not exact:
        names = ", ".join([*(record.run for record in records[:3]), *(["..."] if len(records) > 3 else [])])
        raise NotFoundError(f"{len(records)} runs begin with {run}", detail=f"{names}.", hint="Give more of the id.")
    return (exact or records)[0]
