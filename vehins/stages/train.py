"""A FeatureSet -> a TrainedModel: LightGBM fitted, refitted, and written as a bundle."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from vehins.artifacts import fingerprint
from vehins.artifacts.manifest import Dataset, FeatureSet, TrainedModel, TrainedModelResult, Tuning, Validation, digest
from vehins.artifacts.workspace import TUNING
from vehins.data import parts, statistics
from vehins.data.split import SIDE, TRAIN, VALID
from vehins.model import bundle, calibration, features, profit, trainer, tuning
from vehins.model.metrics import auc, log_loss, rank
from vehins.stages.stage import Context, Outcome, Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import numpy as np
    import polars as pl

    from vehins.data.schema import TableSchema
    from vehins.settings import TrainSettings

BUNDLE, TRIALS_FILE = "bundle", "trials.jsonl"
_GOLDEN_ROWS = 20
_QUANTILES = 1_000
# Enough rows to know a thousandth of the population's scores, however many there are.
_SCORED_ROWS = 50_000
_LIBRARIES = ("lightgbm", "numpy", "polars", "scikit-learn")
# What shapes no trial: a search goes on when one of these has changed.
_AFTER_THE_SEARCH = {"tune_minutes", "seeds", "calibrate", "watched_rows", "baseline_rows"}


def work(ctx: Context) -> Outcome:
    """Search for settings if that is wanted, fit, then write the bundle."""
    import polars as pl

    source = ctx.input(FeatureSet)
    threads = ctx.settings.thread_count
    encoder = features.parse(source.path("features.json").read_bytes())
    train, valid = (pl.read_parquet(source.path(f"{side}.parquet")) for side in (TRAIN, VALID))
    settings, tuned = _tuned(ctx, train, encoder)
    fit = trainer.fit(train, valid, encoder, settings, threads, _on_tree(ctx))
    ctx.progress("measuring the calibration")
    calibrator, measured = calibration.choose(fit.labels, fit.probabilities, settings.calibrate)
    ctx.progress("fitting the baseline")
    baseline = trainer.baseline(train, valid, encoder, settings)
    ctx.progress("writing the bundle")
    population = trainer.thinned(pl.concat([train, valid]), _SCORED_ROWS).drop(trainer.LABEL)
    bundle_digest = _Writer(ctx, fit, encoder, calibrator).write(population)
    result = TrainedModelResult(
        bundle=bundle_digest,
        trees=sum(fit.trees),
        trees_by_seed=fit.trees,
        rows=train.height + valid.height,
        valid_auc=auc(fit.labels, fit.probabilities),
        valid_log_loss=log_loss(fit.labels, fit.probabilities),
        parameters=fit.parameters,
        importance=trainer.importance(fit.booster, encoder),
        baseline=baseline,
        calibration=measured,
        tuning=tuned,
    )
    return Outcome(result, bundle_digest, {TRIALS_FILE: tuned.trials} if tuned else {})


def _on_tree(ctx: Context) -> Callable[[str, int, float | None], None]:
    def on_tree(doing: str, trees: int, log_loss: float | None) -> None:
        if log_loss is None:
            ctx.progress(f"{doing}tree {trees}")
        else:
            ctx.progress(f"{doing}tree {trees}, valid log loss {log_loss:.5f}", trees, ctx.settings.train.max_rounds)

    return on_tree


def _tuned(ctx: Context, train: pl.DataFrame, encoder: features.Encoder) -> tuple[TrainSettings, Tuning | None]:
    """The settings to fit with, and how they were found when they were searched for."""
    settings: TrainSettings = ctx.settings.train
    place = ctx.settings.workspace / TUNING
    if not settings.tune_minutes:
        return settings, None
    journal = tuning.Journal(place / _search_id(ctx) / TRIALS_FILE)
    found = tuning.tune(train, encoder, settings, ctx.settings.thread_count, journal, ctx.progress)
    shutil.copyfile(journal.path, ctx.folder / TRIALS_FILE)
    return settings.model_copy(update=found.parameters), found


def _search_id(ctx: Context) -> str:
    """Digest of all that shapes a trial; a search with the same one goes on with the trials that are there."""
    shapes = {
        "features": ctx.input(FeatureSet).manifest.content,
        "settings": ctx.settings.train.model_dump(mode="json", exclude=_AFTER_THE_SEARCH),
        "source": fingerprint.source_digest(),
        "libraries": fingerprint.library_versions((*_LIBRARIES, "optuna")),
    }
    return digest(shapes)[:16]


def _tuner(ctx: Context) -> dict[str, Any]:
    """The library that searches, when one does; without a search, its version is nobody's business."""
    return fingerprint.library_versions(("optuna",)) if ctx.settings.train.tune_minutes else {}


class _Writer:
    """Writes the bundle of a fitted model."""

    def __init__(
        self,
        ctx: Context,
        fit: trainer.Fit,
        encoder: features.Encoder,
        calibrator: calibration.Calibrator | None,
    ) -> None:
        self._ctx, self._fit, self._encoder, self._calibrator = ctx, fit, encoder, calibrator

    def write(self, population: pl.DataFrame) -> str:
        """Write it, with the scores of some encoded rows as percentiles; return its digest."""
        import numpy as np
        import polars as pl

        schema = parts.schema_of(self._ctx.input(Dataset))
        scores = self._probabilities(population.to_numpy(), self._ctx.settings.thread_count)
        percentiles = np.quantile(scores, np.linspace(0, 1, _QUANTILES), method="inverted_cdf")
        clean = parts.clean_rows(self._ctx.input(Dataset), self._ctx.input(Validation))
        return bundle.write(
            self._ctx.folder / BUNDLE,
            model=trainer.model_text(self._fit.booster),
            encoder=self._encoder,
            signature=bundle.Signature(table=schema, cutoff=self._cutoff(), percentiles=percentiles.tolist()),
            golden=self._golden(schema),
            calibrator=self._calibrator,
            statistics=statistics.describe(clean.filter(pl.col(SIDE).is_in([TRAIN, VALID])), schema),
        )

    def _cutoff(self) -> float:
        """The cutoff that pays best on valid rows, by the fit that has not seen them."""
        found = self._ctx.input(Validation).manifest.result
        probabilities = bundle.calibrated(self._fit.probabilities, self._calibrator)
        ranked = rank(self._fit.labels, probabilities, "probability")
        return profit.choose_cutoff(ranked, self._ctx.settings.business, found.rows - found.quarantined_rows)

    def _golden(self, schema: TableSchema) -> list[bundle.GoldenRow]:
        import numpy as np

        rows = _golden_rows(self._ctx, schema)
        matrix = np.array([self._encoder.encode_row(row) for row in rows], dtype=np.float64)
        answers = self._probabilities(matrix, 1).tolist()
        return [bundle.GoldenRow(row=row, probability=p) for row, p in zip(rows, answers, strict=True)]

    def _probabilities(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        import numpy as np

        scores = np.asarray(self._fit.booster.predict(matrix, num_threads=threads))
        return bundle.calibrated(scores, self._calibrator)


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
    uses=("threads", "workspace"),
    libraries=_LIBRARIES,
    outside=_tuner,
)
