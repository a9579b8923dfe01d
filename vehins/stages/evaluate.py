"""A TrainedModel -> an Evaluation: metrics on raw test rows through the written bundle, and the gate's verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vehins.artifacts.drift import Drift
from vehins.artifacts.evaluation import (
    CURVES_FILE,
    Champion,
    Curves,
    EvaluationResult,
    Metrics,
    ModelCurves,
    Profit,
    Rule,
    Slice,
)
from vehins.artifacts.manifest import AnyManifest, Dataset, Evaluation, TrainedModel, Validation, digest
from vehins.data import integrity, parts
from vehins.data.split import SIDE, TEST
from vehins.errors import DataError, GateRefusedError, VehinsError
from vehins.model import drivers, gate, metrics, profit, slices
from vehins.model.bundle import Bundle
from vehins.registry.registry import ModelVersion
from vehins.stages import rivals
from vehins.stages.stage import Context, Outcome, Stage

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import polars as pl

    from vehins.model.metrics import Ranked


@dataclass(frozen=True)
class _Scored:
    """A model, and the test side as it ranks it."""

    bundle: str
    cutoff: float
    ranked: Ranked


@dataclass(frozen=True)
class _Rival:
    """A registered version, its copy here, and the test side as it ranks it."""

    version: ModelVersion
    folder: Path
    scored: _Scored


def outside(ctx: Context) -> dict[str, Any]:
    """The champion, and whether a person approved; of a model in production, what was overruled back then."""
    bundle = ctx.input(TrainedModel).manifest.result.bundle
    rival, itself = rivals.of_model(rivals.open_registry(ctx), ctx.settings.alias, bundle)
    found: dict[str, Any] = {"champion": rivals.recorded(rival), "approved": ctx.settings.gate.approve}
    if found["approved"] is None and itself is not None and itself.approved is not None:
        return {**found, "approved": itself.approved, "overruled": itself.evaluation.get(rivals.OVERRULED)}
    return found


def work(ctx: Context) -> Outcome:
    """Score the test side with challenger and champion, and judge."""
    import polars as pl

    dataset, validation = ctx.input(Dataset), ctx.input(Validation)
    test = parts.clean_rows(dataset, validation).filter(pl.col(SIDE) == TEST)
    labels = _labels(ctx, test)
    ctx.progress(f"scoring {labels.size:,} test rows")
    bundle = Bundle(ctx.input(TrainedModel).path("bundle"), ctx.settings.thread_count)
    challenger = _scored(bundle, test, labels)
    rival = _rival(ctx, test, labels)
    ctx.progress("looking at the rows themselves")
    found = gate.Evidence(
        metrics=_metrics(ctx, challenger),
        integrity=integrity.examine(test, dataset, validation),
        slices=_slices(ctx, test, challenger, rival),
        champion=None if rival is None else _champion(ctx, challenger, rival),
        drift=None if rival is None else _drift(ctx, rival),
    )
    result = _result(ctx, challenger, found)
    curves = Curves(
        challenger=_curves(ctx, challenger, None),
        champion=None if rival is None else _curves(ctx, rival.scored, rival.version.version),
    ).model_dump_json()
    (ctx.folder / CURVES_FILE).write_text(curves + "\n", encoding="utf-8")
    ctx.progress("looking at what drives the scores")
    driven = drivers.measure(bundle, test, labels.size).model_dump_json()
    (ctx.folder / drivers.DRIVERS_FILE).write_text(driven + "\n", encoding="utf-8")
    return Outcome(result, digest(result.model_dump(mode="json")))


def _result(ctx: Context, challenger: _Scored, found: gate.Evidence) -> EvaluationResult:
    rules = gate.judge(found, ctx.settings.gate)
    accepted = gate.accepted(rules)
    reason = None if accepted else _approval(ctx, rules)
    return EvaluationResult(
        bundle=challenger.bundle,
        confidence=ctx.settings.evaluate.confidence,
        metrics=found.metrics,
        gains=metrics.gains(challenger.ranked),
        calibration=metrics.calibration_table(challenger.ranked, ctx.settings.evaluate.confidence),
        slices=found.slices,
        profit=_profit(ctx, challenger),
        drift=found.drift,
        integrity=found.integrity,
        champion=found.champion,
        rules=rules,
        verdict="accept" if accepted or reason else "refuse",
        approved=reason,
    )


def _approval(ctx: Context, rules: list[Rule]) -> str | None:
    """The reason of a person who overrules these failures: of now or, for a model in production, of back then."""
    reason: str | None = ctx.known["approved"]
    known = ctx.settings.gate.approve is not None or rivals.covers(ctx.known.get("overruled"), gate.failed(rules))
    return reason if known and gate.can_be_overruled(rules) else None


def _labels(ctx: Context, test: pl.LazyFrame) -> np.ndarray:
    import polars as pl

    schema = parts.schema_of(ctx.input(Dataset))
    is_positive: pl.Expr = pl.col(schema.target) == pl.lit(schema.columns[schema.target].positive)
    labels = test.select(is_positive.cast(pl.UInt8)).collect().to_series().to_numpy()
    if min(labels.sum(), labels.size - labels.sum()) < 2:
        raise DataError(
            f"The test side has {labels.size:,} rows and not both classes",
            detail="Nothing can be measured on it.",
            hint="Bring more rows, or give the side a larger share: `--set split.test=0.3`.",
        )
    return labels


def _scored(bundle: Bundle, test: pl.LazyFrame, labels: np.ndarray) -> _Scored:
    ranked = metrics.rank(labels, bundle.predict(test), "probability")
    return _Scored(bundle.digest, bundle.signature.cutoff, ranked)


def _rival(ctx: Context, test: pl.LazyFrame, labels: np.ndarray) -> _Rival | None:
    """The champion on the same raw rows, through its own bundle."""
    registry = rivals.open_registry(ctx)
    version = rivals.known(ctx, registry)
    if version is None:
        return None
    ctx.progress(f"scoring with champion {version.version}")
    folder = rivals.fetch(ctx, registry, version)
    bundle = Bundle(folder, ctx.settings.thread_count)
    _check_columns(version, bundle, test)
    return _Rival(version, folder, _scored(bundle, test, labels))


def _metrics(ctx: Context, scored: _Scored) -> Metrics:
    return metrics.measure(scored.ranked, ctx.settings.evaluate.confidence, ctx.settings.gate.confidence)


def _profit(ctx: Context, scored: _Scored) -> Profit:
    return profit.measure(
        scored.ranked, scored.cutoff, ctx.settings.business, _customers(ctx), ctx.settings.evaluate.confidence
    )


def _customers(ctx: Context) -> int:
    """Clean rows on all sides."""
    found = ctx.input(Validation).manifest.result
    return found.rows - found.quarantined_rows


def _curves(ctx: Context, scored: _Scored, version: int | None) -> ModelCurves:
    return ModelCurves(
        bundle=scored.bundle,
        version=version,
        roc=metrics.roc_curve(scored.ranked),
        precision_recall=metrics.precision_curve(scored.ranked),
        gains=metrics.gains_curve(scored.ranked),
        profit=profit.curve(scored.ranked, ctx.settings.business),
        histogram=metrics.histogram(scored.ranked),
    )


def _slices(ctx: Context, test: pl.LazyFrame, challenger: _Scored, rival: _Rival | None) -> list[Slice]:
    settings = ctx.settings.gate
    bounds = slices.Bounds(
        least=settings.min_slice_positives,
        confidence=settings.confidence,
        margin=gate.slice_margin(settings),
        interval=ctx.settings.evaluate.confidence,
    )
    found = list(slices.cuts(test, parts.schema_of(ctx.input(Dataset)), ctx.settings.evaluate.slice_bins))
    return slices.judge(found, challenger.ranked, None if rival is None else rival.scored.ranked, bounds)


def _champion(ctx: Context, challenger: _Scored, rival: _Rival) -> Champion:
    difference = metrics.difference(challenger.ranked, rival.scored.ranked, ctx.settings.gate.confidence)
    return Champion(
        version=rival.version.version,
        bundle=rival.scored.bundle,
        metrics=_metrics(ctx, rival.scored),
        auc_difference=difference.difference,
        auc_difference_low=difference.lower,
        gains=metrics.gains(rival.scored.ranked),
        calibration=metrics.calibration_table(rival.scored.ranked, ctx.settings.evaluate.confidence),
        profit=_profit(ctx, rival.scored),
    )


def _drift(ctx: Context, rival: _Rival) -> Drift:
    """The rows against the champion's training rows; validation has measured it, unless it met another champion."""
    validation = ctx.input(Validation)
    measured = validation.manifest.result.drift
    if measured is not None and (measured.version, measured.bundle) == (rival.version.version, rival.version.bundle):
        return measured
    clean = parts.clean_rows(ctx.input(Dataset), validation)
    return rivals.measure_drift(clean, rival.version, rival.folder)


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
    hint = "The champion stays. Bring more or better data, change `gate.*`, or overrule it: `--approve REASON`."
    if not gate.can_be_overruled(result.rules):
        hint = "This cannot be overruled. Read the source anew, and go on from there: `vehins pipeline run --force`."
    return GateRefusedError(
        f"The gate refused this model: {len(failed)} of {len(result.rules)} rules failed",
        detail="\n".join(failed),
        hint=hint,
    )


STAGE = Stage(
    name="evaluate",
    makes=Evaluation,
    needs=(TrainedModel, Validation, Dataset),
    work=work,
    reads=("evaluate", "gate", "business"),
    uses=("threads", "workspace", "registry", "model_name", "alias", "s3", "remote"),
    libraries=("lightgbm", "numpy", "polars"),
    outside=outside,
    refusal=refusal,
)
