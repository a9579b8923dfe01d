"""A FeatureSet -> a TrainedModel: LightGBM fitted, refitted, and written as a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vehins.artifacts.manifest import Dataset, FeatureSet, TrainedModel, TrainedModelResult, Validation
from vehins.data import parts, statistics
from vehins.data.split import SIDE, TRAIN, VALID
from vehins.model import bundle, features, profit, trainer
from vehins.model.metrics import rank
from vehins.stages.stage import Context, Outcome, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import polars as pl

    from vehins.data.schema import TableSchema

BUNDLE = "bundle"
_GOLDEN_ROWS = 20
_QUANTILES = 1_000
# Enough rows to know a thousandth of the population's scores, however many there are.
_SCORED_ROWS = 100_000


def work(ctx: Context) -> Outcome:
    """Fit, then write the bundle."""
    import numpy as np
    import polars as pl

    source = ctx.input(FeatureSet)
    settings, threads = ctx.settings.train, ctx.settings.thread_count
    encoder = features.parse(source.path("features.json").read_bytes())
    train, valid = (pl.read_parquet(source.path(f"{side}.parquet")) for side in (TRAIN, VALID))
    fit = trainer.fit(train, valid, encoder, settings, threads, _on_tree(ctx))
    ctx.progress("fitting the baseline")
    baseline = trainer.baseline(train, valid, encoder, settings)
    ctx.progress("writing the bundle")
    population = trainer.thinned(pl.concat([train, valid]), _SCORED_ROWS)
    scores = np.asarray(fit.booster.predict(population.drop(trainer.LABEL), num_threads=threads))
    digest = _write_bundle(ctx, fit, encoder, scores)
    result = TrainedModelResult(
        bundle=digest,
        trees=fit.trees,
        rows=train.height + valid.height,
        valid_auc=fit.valid_auc,
        valid_log_loss=fit.valid_log_loss,
        parameters=fit.parameters,
        importance=trainer.importance(fit.booster, encoder),
        baseline=baseline,
    )
    return Outcome(result, digest)


def _on_tree(ctx: Context) -> Callable[[int, float | None], None]:
    def on_tree(trees: int, log_loss: float | None) -> None:
        if log_loss is None:
            ctx.progress(f"refitting on train and valid, tree {trees}")
        else:
            ctx.progress(f"tree {trees}, valid log loss {log_loss:.5f}", trees, ctx.settings.train.max_rounds)

    return on_tree


def _write_bundle(ctx: Context, fit: trainer.Fit, encoder: features.Encoder, scores: np.ndarray) -> str:
    import numpy as np
    import polars as pl

    booster = fit.booster
    clean = parts.clean_rows(ctx.input(Dataset), ctx.input(Validation))
    schema = parts.schema_of(ctx.input(Dataset))
    percentiles = np.quantile(scores, np.linspace(0, 1, _QUANTILES), method="inverted_cdf")
    rows = _golden_rows(ctx, schema)
    matrix = np.array([encoder.encode_row(row) for row in rows], dtype=np.float64)
    answers = np.asarray(booster.predict(matrix, num_threads=1)).tolist()
    return bundle.write(
        ctx.folder / BUNDLE,
        model=trainer.model_text(booster),
        encoder=encoder,
        signature=bundle.Signature(table=schema, cutoff=_cutoff(ctx, fit), percentiles=percentiles.tolist()),
        golden=[bundle.GoldenRow(row=row, probability=p) for row, p in zip(rows, answers, strict=True)],
        statistics=statistics.describe(clean.filter(pl.col(SIDE).is_in([TRAIN, VALID])), schema),
    )


def _cutoff(ctx: Context, fit: trainer.Fit) -> float:
    """The cutoff that pays best on valid rows, by the fit that has not seen them."""
    found = ctx.input(Validation).manifest.result
    ranked = rank(fit.labels, fit.probabilities, "probability")
    return profit.choose_cutoff(ranked, ctx.settings.business, found.rows - found.quarantined_rows)


def _golden_rows(ctx: Context, schema: TableSchema) -> list[dict[str, bool | int | float | str | None]]:
    """A few customers of the valid side, without their keys, and one of whom nothing is known."""
    import polars as pl

    rows = parts.clean_rows(ctx.input(Dataset), ctx.input(Validation))
    some: pl.DataFrame = rows.filter(pl.col(SIDE) == VALID).select(list(schema.features)).head(_GOLDEN_ROWS).collect()
    return [*some.to_dicts(), dict.fromkeys(schema.features)]


STAGE = Stage(
    name="train",
    makes=TrainedModel,
    needs=(FeatureSet, Validation, Dataset),
    work=work,
    reads=("train", "business"),
    uses=("threads",),
    libraries=("lightgbm", "numpy", "polars", "scikit-learn"),
)
