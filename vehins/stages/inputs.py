"""The artifacts that a stage consumes when it starts a run: one is named or the newest, the others led to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from vehins.artifacts.manifest import KINDS, MANIFEST_FILE, AnyManifest, Dataset, InputRecord, Validation
from vehins.artifacts.workspace import ARTIFACTS, DAMAGED, Artifact, Workspace
from vehins.errors import ArtifactDamagedError, NotFoundError, UsageError, VehinsError
from vehins.stages.stage import Stage


def find(
    workspace: Workspace, stage: Stage, makers: Mapping[str, str], manifest: Path | None
) -> dict[str, Artifact[AnyManifest]]:
    """Find what a stage consumes, by kind.

    ``makers`` has the name of the stage that makes each kind. ``manifest`` names the artifact to consume; without it,
    that is the newest of its kind, but never an older one because the newest was found damaged.

    Raises:
        UsageError: the manifest is of another kind, or the stage consumes nothing.
        NotFoundError: there is none.
        ArtifactDamagedError: what there is, or what it was made from, is damaged.
    """
    if not stage.needs:
        if manifest is not None:
            raise UsageError(f"`vehins {stage.name}` consumes no artifact", hint="Leave out `--input`.")
        return {}
    kinds = [kind.__name__ for kind in stage.needs]
    first = _named(workspace, manifest, makers) if manifest else _newest(workspace, stage, makers)
    if first.manifest.kind != kinds[0]:
        detail = f"{first.manifest_path} is a {first.manifest.kind}."
        hint = f"Name a {kinds[0]} manifest."
        raise UsageError(f"`vehins {stage.name}` consumes a {kinds[0]}", detail=detail, hint=hint)
    found = _with_ancestors(workspace, first, kinds, makers)
    for kind, artifact in found.items():
        damaged = artifact.damage()
        if damaged:
            raise _damaged(kind, artifact.manifest.id, f"{damaged}, in {artifact.folder}.", makers)
    return found


def _with_ancestors(
    workspace: Workspace, first: Artifact[AnyManifest], kinds: Collection[str], makers: Mapping[str, str]
) -> dict[str, Artifact[AnyManifest]]:
    """An artifact and what led to it, by kind; a Validation comes with the very Dataset that it was made from."""
    found: dict[str, Artifact[AnyManifest]] = {first.manifest.kind: first}
    waiting = list(first.manifest.inputs)
    while waiting:
        record = waiting.pop(0)
        if record.kind in kinds and record.kind not in found:
            found[record.kind] = _looked_up(workspace, record, makers)
            waiting = [*found[record.kind].manifest.inputs, *waiting]
    validation, dataset = (found.get(kind.__name__) for kind in (Validation, Dataset))
    if validation is not None and dataset is not None:
        _check_pair(validation.manifest, dataset.manifest)
    return found


def _check_pair(validation: AnyManifest, dataset: AnyManifest) -> None:
    """The quarantine names rows by their place in one data set; another of equal rows will not do."""
    assert isinstance(validation, Validation)  # noqa: S101 - narrows the type
    origin = validation.inputs[0].id
    if validation.result.quarantined_rows and dataset.id != origin:
        raise NotFoundError(
            f"Dataset {origin} is no longer in the workspace",
            detail=f"Validation {validation.id} names bad rows by their place in it.",
            hint="Check the rows again: `vehins validate`.",
        )


def _newest(workspace: Workspace, stage: Stage, makers: Mapping[str, str]) -> Artifact[AnyManifest]:
    kind = stage.needs[0]
    found = workspace.newest(kind)
    aside = _set_aside(workspace, kind.__name__)
    if aside and (found is None or (aside[-1] > found.manifest.id and not _same_recipe(aside[-1], found))):
        raise _damaged(kind.__name__, aside[-1], f"It was set aside in {workspace.root / DAMAGED}.", makers)
    if found is None:
        detail = f"`vehins {stage.name}` consumes one."
        hint = f"Make one: `vehins {makers[kind.__name__]}`."
        raise NotFoundError(f"There is no {kind.__name__} in {workspace.root}", detail=detail, hint=hint)
    return found


def _named(workspace: Workspace, manifest: Path, makers: Mapping[str, str]) -> Artifact[AnyManifest]:
    try:
        return workspace.read(manifest)
    except NotFoundError:
        name = (manifest.parent if manifest.name == MANIFEST_FILE else manifest).name
        for kind in KINDS:
            if name in _set_aside(workspace, kind):
                raise _damaged(kind, name, f"It was set aside in {workspace.root / DAMAGED}.", makers) from None
        raise


def _looked_up(workspace: Workspace, record: InputRecord, makers: Mapping[str, str]) -> Artifact[AnyManifest]:
    """The very artifact that a manifest names as its input or, when that is gone, one of equal content."""
    try:
        return workspace.read(workspace.root / ARTIFACTS / record.kind / record.id)
    except NotFoundError:
        pass
    try:
        return workspace.lookup(record)
    except NotFoundError:
        if record.id not in _set_aside(workspace, record.kind):
            raise
        detail = f"It was set aside in {workspace.root / DAMAGED}."
        raise _damaged(record.kind, record.id, detail, makers) from None


def _same_recipe(name: str, artifact: Artifact[AnyManifest]) -> bool:
    """Whether an artifact is as good as the one of this id: ids end in the beginning of the fingerprint."""
    return name.rpartition("-")[2] == artifact.manifest.id.rpartition("-")[2]


def _set_aside(workspace: Workspace, kind: str) -> list[str]:
    """Ids of the artifacts of a kind that were found damaged and set aside, the newest last."""
    folders = (workspace.root / DAMAGED).glob(f"{kind}-*")
    return sorted(folder.name.removeprefix(f"{kind}-").rpartition("-")[0] for folder in folders)


def _damaged(kind: str, name: str, detail: str, makers: Mapping[str, str]) -> VehinsError:
    hint = f"Make it anew: `vehins {makers[kind]}`; or name another one: `--input MANIFEST`."
    return ArtifactDamagedError(f"{kind} {name} is damaged", detail=detail, hint=hint)
