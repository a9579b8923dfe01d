"""The chain of stages: plan what would run or be reused, and why; then do it, one artifact after the other.

A single stage and the whole chain go the same way: the same functions make the same artifacts.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from vehins.artifacts import fingerprint, runs
from vehins.artifacts.manifest import AnyManifest, Evaluation, PushedModel, Recipe
from vehins.artifacts.runs import RunRecord, StageRecord, Status
from vehins.artifacts.workspace import Artifact, Workspace, new_id, record_files, storage_faults
from vehins.errors import ArtifactDamagedError, InterruptedRunError, NotFoundError, UsageError, VehinsError
from vehins.settings import Settings
from vehins.stages import evaluate, ingest, push, train, transform, validate
from vehins.stages.stage import Context, Stage

STAGES = (ingest.STAGE, validate.STAGE, transform.STAGE, train.STAGE, evaluate.STAGE, push.STAGE)
Artifacts = dict[str, Artifact[AnyManifest]]


class Observer(Protocol):
    """Who wants to know how a run is going."""

    def waiting(self, holder: str) -> None:
        """Another process holds the workspace."""

    def started(self, stage: str) -> None:
        """A stage begins."""

    def progress(self, text: str, done: float = 0, total: float | None = None) -> None:
        """A stage is so far."""

    def ended(self, record: StageRecord) -> None:
        """A stage has ended, in whatever way."""

    def note(self, text: str) -> None:
        """Something worth a line happened."""


@dataclass
class Report:
    """What a run did: the one object that ``--json`` prints."""

    run: str
    stages: list[StageRecord] = field(default_factory=list)
    artifacts: Artifacts = field(default_factory=dict)
    error: VehinsError | None = None

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        found: dict[str, Any] = {
            "run": self.run,
            "stages": [record.model_dump(mode="json") for record in self.stages],
            "evaluation": self._evaluation(),
            "gate": self._gate(),
            "version": self._version(),
        }
        return found if self.error is None else {**found, "error": self.error.as_dict()}

    def _manifest(self, kind: type[AnyManifest]) -> AnyManifest | None:
        artifact = self.artifacts.get(kind.__name__)
        return (
            artifact.manifest
            if artifact and any(r.manifest == str(artifact.manifest_path) for r in self.stages)
            else None
        )

    def _evaluation(self) -> dict[str, Any] | None:
        manifest = self._manifest(Evaluation)
        return manifest.result.metrics.model_dump(mode="json") if isinstance(manifest, Evaluation) else None

    def _gate(self) -> dict[str, Any] | None:
        manifest = self._manifest(Evaluation)
        if not isinstance(manifest, Evaluation):
            return None
        return manifest.result.model_dump(mode="json", include={"verdict", "rules", "approved", "champion"})

    def _version(self) -> int | None:
        manifest = self._manifest(PushedModel)
        return manifest.result.version if isinstance(manifest, PushedModel) else None


@dataclass(frozen=True)
class Decision:
    """Whether a stage runs, and why."""

    recipe: Recipe
    reuse: Artifact[AnyManifest] | None
    reason: str


@dataclass(frozen=True)
class Planned:
    """What would happen to a stage: ``run``, ``reuse`` or, while an input is not made yet, ``unknown``."""

    stage: str
    action: str
    reason: str
    artifact: str | None = None


def execute(
    settings: Settings,
    stages: Sequence[Stage],
    observer: Observer,
    *,
    command: str,
    force: Collection[str] = (),
    input_manifest: Path | None = None,
) -> Report:
    """Run some stages in order, reusing what is there, and record the run.

    ``force`` names stages that run whatever is there. ``input_manifest`` is what the first stage consumes; without it,
    that is the newest artifact of its kind. The report has the error that ended the run, if any; a bug is raised.

    Raises:
        LockedError: another process writes to the workspace.
        StorageError, WorkspaceVersionError: the workspace cannot be used.
    """
    workspace = Workspace(settings.workspace)
    with workspace.writing(settings.lock_timeout, observer.waiting) as notes:
        for note in notes:
            observer.note(note)
        run = runs.start(command)
        runs.save(workspace, run)
        report = Report(run.run)
        chain = _Chain(settings, workspace, observer, frozenset(force), report)
        outcome: str = "failed"
        try:
            report.artifacts.update(chain.inputs(stages[0], input_manifest))
            outcome = chain.run(stages, run)
        except KeyboardInterrupt:
            outcome = "interrupted"
            hint = f"Finished stages are kept; go on with: {command}"
            report.error = InterruptedRunError("Interrupted", detail="Nothing was left half-written.", hint=hint)
        except VehinsError as error:
            report.error = error
        finally:
            _close(workspace, run, report, outcome)
    return report


def _close(workspace: Workspace, run: RunRecord, report: Report, outcome: str) -> None:
    """Record how a run ended; when not even that can be written, the error that ended it is the one to tell."""
    exit_code = 0 if outcome == "completed" else 1 if report.error is None else report.error.exit_code
    ended = {"ended_at": datetime.now(UTC), "outcome": outcome, "exit_code": exit_code, "stages": report.stages}
    with suppress(VehinsError, OSError):
        runs.save(workspace, run.model_copy(update=ended))


class _Chain:
    """The stages of one run, and what they have made so far."""

    def __init__(
        self, settings: Settings, workspace: Workspace, observer: Observer, force: frozenset[str], report: Report
    ) -> None:
        self._settings, self._workspace, self._observer = settings, workspace, observer
        self._force, self._report = force, report

    def inputs(self, stage: Stage, manifest: Path | None) -> Artifacts:
        """The inputs of a stage that starts a run, and of all later ones that are not made in it."""
        return _inputs(self._workspace, stage, manifest)

    def run(self, stages: Sequence[Stage], run: RunRecord) -> str:
        """Run the stages until one stops the chain; return how it went."""
        for number, stage in enumerate(stages):
            try:
                self._one(stage)
            except (VehinsError, KeyboardInterrupt) as error:
                self._skip(stages[number + 1 :], stage)
                refused = self._report.stages[number].status == "refused"
                if refused and isinstance(error, VehinsError):
                    self._report.error = error
                    return "refused"
                raise
            runs.save(self._workspace, run.model_copy(update={"stages": list(self._report.stages)}))
        return "completed"

    def _one(self, stage: Stage) -> None:
        """Reuse or run one stage; raise what stops the chain."""
        begin = time.perf_counter()
        self._observer.started(stage.name)
        try:
            decision = decide(self._settings, self._workspace, stage, self._report.artifacts, self._force, self._note)
            if decision.reuse is not None:
                artifact, status = decision.reuse, "reused"
            else:
                artifact, status = self._make(stage, decision, begin), "ran"
        except BaseException as error:
            text = error.headline if isinstance(error, VehinsError) else type(error).__name__
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else text
            self._record(stage, "failed", reason, None, begin)
            raise
        self._report.artifacts[artifact.manifest.kind] = artifact
        refusal = stage.refusal(artifact.manifest)
        if refusal is not None:
            again = " (as before)" if status == "reused" else ""
            self._record(stage, "refused", refusal.headline + again, artifact, begin)
            raise refusal
        self._record(stage, "reused" if status == "reused" else "ran", decision.reason, artifact, begin)

    def _make(self, stage: Stage, decision: Decision, begin: float) -> Artifact[AnyManifest]:
        """Let the stage do its work in a draft, and commit it."""
        recipe = decision.recipe
        with self._workspace.draft(stage.makes.__name__) as folder, storage_faults(self._settings.workspace):
            context = _context(self._settings, stage, self._report.artifacts, folder, self._observer)
            outcome = stage.work(context)
            self._observer.progress("hashing and writing")
            manifest = stage.makes.model_validate(
                {
                    "id": new_id(recipe.fingerprint),
                    "stage": stage.name,
                    "fingerprint": recipe.fingerprint,
                    "content": outcome.content,
                    "created_at": datetime.now(UTC),
                    "seconds": time.perf_counter() - begin,
                    "inputs": [self._report.artifacts[kind.__name__].as_input() for kind in stage.needs],
                    "settings": recipe.settings,
                    "outside": recipe.outside,
                    "code": fingerprint.code_record(),
                    "libraries": recipe.libraries,
                    "files": record_files(folder, outcome.rows),
                    "result": outcome.result,
                }
            )
            return self._workspace.commit(folder, manifest)

    def _record(
        self, stage: Stage, status: Status, reason: str, artifact: Artifact[AnyManifest] | None, begin: float
    ) -> None:
        record = StageRecord(
            stage=stage.name,
            status=status,
            reason=reason,
            artifact=f"{artifact.manifest.kind}/{artifact.manifest.id}" if artifact else None,
            manifest=str(artifact.manifest_path) if artifact else None,
            seconds=round(time.perf_counter() - begin, 3),
        )
        self._report.stages.append(record)
        self._observer.ended(record)

    def _skip(self, stages: Sequence[Stage], after: Stage) -> None:
        for stage in stages:
            self._record(stage, "skipped", f"{after.name} stopped the chain", None, time.perf_counter())

    def _note(self, text: str) -> None:
        self._observer.note(text)


def decide(
    settings: Settings,
    workspace: Workspace,
    stage: Stage,
    artifacts: Artifacts,
    force: Collection[str],
    on_damage: Any = None,
) -> Decision:
    """Decide whether a stage runs or an artifact is reused, and say why.

    A damaged artifact is never reused; with ``on_damage`` (which is told in a sentence) it is set aside.
    """
    context = _context(settings, stage, artifacts, Path(), None)
    recipe = Recipe(
        stage=stage.name,
        settings=stage.read_settings(settings),
        inputs={kind.__name__: artifacts[kind.__name__].manifest.content for kind in stage.needs},
        outside=stage.outside(context),
        source=fingerprint.source_digest(),
        libraries=fingerprint.library_versions(stage.libraries),
    )
    if stage.name in force:
        return Decision(recipe, None, "forced")
    found = workspace.with_fingerprint(stage.makes, recipe.fingerprint)
    if found is None:
        return Decision(recipe, None, _why(workspace.newest(stage.makes), recipe))
    damaged = found.damage()
    if damaged:
        if on_damage is not None:
            on_damage(workspace.set_aside(found.folder, damaged))
        return Decision(recipe, None, f"the artifact there was damaged: {damaged}")
    stale = stage.stale(context, found.manifest)
    return Decision(recipe, None, stale) if stale else Decision(recipe, found, "nothing it depends on has changed")


def _why(last: Artifact[AnyManifest] | None, recipe: Recipe) -> str:
    if last is None:
        return "first run"
    changes = recipe.changes_since(last.manifest.recipe)
    return "; ".join(changes) if changes else "its artifact is gone"


def _context(
    settings: Settings, stage: Stage, artifacts: Artifacts, folder: Path, observer: Observer | None
) -> Context:
    inputs = {kind.__name__: artifacts[kind.__name__] for kind in stage.needs}
    progress = observer.progress if observer is not None else _silent
    return Context(stage.settings_of(settings), inputs, folder, progress)


def _silent(text: str, done: float = 0, total: float | None = None) -> None:
    """Tell nobody."""


def _inputs(workspace: Workspace, stage: Stage, manifest: Path | None) -> Artifacts:
    """The artifacts that a stage consumes when it starts a run: one is named or the newest, the others made it."""
    if not stage.needs:
        if manifest is not None:
            raise UsageError(f"`vehins {stage.name}` consumes no artifact", hint="Leave out `--input`.")
        return {}
    primary = stage.needs[0]
    first = workspace.read(manifest) if manifest else workspace.newest(primary)
    if first is None or first.manifest.kind != primary.__name__:
        raise _no_input(workspace, stage, first)
    found: Artifacts = {first.manifest.kind: first}
    wanted = [kind.__name__ for kind in stage.needs[1:]]
    open_inputs = list(first.manifest.inputs)
    while open_inputs:
        record = open_inputs.pop(0)
        if record.kind not in found:
            found[record.kind] = workspace.lookup(record)
            open_inputs += found[record.kind].manifest.inputs
    inputs = {kind: found[kind] for kind in [primary.__name__, *wanted]}
    for artifact in inputs.values():
        _check_whole(artifact)
    return inputs


def _no_input(workspace: Workspace, stage: Stage, other: Artifact[AnyManifest] | None) -> VehinsError:
    kind = stage.needs[0].__name__
    maker = next(candidate.name for candidate in STAGES if candidate.makes.__name__ == kind)
    if other is not None:
        detail = f"{other.manifest_path} is a {other.manifest.kind}."
        return UsageError(f"`vehins {stage.name}` consumes a {kind}", detail=detail, hint=f"Name a {kind} manifest.")
    detail = f"`vehins {stage.name}` consumes one."
    return NotFoundError(f"There is no {kind} in {workspace.root}", detail=detail, hint=f"Make one: `vehins {maker}`.")


def _check_whole(artifact: Artifact[AnyManifest]) -> None:
    damaged = artifact.damage()
    if damaged:
        maker = artifact.manifest.stage
        raise ArtifactDamagedError(
            f"{artifact.manifest.kind} {artifact.manifest.id} is damaged",
            detail=f"{damaged}, in {artifact.folder}.",
            hint=f"`vehins {maker}` sets it aside and makes it anew.",
        )


def plan(settings: Settings, force: Collection[str] = ()) -> list[Planned]:
    """Tell for every stage what `execute` would do, without doing it."""
    workspace = Workspace(settings.workspace)
    artifacts: Artifacts = {}
    planned: list[Planned] = []
    for stage in STAGES:
        unmade = [kind.__name__ for kind in stage.needs if kind.__name__ not in artifacts]
        if unmade:
            planned.append(Planned(stage.name, "unknown", f"depends on the {unmade[0]} that is to be made"))
            continue
        decision = decide(settings, workspace, stage, artifacts, force)
        if decision.reuse is None:
            planned.append(Planned(stage.name, "run", decision.reason))
            continue
        artifacts[stage.makes.__name__] = decision.reuse
        name = f"{decision.reuse.manifest.kind}/{decision.reuse.manifest.id}"
        planned.append(Planned(stage.name, "reuse", decision.reason, name))
    return planned
