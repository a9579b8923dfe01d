"""All that is known of a run: its record, and the artifacts that it made, reused or built on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar, cast

from pydantic import ValidationError

from vehins.artifacts.evaluation import CURVES_FILE, Curves
from vehins.artifacts.files import damage
from vehins.artifacts.manifest import AnyManifest, Evaluation
from vehins.artifacts.record import Record
from vehins.artifacts.runs import RunRecord, StageRecord
from vehins.artifacts.workspace import ARTIFACTS, Artifact, Workspace
from vehins.errors import VehinsError
from vehins.model.drivers import DRIVERS_FILE, Drivers

M = TypeVar("M", bound=AnyManifest)
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Story:
    """A run, and what there is to tell of it. What it never made, or what is gone, is None."""

    run: RunRecord
    manifests: Mapping[str, AnyManifest] = field(default_factory=dict)
    curves: Curves | None = None
    drivers: Drivers | None = None
    gone: tuple[str, ...] = ()
    """What the run made and the workspace no longer has whole: artifacts, or files of them."""

    def manifest(self, kind: type[M]) -> M | None:
        """The manifest of a kind."""
        return cast("M | None", self.manifests.get(kind.__name__))

    @property
    def stopped(self) -> StageRecord | None:
        """The stage that stopped the run."""
        return next((stage for stage in self.run.stages if stage.status in {"failed", "refused"}), None)


def of_run(workspace: Workspace, run: RunRecord) -> Story:
    """Gather what a run's record names and what that was made from; what cannot be read is left out."""
    found: dict[str, Artifact[AnyManifest]] = {}
    gone: list[str] = []
    for stage in run.stages:
        if stage.artifact is None:
            continue
        artifact = _artifact(workspace, stage.artifact)
        if artifact is None:
            gone.append(stage.artifact)
        else:
            found[artifact.manifest.kind] = artifact
    _add_ancestors(workspace, found)
    evaluation = found.get(Evaluation.__name__)
    return Story(
        run=run,
        manifests={kind: artifact.manifest for kind, artifact in found.items()},
        curves=_file(evaluation, CURVES_FILE, Curves, gone),
        drivers=_file(evaluation, DRIVERS_FILE, Drivers, gone),
        gone=tuple(gone),
    )


def _artifact(workspace: Workspace, name: str) -> Artifact[AnyManifest] | None:
    """An artifact by its `Kind/id`."""
    with suppress(VehinsError):
        return workspace.read(workspace.root / ARTIFACTS / name)
    return None


def _add_ancestors(workspace: Workspace, found: dict[str, Artifact[AnyManifest]]) -> None:
    """Add what the artifacts of a single stage's run were made from."""
    waiting = [record for artifact in found.values() for record in artifact.manifest.inputs]
    while waiting:
        record = waiting.pop(0)
        if record.kind in found:
            continue
        with suppress(VehinsError):
            found[record.kind] = workspace.lookup(record)
            waiting += found[record.kind].manifest.inputs


def _file(artifact: Artifact[AnyManifest] | None, name: str, kind: type[R], gone: list[str]) -> R | None:
    """A file of an artifact, if it is from a time when there was one; a damaged one is as good as gone."""
    record = next((file for file in artifact.manifest.files if file.path == name), None) if artifact else None
    if artifact is None or record is None:
        return None
    with suppress(OSError, ValidationError):
        if damage(artifact.folder, record) is None:
            return kind.model_validate_json(artifact.path(name).read_bytes())
    gone.append(f"{artifact.manifest.kind}/{artifact.manifest.id}/{name}")
    return None
