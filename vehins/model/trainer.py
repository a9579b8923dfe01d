"""Fit LightGBM on encoded rows: early stopping on the valid side, then a refit on train and valid together.

With several seeds that is done for each, and the mean of the fits is the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from vehins.artifacts.manifest import Baseline
from vehins.errors import DataError
from vehins.model.averaging import average
from vehins.model.features import Encoder
from vehins.model.library import import_lightgbm
from vehins.model.metrics import auc, log_loss
from vehins.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from lightgbm import Booster, Dataset

LABEL = "__label__"
_NARROW = ("UInt8", "UInt16", "UInt32", "Float32", "Float64")
OnTree = Callable[[str, int, float | None], None]


@dataclass(frozen=True)
class Fit:
    """A fitted model, and how good the fits were that chose its numbers of trees."""

    booster: Booster
    """On the train and valid sides; the mean of one fit for each seed."""
    trees: list[int]
    """How many each seed has."""
    labels: np.ndarray
    """Of the watched rows of the valid side."""
    probabilities: np.ndarray
    """Of the watched rows, by the fits on the train side alone."""
    parameters: dict[str, Any]


def fit(
    train: pl.DataFrame,
    valid: pl.DataFrame,
    encoder: Encoder,
    settings: TrainSettings,
    threads: int,
    on_tree: OnTree,
) -> Fit:
    """Fit on encoded rows with a ``__label__`` column, once for each seed, and average.

    ``on_tree`` is called after every tree with what is being done, the number of trees and, while that number is being
    searched for, the log loss of the valid side.
    """
    import numpy as np

    watched, everything = thinned(valid, settings.watched_rows), train.vstack(valid)
    raw, trees, boosters = np.zeros(watched.height), [], []
    for number, seeded in enumerate(_seeded(settings), 1):
        which = f"fit {number} of {settings.seeds}, " if settings.seeds > 1 else ""
        chosen = search(train, watched, encoder, seeded, threads, partial(on_tree, which))
        raw += np.asarray(chosen.predict(_inputs(watched), num_threads=threads, raw_score=True))
        trees.append(chosen.best_iteration)
        which += "refitting on train and valid, "
        boosters.append(_refit(everything, encoder, seeded, threads, trees[-1], partial(on_tree, which)))
    return Fit(
        booster=averaged(boosters),
        trees=trees,
        labels=watched[LABEL].to_numpy(),
        probabilities=1 / (1 + np.exp(-raw / settings.seeds)),
        parameters={**_parameters(settings, encoder, threads), "num_threads": None},
    )


def _seeded(settings: TrainSettings) -> list[TrainSettings]:
    """The settings of each fit: they differ by the seed."""
    seeds = [(settings.seed + number) % 2**31 for number in range(settings.seeds)]
    return [settings.model_copy(update={"seed": seed}) for seed in seeds]


def averaged(boosters: Sequence[Booster]) -> Booster:
    """One booster whose raw score is the mean of theirs."""
    if len(boosters) == 1:
        return boosters[0]
    text = average([booster.model_to_string() for booster in boosters])
    booster: Booster = import_lightgbm().Booster(model_str=text)
    return booster


def search(
    train: pl.DataFrame,
    watched: pl.DataFrame,
    encoder: Encoder,
    settings: TrainSettings,
    threads: int,
    on_tree: Callable[[int, float | None], None],
) -> Booster:
    """Add trees until the watched rows stop improving; ``best_score`` and ``best_iteration`` tell what they reached."""
    lightgbm = import_lightgbm()
    parameters = _parameters(settings, encoder, threads)
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


def _refit(
    everything: pl.DataFrame,
    encoder: Encoder,
    settings: TrainSettings,
    threads: int,
    trees: int,
    on_tree: Callable[[int, None], None],
) -> Booster:
    parameters = _parameters(settings, encoder, threads)
    dataset = _dataset(everything, encoder, parameters)
    callbacks = [lambda env: on_tree(env.iteration + 1, None)]
    booster: Booster = import_lightgbm().train(parameters, dataset, num_boost_round=trees, callbacks=callbacks)
    return booster


# Settings of ours; the others go to LightGBM under their own names.
_OURS = {
    "max_rounds",
    "early_stopping_rounds",
    "min_improvement",
    "watched_rows",
    "baseline_rows",
    "seeds",
    "calibrate",
    "tune_minutes",
    "tune_rows",
}


def _parameters(settings: TrainSettings, encoder: Encoder, threads: int) -> dict[str, Any]:
    directions = encoder.monotone
    constraints = {"monotone_constraints": directions, "monotone_constraints_method": "intermediate"}
    return {
        **settings.model_dump(exclude=_OURS),
        **(constraints if any(directions) else {}),
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
