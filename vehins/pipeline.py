"""The chain of stages: plan what would run or be reused, and why; then do it, one artifact after the other.

A single stage and the whole chain go the same way: the same functions make the same artifacts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from vehins.artifacts import fingerprint, runs
from vehins.artifacts.manifest import AnyManifest, Evaluation, PushedModel, Recipe
from vehins.artifacts.runs import RunRecord, StageRecord, Status
from vehins.artifacts.workspace import Artifact, Workspace, new_id, record_files, storage_faults
from vehins.errors import InterruptedRunError, VehinsError
from vehins.masking import redacted
from vehins.settings import Settings
from vehins.stages import evaluate, ingest, inputs, push, train, transform, validate
from vehins.stages.stage import Context, Stage

STAGES = (ingest.STAGE, validate.STAGE, transform.STAGE, train.STAGE, evaluate.STAGE, push.STAGE)
Artifacts = dict[str, Artifact[AnyManifest]]
M = TypeVar("M", bound=AnyManifest)


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
    page: Path | None = None
    """Where the report for people is."""

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        found: dict[str, Any] = {
            "run": self.run,
            "stages": [record.model_dump(mode="json") for record in self.stages],
            "evaluation": self._evaluation(),
            "gate": self._gate(),
            "version": self._version(),
            "report": None if self.page is None else str(self.page),
        }
        return found if self.error is None else {**found, "error": self.error.as_dict()}

    @property
    def finished(self) -> bool:
        """Whether at least one stage came to its end."""
        return any(record.status in {"ran", "reused"} for record in self.stages)

    def manifest(self, kind: type[M]) -> M | None:
        """The manifest of a kind that a stage of this run made or reused."""
        artifact = self.artifacts.get(kind.__name__)
        if artifact is None or all(record.manifest != str(artifact.manifest_path) for record in self.stages):
            return None
        return cast("M", artifact.manifest)

    def _evaluation(self) -> dict[str, Any] | None:
        found = self.manifest(Evaluation)
        return found.result.metrics.model_dump(mode="json") if found else None

    def _gate(self) -> dict[str, Any] | None:
        found = self.manifest(Evaluation)
        shown = {"verdict", "rules", "approved", "champion"}
        return found.result.model_dump(mode="json", include=shown) if found else None

    def _version(self) -> int | None:
        found = self.manifest(PushedModel)
        return found.result.version if found else None


@dataclass(frozen=True)
class Decision:
    """Whether a stage runs, and why."""

    recipe: Recipe
    reuse: Artifact[AnyManifest] | None
    reason: str


@dataclass(frozen=True)
class Planned:
    """What would happen to a stage.

    It is one of ``run``, ``reuse``, ``refuse`` (what would be reused stops the chain), ``skip`` (the chain has stopped)
    and, while an input is not made yet, ``unknown``.
    """

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
    write_page: bool = False,
) -> Report:
    """Run some stages in order, reusing what is there, and record the run.

    ``force`` names stages that run whatever is there. ``input_manifest`` is what the first stage consumes; without it,
    that is the newest artifact of its kind. ``write_page`` asks for a report for people, however the run ends. The
    report has the error that ended the run, if any; a bug is raised.

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
            ended = _close(workspace, run, report, outcome)
            if write_page:
                report.page = _write_page(workspace, ended, observer)
    return report


def _write_page(workspace: Workspace, run: RunRecord, observer: Observer) -> Path | None:
    """Write what a run came to for people; whatever goes wrong there is no reason for the run to fail."""
    try:
        from vehins.report import files

        path = files.write(workspace, run)
        runs.save(workspace, run.model_copy(update={"report": path.name}))
    except Exception as error:
        why = error.headline if isinstance(error, VehinsError) else f"{type(error).__name__}: {error}"
        observer.note(redacted(f"The report could not be written ({why})"))
        return None
    return path


def _close(workspace: Workspace, run: RunRecord, report: Report, outcome: str) -> RunRecord:
    """Record how a run ended; when not even that can be written, the error that ended it is the one to tell."""
    exit_code = 0 if outcome == "completed" else 1 if report.error is None else report.error.exit_code
    ended = {"ended_at": datetime.now(UTC), "outcome": outcome, "exit_code": exit_code, "stages": report.stages}
    closed = run.model_copy(update=ended)
    with suppress(VehinsError, OSError):
        runs.save(workspace, closed)
    return closed


