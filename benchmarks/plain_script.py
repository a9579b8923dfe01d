"""What one would write without a toolkit: read, split, encode, train the same LightGBM, score the test rows.

The split is that of vehins, by a hash of the id: on another one it would train other trees, and more or fewer of them.
No validation, no artifacts, no hashes, no registry, no gate, no baseline: `python plain_script.py FILE.parquet`.
"""

from __future__ import annotations

import hashlib
import os
import sys

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import lightgbm as lgb
import numpy as np
import polars as pl
import polars_hash  # noqa: F401 - registers the namespace `nchash`
from sklearn.metrics import roc_auc_score

TARGET, NUMBERS = "Response", ["Age", "Annual_Premium", "Vintage"]
FEATURES = [
    "Gender",
    "Age",
    "Driving_License",
    "Region_Code",
    "Previously_Insured",
    "Vehicle_Age",
    "Vehicle_Damage",
    "Annual_Premium",
    "Policy_Sales_Channel",
    "Vintage",
]
NAMES = [name for name in FEATURES if name not in NUMBERS]
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
seed = int(hashlib.sha256(b"vehins").hexdigest()[:16], 16)
point = rows.select(pl.col("id").cast(pl.String).nchash.xxhash64(seed=seed)).to_series().to_numpy() / 2.0**64
test, valid = point < 0.20, (point >= 0.20) & (point < 0.36)
encoded = rows.select(
    pl.col(name).cast(pl.Float32) if name in NUMBERS else pl.col(name).cast(pl.String).rank("dense").cast(pl.UInt16)
    for name in FEATURES
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
