"""Other libraries at their defaults: `python peers.py NAME ROWS.parquet SCORES.parquet`.

ROWS has the columns of the schema, `__label__` and `__side__`. Each library fits on the train side with its own way of
taking categories, stops early on the valid side, and scores the test side. `NAME+refit` then fits the number of trees
that was found on both sides together, as vehins does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

NUMBERS = ["Age", "Annual_Premium", "Vintage"]
NAMES = [
    "Gender",
    "Driving_License",
    "Region_Code",
    "Previously_Insured",
    "Vehicle_Age",
    "Vehicle_Damage",
    "Policy_Sales_Channel",
]
PATIENCE, MAX_TREES, SEED = 30, 1_000, 1


class Rows:
    """The three sides; categories as codes, which are numbered over all rows."""

    def __init__(self, path: str) -> None:
        rows = pl.read_parquet(path)
        code = pl.col(NAMES).cast(pl.String).rank("dense") - 1
        table = rows.select(pl.col(NUMBERS).cast(pl.Float64), code.cast(pl.Int32))
        sides = {name: rows["__side__"] == name for name in ("train", "valid", "test")}
        sides["both"] = sides["train"] | sides["valid"]
        self.tables = {name: table.filter(side) for name, side in sides.items()}
        self.labels = {name: rows["__label__"].filter(side).to_numpy() for name, side in sides.items()}

    def matrix(self, side: str) -> np.ndarray:
        """One side as an array."""
        return self.tables[side].to_numpy()

    def frame(self, side: str, as_category: str) -> object:
        """One side for a library that takes pandas."""
        import pandas as pd

        table = self.tables[side]
        columns = {name: table[name].to_numpy() for name in NUMBERS}
        if as_category == "category":
            every = pl.concat(self.tables.values())
            for name in NAMES:
                codes = range(every[name].max() + 1)
                columns[name] = pd.Categorical(table[name].to_numpy(), categories=codes)
        else:
            columns |= {name: table[name].to_numpy() for name in NAMES}
        return pd.DataFrame(columns)


def hist_gradient_boosting(rows: Rows, refit: bool) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier

    codes = list(range(len(NUMBERS), len(NUMBERS) + len(NAMES)))
    shared = {"categorical_features": codes, "random_state": SEED}
    model = HistGradientBoostingClassifier(max_iter=MAX_TREES, early_stopping=True, n_iter_no_change=PATIENCE, **shared)
    model.fit(rows.matrix("train"), rows.labels["train"], X_val=rows.matrix("valid"), y_val=rows.labels["valid"])
    if refit:
        trees = int(np.argmax(model.validation_score_))
        model = HistGradientBoostingClassifier(max_iter=max(trees, 1), early_stopping=False, **shared)
        model.fit(rows.matrix("both"), rows.labels["both"])
    return model.predict_proba(rows.matrix("test"))[:, 1]


def xgboost(rows: Rows, refit: bool) -> np.ndarray:
    from xgboost import XGBClassifier

    def frame(side: str) -> object:
        return rows.frame(side, "category")

    shared = {"enable_categorical": True, "random_state": SEED}
    model = XGBClassifier(n_estimators=MAX_TREES, early_stopping_rounds=PATIENCE, eval_metric="logloss", **shared)
    model.fit(frame("train"), rows.labels["train"], eval_set=[(frame("valid"), rows.labels["valid"])], verbose=False)
    if refit:
        model = XGBClassifier(n_estimators=model.best_iteration + 1, **shared)
        model.fit(frame("both"), rows.labels["both"])
    return model.predict_proba(frame("test"))[:, 1].astype(np.float64)


def catboost(rows: Rows, refit: bool) -> np.ndarray:
    from catboost import CatBoostClassifier

    def frame(side: str) -> object:
        return rows.frame(side, "code")

    shared = {"cat_features": NAMES, "random_seed": SEED, "verbose": False, "allow_writing_files": False}
    model = CatBoostClassifier(early_stopping_rounds=PATIENCE, **shared)
    model.fit(frame("train"), rows.labels["train"], eval_set=(frame("valid"), rows.labels["valid"]))
    if refit:
        rate = model.learning_rate_  # chosen from the number of rows and of trees, which are others now
        model = CatBoostClassifier(iterations=model.tree_count_, learning_rate=rate, **shared)
        model.fit(frame("both"), rows.labels["both"])
    return model.predict_proba(frame("test"))[:, 1]


PEERS: dict[str, Callable[[Rows, bool], np.ndarray]] = {
    "hist_gradient_boosting": hist_gradient_boosting,
    "xgboost": xgboost,
    "catboost": catboost,
}


def main() -> None:
    """Fit one of them and write its scores."""
    name, source, target = sys.argv[1:]
    peer, _, refit = name.partition("+")
    scores = PEERS[peer](Rows(source), bool(refit))
    pl.DataFrame({"score": scores}).write_parquet(Path(target))


if __name__ == "__main__":
    main()
