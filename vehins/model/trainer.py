"""Fit LightGBM on encoded rows: early stopping on the valid side, then a refit on train and valid together."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vehins.artifacts.manifest import Baseline
from vehins.errors import DataError
from vehins.model.bundle import import_lightgbm
from vehins.model.features import Encoder
from vehins.model.metrics import auc, log_loss
from vehins.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from lightgbm import Booster, Dataset

LABEL = "__label__"
_NARROW = ("UInt8", "UInt16", "UInt32", "Float32", "Float64")
OnTree = Callable[[int, float | None], None]


@dataclass(frozen=True)
class Fit:
    """A fitted model, and how good the fit was that chose its number of trees."""

    booster: Booster
    trees: int
    valid_auc: float
    valid_log_loss: float
    parameters: dict[str, Any]
    labels: np.ndarray
    """Of the watched rows of the valid side."""
    probabilities: np.ndarray
    """Of the watched rows, by the fit on the train side alone."""


def fit(
    train: pl.DataFrame,
    valid: pl.DataFrame,
    encoder: Encoder,
    settings: TrainSettings,
    threads: int,
    on_tree: OnTree,
) -> Fit:
    """Fit on encoded rows with a ``__label__`` column.

    ``on_tree`` is called after every tree with the number of trees and, while the number is being searched for, the log
    loss of the valid side.
    """
    import numpy as np

    watched = thinned(valid, settings.watched_rows)
    chosen = _search(train, watched, encoder, settings, threads, on_tree)
    trees = chosen.best_iteration
    scores: np.ndarray = np.asarray(chosen.predict(_inputs(watched), num_threads=threads))
    labels = watched[LABEL].to_numpy()
    parameters = _parameters(settings, threads)
    everything = _dataset(train.vstack(valid), encoder, parameters)
    callbacks = [lambda env: on_tree(env.iteration + 1, None)]
    booster = import_lightgbm().train(parameters, everything, num_boost_round=trees, callbacks=callbacks)
    return Fit(
        booster=booster,
        trees=trees,
        valid_auc=auc(labels, scores),
        valid_log_loss=log_loss(labels, scores),
        parameters={**parameters, "num_threads": None},
        labels=labels,
        probabilities=scores,
    )


def _search(
    train: pl.DataFrame,
    watched: pl.DataFrame,
    encoder: Encoder,
    settings: TrainSettings,
    threads: int,
    on_tree: OnTree,
) -> Booster:
    """Add trees until the watched rows stop improving."""
    lightgbm = import_lightgbm()
    parameters = _parameters(settings, threads)
    fitted = _dataset(train, encoder, parameters)
    judge = lightgbm.Dataset(_inputs(watched), watched[LABEL].to_numpy(), reference=fitted)
    stop = lightgbm.early_stopping(settings.early_stopping_rounds, verbose=False, min_delta=settings.min_improvement)
    booster: Booster = lightgbm.train(
        parameters,
        fitted,
        num_boost_round=settings.max_rounds,
        valid_sets=[judge],
        callbacks=[stop, lambda env: on_tree(env.iteration + 1, env.evaluation_result_list[0][2])],
    )
    return booster


def _parameters(settings: TrainSettings, threads: int) -> dict[str, Any]:
    ours = {"max_rounds", "early_stopping_rounds", "min_improvement", "watched_rows", "baseline_rows"}
    chosen = settings.model_dump(exclude=ours)
    return {
        **chosen,
        "objective": "binary",
        "metric": "binary_logloss",
        "num_threads": threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }


def _dataset(rows: pl.DataFrame, encoder: Encoder, parameters: dict[str, Any]) -> Dataset:
    dataset: Dataset = import_lightgbm().Dataset(
        _inputs(rows),
        rows[LABEL].to_numpy(),
        categorical_feature=[encoder.names.index(name) for name in encoder.categories],
        params=parameters,
        free_raw_data=True,
    )
    return dataset


def _inputs(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns that LightGBM sees, numbered: it refuses some names that a table may have (`Charges [USD]`)."""
    features = _checked(rows).drop(LABEL)
    return features.rename({name: f"f{number}" for number, name in enumerate(features.columns)})


def _checked(rows: pl.DataFrame) -> pl.DataFrame:
    """LightGBM ends the process, without an exception, on a column that is not numeric."""
    wrong = [name for name, dtype in rows.schema.items() if str(dtype) not in _NARROW]
    if wrong:
        raise DataError(f"The feature {wrong[0]} is not encoded", detail=f"It has the type {rows.schema[wrong[0]]}.")
    return rows


def thinned(rows: pl.DataFrame, at_most: int) -> pl.DataFrame:
    """Evenly spaced rows, at most so many: enough to judge by, however large the table."""
    return rows.gather_every(max(1, -(-rows.height // at_most)))


def model_text(booster: Booster) -> str:
    """The model as text, without what depends on the machine and not on the model."""
    return re.sub(r"^\[num_threads: \d+\]\n", "", booster.model_to_string(), flags=re.MULTILINE)


def importance(booster: Booster, encoder: Encoder) -> dict[str, float]:
    """Share of the total gain of each feature, the largest first."""
    gains = booster.feature_importance("gain")
    total = float(gains.sum()) or 1.0
    shares = {name: float(gain) / total for name, gain in zip(encoder.names, gains, strict=True)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def baseline(train: pl.DataFrame, valid: pl.DataFrame, encoder: Encoder, settings: TrainSettings) -> Baseline:
    """Fit scikit-learn's logistic regression on one-hot categories and standardised numbers.

    It is fitted on evenly spaced rows, at most ``settings.baseline_rows``: it is there to compare with, not to win.
    """
    import polars as pl
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    some = thinned(train, settings.baseline_rows)
    numbers = [i for i, name in enumerate(encoder.names) if name not in encoder.categories]
    codes = [i for i, name in enumerate(encoder.names) if name in encoder.categories]
    model = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numbers),
            (OneHotEncoder(handle_unknown="ignore"), codes),
        ),
        LogisticRegression(max_iter=300),
    )
    model.fit(_matrix(some), some[LABEL].to_numpy())
    judged = thinned(valid, settings.baseline_rows)
    scores: np.ndarray = model.predict_proba(_matrix(judged))[:, 1]
    labels = judged.get_column(LABEL).cast(pl.UInt8).to_numpy()
    return Baseline(
        name="logistic regression",
        rows=some.height,
        valid_auc=auc(labels, scores),
        valid_log_loss=log_loss(labels, scores),
    )


def _matrix(rows: pl.DataFrame) -> np.ndarray:
    import polars as pl

    return rows.drop(LABEL).cast(pl.Float64).to_numpy()
