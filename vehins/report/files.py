"""Reports on disk: ``reports/<run>.html`` in the workspace, written once for all runs that come to the same."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import vehins
from vehins.artifacts import comparison, runs
from vehins.artifacts.files import sha256_file, write_atomically
from vehins.artifacts.manifest import digest
from vehins.artifacts.runs import RunRecord
from vehins.artifacts.workspace import REPORTS, Workspace, storage_faults
from vehins.report import page, story

_HEAD_BYTES = 600
"""The digest of what a page shows stands so near to its beginning."""


def write(workspace: Workspace, run: RunRecord) -> Path:
    """Write the report of a run, unless it is there already; return where it is.

    A run that made nothing new comes to the same as the one that made it, and shares its report.

    Raises:
        StorageError: it cannot be written.
    """
    comes_to = _digest(run)
    path = workspace.root / REPORTS / f"{run.run}.html"
    there = next((found for found in _candidates(workspace, run, path) if _shows(found, comes_to)), None)
    if there is not None:
        return there
    told = story.of_run(workspace, run)
    if told.gone and path.exists():
        return path  # what it knew then is more than what is left
    _save(workspace, path, page.render(page.of_run(told, comes_to)))
    return path


def compare(workspace: Workspace, run: RunRecord, other: RunRecord) -> Path:
    """Write the report that sets two runs side by side; return where it is.

    Raises:
        StorageError: it cannot be written.
    """
    one, two = story.of_run(workspace, run), story.of_run(workspace, other)
    difference = comparison.compare(workspace, other, run)
    path = workspace.root / REPORTS / f"{run.run}{runs.VERSUS}{other.run}.html"
    _save(workspace, path, page.render(page.of_two(one, two, difference, digest([_digest(run), _digest(other)]))))
    return path


def _save(workspace: Workspace, path: Path, text: str) -> None:
    with storage_faults(workspace.root):
        write_atomically(path, text.encode("utf-8"))


def _candidates(workspace: Workspace, run: RunRecord, path: Path) -> Iterator[Path]:
    """Where the report may be: in the run's own place, or in that of an earlier one that ended with the same."""
    yield path
    if run.outcome not in {"completed", "refused"}:
        return
    for other in runs.listing(workspace):
        is_earlier = other.started_at < run.started_at
        if is_earlier and other.report is not None and _comes_to(other) == _comes_to(run):
            yield workspace.root / REPORTS / other.report


def _comes_to(run: RunRecord) -> list[object]:
    return [run.outcome, [(stage.stage, stage.artifact) for stage in run.stages]]


def _digest(run: RunRecord) -> str:
    """What decides what a report says, the code that writes it included."""
    reasons = [stage.reason for stage in run.stages if stage.status == "failed"]
    return digest([vehins.__version__, _source(), _comes_to(run), reasons])


@cache
def _source() -> str:
    """Digest of everything in this package."""
    package = Path(__file__).parent
    files = sorted(path for path in package.rglob("*") if path.suffix in {".py", ".html", ".css"})
    return digest({path.relative_to(package).as_posix(): sha256_file(path) for path in files})


def _shows(path: Path, comes_to: str) -> bool:
    """Whether a report on disk was written from just that."""
    try:
        with path.open("rb") as file:
            return f'content="{comes_to}"'.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False