class _Chain:
    """The stages of one run, and what they have made so far."""

    def __init__(
        self, settings: Settings, workspace: Workspace, observer: Observer, force: frozenset[str], report: Report
    ) -> None:
        self._settings, self._workspace, self._observer = settings, workspace, observer
        self._force, self._report = force, report

    def inputs(self, stage: Stage, manifest: Path | None) -> Artifacts:
        """The inputs of the stage that starts a run."""
        makers = {stage.makes.__name__: stage.name for stage in STAGES}
        return inputs.find(self._workspace, stage, makers, manifest)

    def run(self, stages: Sequence[Stage], run: RunRecord) -> str:
        """Run the stages until one stops the chain; return how it went."""
        for number, stage in enumerate(stages):
            try:
                refusal = self._one(stage)
            except (VehinsError, KeyboardInterrupt):
                self._skip(stages[number + 1 :], stage)
                raise
            if refusal is not None:
                self._skip(stages[number + 1 :], stage)
                self._report.error = refusal
                return "refused"
            runs.save(self._workspace, run.model_copy(update={"stages": list(self._report.stages)}))
        return "completed"

    def _one(self, stage: Stage) -> VehinsError | None:
        """Reuse or run one stage; return why it stops the chain, if it does although it did its work."""
        begin = time.perf_counter()
        status: Status = "reused"
        try:
            self._observer.started(stage.name)
            with storage_faults(self._settings.workspace):
                decision = decide(
                    self._settings, self._workspace, stage, self._report.artifacts, self._force, self._observer.note
                )
                artifact = decision.reuse
                if artifact is None:
                    artifact, status = self._make(stage, decision.recipe, begin), "ran"
        except BaseException as error:
            text = error.headline if isinstance(error, VehinsError) else type(error).__name__
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else text
            self._record(stage, "failed", reason, None, begin)
            raise
        self._report.artifacts[artifact.manifest.kind] = artifact
        refusal = stage.refusal(artifact.manifest)
        if refusal is None:
            self._record(stage, status, decision.reason, artifact, begin)
        else:
            again = " (as before)" if status == "reused" else ""
            self._record(stage, "refused", refusal.headline + again, artifact, begin)
        return refusal

    def _make(self, stage: Stage, recipe: Recipe, begin: float) -> Artifact[AnyManifest]:
        """Let the stage do its work in a draft, and commit it."""
        with self._workspace.draft(stage.makes.__name__) as folder:
            context = _context(self._settings, stage, self._report.artifacts, folder, self._observer)
            outcome = stage.work(replace(context, recipe=recipe, forced=stage.name in self._force))
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
            self._record(stage, "skipped", _stopped_by(after), None, time.perf_counter())


def decide(
    settings: Settings,
    workspace: Workspace,
    stage: Stage,
    artifacts: Artifacts,
    force: Collection[str],
    on_damage: Callable[[str], None] | None = None,
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
    settings: Settings,
    stage: Stage,
    artifacts: Artifacts,
    folder: Path,
    observer: Observer | None,
) -> Context:
    consumed = {kind.__name__: artifacts[kind.__name__] for kind in stage.needs}
    progress = observer.progress if observer is not None else _silent
    return Context(stage.settings_of(settings), consumed, folder, progress)


def _silent(text: str, done: float = 0, total: float | None = None) -> None:
    """Tell nobody."""


def plan(settings: Settings, force: Collection[str] = ()) -> list[Planned]:
    """Tell for every stage what `execute` would do, without doing it."""
    workspace = Workspace(settings.workspace)
    artifacts: Artifacts = {}
    planned: list[Planned] = []
    for number, stage in enumerate(STAGES):
        unmade = [kind.__name__ for kind in stage.needs if kind.__name__ not in artifacts]
        if unmade:
            planned.append(Planned(stage.name, "unknown", f"depends on the {unmade[0]} that is to be made"))
            continue
        decision = decide(settings, workspace, stage, artifacts, force)
        if decision.reuse is None:
            planned.append(Planned(stage.name, "run", decision.reason))
            continue
        manifest = decision.reuse.manifest
        artifacts[manifest.kind] = decision.reuse
        name = f"{manifest.kind}/{manifest.id}"
        refusal = stage.refusal(manifest)
        if refusal is not None:
            planned.append(Planned(stage.name, "refuse", refusal.headline, name))
            skipped = [Planned(later.name, "skip", _stopped_by(stage)) for later in STAGES[number + 1 :]]
            return planned + skipped
        planned.append(Planned(stage.name, "reuse", decision.reason, name))
    return planned


def _stopped_by(stage: Stage) -> str:
    return f"{stage.name} stopped the chain"
