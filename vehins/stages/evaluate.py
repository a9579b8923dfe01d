"""A TrainedModel -> an Evaluation: metrics on raw test rows through the written bundle, and the gate's verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vehins.artifacts.manifest import (
    AnyManifest,
    Champion,
    Dataset,
    Evaluation,
    EvaluationResult,
    Metrics,
    TrainedModel,
    Validation,
    digest,
)
from vehins.data import parts
from vehins.data.split import SIDE, TEST
from vehins.errors import DataError, GateRefusedError, VehinsError
from vehins.model import gate, metrics
from vehins.model.bundle import Bundle
from vehins.registry.registry import ModelVersion, Registry
from vehins.registry.stores import open_store
from vehins.stages.stage import Context, Outcome, Stage

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


def _registry(ctx: Context) -> Registry:
    settings = ctx.settings
    return Registry(open_store(settings.registry_url, settings.s3, settings.remote), settings.model_name)


def _rival(ctx: Context, registry: Registry) -> tuple[ModelVersion | None, str | None]:
    """The version to compare with, and the reason of a person who approved this very model before.

    A model is never judged against itself: when it is in production already, its rival is that of its own judgement.
    """
    production = registry.resolve(ctx.settings.alias)
    if production is None or production.bundle != ctx.input(TrainedModel).manifest.result.bundle:
        return production, None
    champion = None if production.champion is None else registry.version(production.champion)
    return champion, production.approved


def outside(ctx: Context) -> dict[str, Any]:
    """The champion, and whether a person approved."""
    rival, approved = _rival(ctx, _registry(ctx))
    champion = None if rival is None else {"version": rival.version, "bundle": rival.bundle}
    return {"champion": champion, "approved": ctx.settings.gate.approve or approved}


def work(ctx: Context) -> Outcome:
    """Score the test side with challenger and champion, and judge."""
    import polars as pl

    dataset = ctx.input(Dataset)
    schema = parts.schema_of(dataset)
    model = ctx.input(TrainedModel)
    test = parts.clean_rows(dataset, ctx.input(Validation)).filter(pl.col(SIDE) == TEST)
    labels = _labels(test, schema.target, schema.columns[schema.target].positive)
    ctx.progress(f"scoring {labels.size:,} test rows")
    challenger = Bundle(model.path("bundle"), ctx.settings.thread_count)
    scores = challenger.predict(test)
    measured = measure(labels, scores, ctx.settings.evaluate.confidence)
    registry = _registry(ctx)
    rival, approved = _rival(ctx, registry)
    champion = None
    if rival is not None:
        ctx.progress(f"scoring with champion {rival.version}")
        champion = _compare(ctx, registry, rival, test, labels, scores)
    rules = gate.judge(measured, champion, ctx.settings.gate)
    accepted = gate.accepted(rules)
    reason = ctx.settings.gate.approve or approved
    result = EvaluationResult(
        bundle=challenger.digest,
        confidence=ctx.settings.evaluate.confidence,
        metrics=measured,
        champion=champion,
        rules=rules,
        verdict="accept" if accepted or reason else "refuse",
        approved=None if accepted else reason,
    )
    return Outcome(result, digest(result.model_dump(mode="json")))


def _labels(test: pl.LazyFrame, target: str, positive: object) -> np.ndarray:
    import polars as pl

    is_positive: pl.Expr = pl.col(target) == pl.lit(positive)
    labels = test.select(is_positive.cast(pl.UInt8)).collect().to_series().to_numpy()
    if labels.size == 0 or labels.min() == labels.max():
        raise DataError(
            f"The test side has {labels.size:,} rows and not both classes",
            detail="Nothing can be measured on it.",
            hint="Bring more rows, or give the side a larger share: `--set split.test=0.3`.",
        )
    return labels


def measure(labels: np.ndarray, scores: np.ndarray, confidence: float) -> Metrics:
    """All metrics of some probabilities."""
    area = metrics.auc_interval(labels, scores, confidence)
    return Metrics(
        auc=area.auc,
        auc_low=area.low,
        auc_high=area.high,
        average_precision=metrics.average_precision(labels, scores),
        log_loss=metrics.log_loss(labels, scores),
        brier=metrics.brier(labels, scores),
        rows=labels.size,
        positives=int(labels.sum()),
    )


def _compare(
    ctx: Context, registry: Registry, rival: ModelVersion, test: pl.LazyFrame, labels: np.ndarray, scores: np.ndarray
) -> Champion:
    """Judge the champion on the same raw rows, through its own bundle."""
    folder = registry.fetch(rival, ctx.settings.workspace / "cache" / rival.bundle)
    bundle = Bundle(folder, ctx.settings.thread_count)
    _check_columns(rival, bundle, test)
    other = bundle.predict(test)
    difference = metrics.auc_difference(labels, scores, other, ctx.settings.gate.confidence)
    return Champion(
        version=rival.version,
        bundle=rival.bundle,
        metrics=measure(labels, other, ctx.settings.evaluate.confidence),
        auc_difference=difference.difference,
        auc_difference_low=difference.lower,
    )


def _check_columns(rival: ModelVersion, bundle: Bundle, test: pl.LazyFrame) -> None:
    have = test.collect_schema().names()
    missing = [name for name in bundle.signature.table.features if name not in have]
    if missing:
        raise DataError(
            f"Champion {rival.version} needs the column `{missing[0]}`, which these rows do not have",
            detail=f"It was trained on the schema `{bundle.signature.table.name}`.",
            hint="Use a model of its own for another table: `--set model_name=NAME`.",
        )


def refusal(manifest: AnyManifest) -> VehinsError | None:
    """Stop the chain when the gate refuses."""
    assert isinstance(manifest, Evaluation)  # noqa: S101 - narrows the type
    result = manifest.result
    if result.verdict == "accept":
        return None
    failed = [rule.sentence for rule in result.rules if rule.verdict == "fail"]
    return GateRefusedError(
        f"The gate refused this model: {len(failed)} of {len(result.rules)} rules failed",
        detail="\n".join(failed),
        hint="The champion stays. Bring more or better data, change `gate.*`, or overrule it: `--approve REASON`.",
    )


STAGE = Stage(
    name="evaluate",
    makes=Evaluation,
    needs=(TrainedModel, Validation, Dataset),
    work=work,
    reads=("evaluate", "gate"),
    uses=("threads", "workspace", "registry", "model_name", "alias", "s3", "remote"),
    libraries=("lightgbm", "numpy", "polars"),
    outside=outside,
    refusal=refusal,
)
