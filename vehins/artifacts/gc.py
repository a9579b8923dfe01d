"""What no longer serves anybody: artifacts out of reach of recent runs and live aliases, and what is old."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from vehins.artifacts import runs
from vehins.artifacts.manifest import KINDS, AnyManifest, InputRecord
from vehins.artifacts.workspace import ARTIFACTS, CACHE, DAMAGED, DRAFTS, REPORTS, RUNS, TUNING, Artifact, Workspace


@dataclass(frozen=True)
class Garbage:
    """A folder, or a report, that can go."""

    folder: Path
    reason: str
    size: int
    """Bytes on disk."""


def find(workspace: Workspace, keep_runs: int, pinned: Collection[str], live_bundles: Collection[str]) -> list[Garbage]:
    """List what can go.

    Kept is what the newest ``keep_runs`` runs made or reused, what has an id in ``pinned``, the newest artifact of each
    kind, and all that any of these was made from. Copies of bundles are kept when their digest is in ``live_bundles``,
    reports when they tell of those runs, and of the searches for settings the trials of the latest.
    """
    artifacts = {a.manifest.id: a for kind in KINDS.values() for a in workspace.artifacts(kind)}
    reached = _reached(artifacts, _roots(workspace, keep_runs) | set(pinned))
    unreached = [a.folder for name, a in artifacts.items() if name not in reached]
    whole = {artifact.folder for artifact in artifacts.values()}
    folders = [folder for kind in KINDS for folder in _folders(workspace.root / ARTIFACTS / kind)]
    return [
        *(_garbage(folder, "out of reach of recent runs and aliases") for folder in unreached),
        *(_garbage(folder, "damaged: its manifest cannot be read") for folder in folders if folder not in whole),
        *(_garbage(folder, "damaged, set aside") for folder in _folders(workspace.root / DAMAGED)),
        *(
            _garbage(folder, "copy of a version that no alias names")
            for folder in _folders(workspace.root / CACHE)
            if folder.name not in live_bundles
        ),
        *(_garbage(folder, "trials of an earlier search for settings") for folder in _earlier_searches(workspace)),
        *(_garbage(path, "report of a run that is not recent") for path in _old_reports(workspace, keep_runs)),
    ]


def _earlier_searches(workspace: Workspace) -> list[Path]:
    """All searches but the latest, which may go on."""

    def last_trial(folder: Path) -> float:
        return max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)

    return sorted(_folders(workspace.root / TUNING), key=last_trial)[:-1]


def _old_reports(workspace: Workspace, keep_runs: int) -> list[Path]:
    """Reports that no recent run names, of runs (one, or two compared) that are not all recent."""
    recent = runs.listing(workspace)[:keep_runs]
    named, ids = {run.report for run in recent}, {run.run for run in recent}
    found = sorted((workspace.root / REPORTS).glob("*.html"))
    return [path for path in found if path.name not in named and not ids.issuperset(path.stem.split(runs.VERSUS))]


def _roots(workspace: Workspace, keep_runs: int) -> set[str]:
    recent = runs.listing(workspace)[:keep_runs]
    named = {record.artifact.rpartition("/")[2] for run in recent for record in run.stages if record.artifact}
    newest = (workspace.newest(kind) for kind in KINDS.values())
    return named | {artifact.manifest.id for artifact in newest if artifact}


def _reached(artifacts: dict[str, Artifact[AnyManifest]], roots: Collection[str]) -> set[str]:
    reached: set[str] = set()
    waiting = [name for name in roots if name in artifacts]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [found for record in artifacts[name].manifest.inputs for found in _matching(artifacts, record)]
    return reached


def _matching(artifacts: dict[str, Artifact[AnyManifest]], record: InputRecord) -> list[str]:
    """The input that a manifest names or, when that is gone, those that stand in for it."""
    if record.id in artifacts:
        return [record.id]
    named = ((name, artifact.manifest) for name, artifact in artifacts.items())
    return [name for name, found in named if (found.kind, found.content) == (record.kind, record.content)]


def _folders(place: Path) -> Iterator[Path]:
    return (path for path in sorted(place.iterdir()) if path.is_dir()) if place.is_dir() else iter(())


def _garbage(folder: Path, reason: str) -> Garbage:
    size = sum(path.stat().st_size for path in [folder, *folder.rglob("*")] if path.is_file())
    return Garbage(folder, reason, size)


def remove(workspace: Workspace, garbage: Collection[Garbage]) -> None:
    """Remove some of it; the workspace is held for writing. A reader sees a whole artifact or none."""
    trash = workspace.root / DRAFTS
    trash.mkdir(exist_ok=True)
    for item in garbage:
        gone = trash / f"gone-{item.folder.parent.name}-{item.folder.name}"
        item.folder.rename(gone)
        if gone.is_file():
            gone.unlink()
        else:
            shutil.rmtree(gone)
    for place in (workspace.root, workspace.root / RUNS, workspace.root / REPORTS):
        for half_written in place.glob(".tmp-*"):  # of a process that was killed; this one holds the lock
            half_written.unlink(missing_ok=True)
