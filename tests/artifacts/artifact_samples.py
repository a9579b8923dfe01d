"""Manifests of every kind, and artifacts made from them. Nothing here imports pytest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vehins.artifacts.manifest import KINDS, AnyManifest
from vehins.artifacts.workspace import Artifact, Workspace, new_id, record_files

if TYPE_CHECKING:
    from pathlib import Path

METRICS = {
    "auc": 0.86,
    "auc_low": 0.85,
    "auc_high": 0.87,
    "average_precision": 0.37,
    "log_loss": 0.26,
    "brier": 0.09,
    "rows": 1_000,
    "positives": 120,
}
RESULTS: dict[str, dict[str, Any]] = {
    "Dataset": {
        "source": "customers é.csv",
        "schema_name": "vehicle-insurance",
        "rows": 10,
        "rows_by_side": {"train": 7, "valid": 1, "test": 2},
        "row_digest": "10-00ff",
        "missing_columns": [],
        "extra_columns": ["x\x1f"],
        "unparsed_cells": 1,
    },
    "Validation": {
        "rows": 10,
        "quarantined_rows": 1,
        "anomalies": [
            {
                "column": "Age",
                "rule": "too small",
                "expected": "at least 18",
                "rows": 1,
                "share": 0.1,
                "examples": [{"key": "7", "value": "-1"}],
            }
        ],
        "statistics": [
            {"column": "Age", "dtype": "int", "nulls": 0, "mean": 38.8, "quartiles": [25.0, 36.0, 49.0]},
            {"column": "Gender", "dtype": "string", "nulls": 1, "distinct": 2, "top": {"Male": 5, "Female": 4}},
        ],
        "verdict": "accept",
        "reasons": [],
    },
    "FeatureSet": {
        "features": ["Age"],
        "categories": {"Gender": 2},
        "train_rows": 7,
        "valid_rows": 1,
        "train_positives": 2,
        "valid_positives": 1,
    },
    "TrainedModel": {
        "bundle": "b" * 64,
        "trees": 30,
        "rows": 8,
        "valid_auc": 0.85,
        "valid_log_loss": 0.26,
        "parameters": {"learning_rate": 0.05, "num_threads": None, "nested": {"a": [1, 2.0, "x"]}},
        "importance": {"Age": 0.75, "Gender": 0.25},
        "baseline": {"name": "logistic regression", "rows": 7, "valid_auc": 0.8, "valid_log_loss": 0.3},
    },
    "Evaluation": {
        "bundle": "b" * 64,
        "confidence": 0.95,
        "metrics": METRICS,
        "champion": {
            "version": 3,
            "bundle": "c" * 64,
            "metrics": METRICS,
            "auc_difference": 0.001,
            "auc_difference_low": -1e-5,
        },
        "rules": [{"name": "auc_floor", "value": 0.85, "bound": 0.6, "verdict": "pass", "sentence": "Yes."}],
        "verdict": "accept",
        "approved": None,
    },
    "PushedModel": {
        "registry": "/registry",
        "model": "car",
        "version": 4,
        "alias": "production",
        "previous": None,
        "registered": True,
        "promoted": False,
    },
}
MOMENT = datetime(2026, 11, 24, 10, 11, 12, 345678, tzinfo=UTC)


def sample(kind: str, **changes: Any) -> AnyManifest:
    """A manifest of some kind, without files."""
    fingerprint = changes.get("fingerprint", "f" * 64)
    fields = {
        "id": new_id(fingerprint, MOMENT),
        "stage": "some stage",
        "fingerprint": fingerprint,
        "content": "content of " + kind,
        "created_at": MOMENT,
        "seconds": 1.25,
        "inputs": [{"kind": "Dataset", "id": "d1", "manifest_sha256": "0" * 64, "content": "rows"}],
        "settings": {"train.seed": 1, "train.lambda_l2": 10.0},
        "outside": {"champion": None, "content": "é"},
        "code": {"version": "0.1", "source": "s" * 64},
        "libraries": {"polars": "2.1"},
        "files": [],
        "result": RESULTS[kind],
        **changes,
    }
    return KINDS[kind].model_validate(fields)


def make(
    workspace: Workspace, kind: str = "Dataset", *, number: int = 0, size: int = 10, **changes: Any
) -> Artifact[Any]:
    """Make an artifact of two files; a greater number is a newer one."""
    moment = MOMENT + timedelta(seconds=number)
    with workspace.draft(kind) as folder:
        fill(folder, size)
        fingerprint = changes.get("fingerprint", f"{number:064x}")
        fields = {"fingerprint": fingerprint, "id": new_id(fingerprint, moment), "created_at": moment, **changes}
        return workspace.commit(folder, sample(kind, files=record_files(folder, {"parts/a.txt": 3}), **fields))


def fill(folder: Path, size: int) -> None:
    (folder / "parts").mkdir()
    (folder / "parts" / "a.txt").write_bytes(b"a" * size)
    (folder / "b.txt").write_bytes(b"b" * size)
