"""An accepting Evaluation -> a PushedModel: the bundle registered as a version, then the alias moved to it."""

from __future__ import annotations

from typing import Any

from vehins.artifacts.evaluation import EvaluationResult
from vehins.artifacts.manifest import AnyManifest, Evaluation, PushedModel, PushedModelResult, TrainedModel, digest
from vehins.errors import ConflictError, DataError, GateRefusedError
from vehins.masking import masked
from vehins.model import bundle
from vehins.registry.registry import ModelVersion, Registry
from vehins.stages import rivals
from vehins.stages.stage import Context, Outcome, Stage


def outside(ctx: Context) -> dict[str, Any]:
    """Where the registry is."""
    return {"registry": masked(ctx.settings.registry_url)}


def stale(ctx: Context, manifest: AnyManifest) -> str | None:
    """Push again when the alias names another version by now, or the version is gone."""
    assert isinstance(manifest, PushedModel)  # noqa: S101 - narrows the type
    pushed = manifest.result
    version = rivals.open_registry(ctx).resolve(pushed.alias)
    if version is None:
        return f"the registry has no {pushed.alias}"
    if version.bundle != ctx.input(TrainedModel).manifest.result.bundle:
        return f"{pushed.alias} is version {version.version} by now"
    return None


def work(ctx: Context) -> Outcome:
    """Register the version, then move the alias."""
    evaluation, model = ctx.input(Evaluation).manifest, ctx.input(TrainedModel)
    judged = evaluation.result
    if judged.verdict != "accept":
        raise GateRefusedError(
            f"Evaluation {evaluation.id} does not accept this model",
            detail=" ".join(rule.sentence for rule in judged.rules if rule.verdict == "fail"),
            hint="Evaluate again, or overrule the gate: `vehins evaluate --approve REASON`, then `vehins push`.",
        )
    folder = model.path("bundle")
    files = bundle.files(folder)
    if judged.bundle != model.manifest.result.bundle:
        detail = f"It judged bundle {judged.bundle[:12]}, this model is bundle {model.manifest.result.bundle[:12]}."
        raise DataError("The evaluation is not of this model", detail=detail, hint="Evaluate it: `vehins evaluate`.")
    registry = rivals.open_registry(ctx)
    _check_rival(registry.resolve(ctx.settings.alias), judged)
    ctx.progress("registering the version")
    version, made = registry.publish(
        folder,
        files,
        bundle=judged.bundle,
        champion=judged.champion.version if judged.champion else None,
        evaluation=judged.metrics.model_dump(mode="json") | _overruled(judged),
        approved=judged.approved,
        lineage={"TrainedModel": model.manifest.id, "Evaluation": evaluation.id, rivals.ROWS: _rows(model.manifest)},
    )
    if not made:
        _check_not_taken_back(registry, ctx.settings.alias, version)
    before = registry.alias(ctx.settings.alias)
    reason = f"approved: {judged.approved}" if judged.approved else "accepted by the gate"
    rival = judged.champion.version if judged.champion else None
    _, moved = registry.point(ctx.settings.alias, version.version, reason=reason, instead_of=frozenset({rival}))
    result = PushedModelResult(
        registry=masked(ctx.settings.registry_url),
        model=ctx.settings.model_name,
        version=version.version,
        alias=ctx.settings.alias,
        previous=before.version if before else None,
        registered=made,
        promoted=moved,
    )
    return Outcome(result, digest(result.model_dump(mode="json")))


def _overruled(judged: EvaluationResult) -> dict[str, str]:
    """The rules that a person overruled, for when this model is judged again."""
    failed = [rule.name for rule in judged.rules if rule.verdict == "fail"]
    return {rivals.OVERRULED: rivals.joined(failed)} if judged.approved and failed else {}


def _rows(model: TrainedModel) -> str:
    """Content digest of the data set that a model was trained on."""
    return next(record.content for record in model.inputs if record.kind == "Dataset")


def _check_rival(production: ModelVersion | None, judged: EvaluationResult) -> None:
    """A model replaces the champion that it was judged against, and no other."""
    met = {judged.bundle, judged.champion.bundle if judged.champion else None}
    if production is not None and production.bundle not in met:
        rival = f"version {judged.champion.version}" if judged.champion else "no champion"
        raise ConflictError(
            f"Version {production.version} has been promoted since this model was evaluated",
            detail=f"It was judged against {rival}.",
            hint="Judge it against that version: `vehins evaluate`, then `vehins push`.",
        )


def _check_not_taken_back(registry: Registry, alias: str, version: ModelVersion) -> None:
    """What a person has rolled back, a person promotes again; the next run on the same rows must not."""
    moves = registry.history(alias)
    last = next((move for move in reversed(moves) if move.version == version.version and move.undoes is None), None)
    undoing = next((move for move in moves if last is not None and move.undoes == last.sequence), None)
    if undoing is not None:
        raise GateRefusedError(
            f"Version {version.version} was rolled back from {alias}",
            detail=f"By {undoing.actor} on {undoing.at:%Y-%m-%d %H:%M} UTC: {undoing.reason}.",
            hint=f"Bring another model, or promote it by hand: `vehins models promote {version.version}`.",
        )


STAGE = Stage(
    name="push",
    makes=PushedModel,
    needs=(Evaluation, TrainedModel),
    work=work,
    reads=("model_name", "alias"),
    uses=("registry", "workspace", "s3", "remote"),
    outside=outside,
    stale=stale,
)
