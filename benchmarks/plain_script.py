"""What one would write without a toolkit: read, split, encode, train the same LightGBM, score the test rows.

No validation, no artifacts, no hashes, no registry, no gate, no baseline: `python plain_script.py FILE.parquet`.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import lightgbm as lgb
import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

TARGET, NUMBERS = "Response", ["Age", "Annual_Premium", "Vintage"]
NAMES = [
    "Gender",
    "Driving_License",
    "Region_Code",
    "Previously_Insured",
    "Vehicle_Age",
    "Vehicle_Damage",
    "Policy_Sales_Channel",
]
PARAMETERS = {
    "objective": "binary",
    "metric": "binary_logloss",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.7,
    "lambda_l2": 10.0,
    "cat_smooth": 100.0,
    "cat_l2": 50.0,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    "verbose": -1,
}

rows = pl.read_parquet(sys.argv[1])
point = np.random.default_rng(1).random(rows.height)
test, valid = point < 0.20, (point >= 0.20) & (point < 0.36)
encoded = rows.select(
    *(pl.col(name).cast(pl.Float32) for name in NUMBERS),
    *(pl.col(name).cast(pl.String).cast(pl.Categorical).to_physical().cast(pl.UInt16) for name in NAMES),
)
labels = rows[TARGET].to_numpy()


def dataset(side: np.ndarray, reference: lgb.Dataset | None = None) -> lgb.Dataset:
    return lgb.Dataset(
        encoded.filter(side), labels[side], categorical_feature=NAMES, reference=reference, params=PARAMETERS
    )


train = dataset(~test & ~valid)
searched = lgb.train(
    PARAMETERS,
    train,
    1_000,
    valid_sets=[dataset(valid, train)],
    callbacks=[lgb.early_stopping(30, verbose=False, min_delta=1e-5)],
)
model = lgb.train(PARAMETERS, dataset(~test), searched.best_iteration)
scores = model.predict(encoded.filter(test))
print(f"{searched.best_iteration} trees, test AUC {roc_auc_score(labels[test], scores):.4f}")
