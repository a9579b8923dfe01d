"""The same LightGBM on rows as they are and on rows that were balanced, judged on test rows as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from benchmarks.quality import clean_rows, prepared
from vehins.artifacts.manifest import FeatureSet
from vehins.artifacts.workspace import Workspace
from vehins.data.split import SIDE, TEST
from vehins.model import features, metrics, trainer
from vehins.settings import Settings, TrainSettings

HEADER = ("training rows", "count", "AUC", "average precision", "log loss", "ECE", "mean probability")


def fewer_negatives(rows: pl.DataFrame) -> pl.DataFrame:
    """As many negatives as positives, chosen at random."""
    positives, negatives = _classes(rows)
    return _shuffled(pl.concat([positives, negatives.sample(positives.height, seed=1)]))


def more_positives(rows: pl.DataFrame) -> pl.DataFrame:
    """As many positives as negatives, drawn again and again."""
    positives, negatives = _classes(rows)
    return _shuffled(pl.concat([negatives, positives.sample(negatives.height, with_replacement=True, seed=1)]))


def _classes(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    return rows.filter(pl.col(trainer.LABEL) == 1), rows.filter(pl.col(trainer.LABEL) == 0)


def _shuffled(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sample(fraction=1.0, shuffle=True, seed=1)


WAYS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "as they are": lambda rows: rows,
    "fewer negatives (1:1)": fewer_negatives,
    "positives drawn again (1:1)": more_positives,
}


def resampling(folder: Path, file: Path | None) -> None:
    """Print the table, as Markdown."""
    workspace = prepared(file, folder / "workspace")
    test = clean_rows(workspace).filter(pl.col(SIDE) == TEST)
    source = Workspace(workspace).newest(FeatureSet)
    assert source is not None
    encoder = features.parse(source.path("features.json").read_bytes())
    train, valid = (pl.read_parquet(source.path(f"{side}.parquet")) for side in ("train", "valid"))
    matrix, labels = encoder.matrix(test.lazy()), test["__label__"].to_numpy()
    print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER))
    for name, way in WAYS.items():
        rows = way(train), way(valid)
        fit = trainer.fit(*rows, encoder, TrainSettings(), Settings().thread_count, lambda *_: None)
        scores = fit.booster.predict(matrix)
        cells = (
            name,
            f"{sum(side.height for side in rows):,}",
            f"{metrics.auc(labels, scores):.5f}",
            f"{metrics.average_precision(labels, scores):.4f}",
            f"{metrics.log_loss(labels, scores):.4f}",
            f"{metrics.expected_calibration_error(labels, scores):.4f}",
            f"{scores.mean():.3f}",
        )
        print("| " + " | ".join(cells) + " |", flush=True)
    print(f"\nShare of positives among the {test.height:,} test rows: {labels.mean():.3f}")
