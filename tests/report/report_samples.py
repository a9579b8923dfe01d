"""Runs to report on, made of records alone, with the numbers of simulated customers. Nothing here imports pytest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np

from vehins.artifacts.comparison import RunDifference
from vehins.artifacts.drift import Drift
from vehins.artifacts.evaluation import Curves, EvaluationResult
from vehins.artifacts.manifest import KINDS, AnyManifest
from vehins.artifacts.runs import RunRecord
from vehins.model.drivers import Drivers
from vehins.report.story import Story

MOMENT = datetime(2026, 11, 24, 10, 11, 12, tzinfo=UTC)
STAGES = ("ingest", "validate", "transform", "train", "evaluate", "push")
CUSTOMERS = 6_000
COST, SALE = 1.0, 5.0


@cache
def scores(seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and the probabilities of a model: the truth with some noise."""
    truth = np.random.default_rng(7).normal(-2.6, 1.7, CUSTOMERS)
    labels = np.random.default_rng(8).random(CUSTOMERS) < 1 / (1 + np.exp(-truth))
    seen = truth + np.random.default_rng(seed).normal(0, noise, CUSTOMERS)
    return labels, 1 / (1 + np.exp(-seen))


def ranked(seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities, the highest first."""
    labels, found = scores(seed, noise)
    order = np.argsort(-found)
    return labels[order], found[order]


def metrics(seed: int = 1, noise: float = 0.3) -> dict[str, Any]:
    labels, found = scores(seed, noise)
    ranks = found.argsort().argsort() + 1
    positives = int(labels.sum())
    auc = (ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * (CUSTOMERS - positives))
    hits, _ = ranked(seed, noise)
    precision = np.cumsum(hits) / np.arange(1, CUSTOMERS + 1)
    loss = -float(np.mean(np.where(labels, np.log(found), np.log1p(-found))))
    return {
        "auc": float(auc),
        "auc_low": float(auc) - 0.008,
        "auc_high": float(auc) + 0.008,
        "average_precision": float(precision[hits].mean()),
        "average_precision_low": float(precision[hits].mean()) - 0.02,
        "average_precision_high": float(precision[hits].mean()) + 0.02,
        "log_loss": loss,
        "brier": float(np.mean((found - labels) ** 2)),
        "ks": 0.61,
        "expected_calibration_error": 0.0071,
        "calibration_chance": 0.0093,
        "rows": CUSTOMERS,
        "positives": positives,
    }


def gains(seed: int = 1, noise: float = 0.3) -> list[dict[str, Any]]:
    hits, found = ranked(seed, noise)
    rows = []
    for share in (0.05, 0.1, 0.2, 0.3, 0.5):
        size = int(share * CUSTOMERS)
        caught = int(hits[:size].sum())
        rows.append(
            {
                "share": share,
                "customers": size,
                "cutoff": float(found[size - 1]),
                "positives": caught,
                "recall": caught / hits.sum(),
                "precision": caught / size,
                "lift": caught / size / hits.mean(),
            }
        )
    return rows


def calibration(seed: int = 1, noise: float = 0.3) -> list[dict[str, Any]]:
    labels, found = scores(seed, noise)
    parts = np.array_split(np.argsort(found), 20)
    rows = []
    for part in parts:
        rate, n = labels[part].mean(), len(part)
        half = 1.96 * np.sqrt((rate * (1 - rate) + 1 / n) / n)
        rows.append(
            {
                "rows": n,
                "positives": int(labels[part].sum()),
                "mean_probability": float(found[part].mean()),
                "observed_rate": float(rate),
                "low": max(0.0, float(rate - half)),
                "high": min(1.0, float(rate + half)),
            }
        )
    return rows


def campaign(customers: float, sales: float) -> dict[str, Any]:
    profit = SALE * sales - COST * customers
    return {
        "customers": customers,
        "share": customers / CUSTOMERS,
        "sales": sales,
        "profit": profit,
        "profit_low": profit - 60,
        "profit_high": profit + 60,
    }


def profit(seed: int = 1, noise: float = 0.3) -> dict[str, Any]:
    hits, found = ranked(seed, noise)
    made = SALE * np.cumsum(hits) - COST * np.arange(1, CUSTOMERS + 1)
    called, best = int((found >= COST / SALE).sum()), int(made.argmax()) + 1
    return {
        "contact_cost": COST,
        "sale_value": SALE,
        "capacity": None,
        "capacity_here": CUSTOMERS,
        "cutoff": COST / SALE,
        "model": campaign(called, int(hits[:called].sum())),
        "random": campaign(called, called * hits.mean()),
        "everybody": campaign(CUSTOMERS, int(hits.sum())),
        "nobody": campaign(0, 0),
        "best": campaign(best, int(hits[:best].sum())),
        "best_cutoff": float(found[best - 1]),
    }


def model_curves(seed: int = 1, noise: float = 0.3, version: int | None = None) -> dict[str, Any]:
    labels, found = scores(seed, noise)
    hits, _ = ranked(seed, noise)
    at = np.unique(np.linspace(0, CUSTOMERS, 200).astype(int))
    caught = np.concatenate([[0], np.cumsum(hits)])[at]
    missed = at - caught
    edges = np.linspace(0, 1, 41)
    made = SALE * caught - COST * at
    precision = np.where(at == 0, caught[1] / at[1], caught / np.maximum(at, 1))
    return {
        "bundle": "b" * 64,
        "version": version,
        "roc": {"x": (missed / missed[-1]).tolist(), "y": (caught / caught[-1]).tolist()},
        "precision_recall": {"x": (caught / caught[-1]).tolist(), "y": precision.tolist()},
        "gains": {"x": (at / CUSTOMERS).tolist(), "y": (caught / caught[-1]).tolist()},
        "profit": {"x": (at / CUSTOMERS).tolist(), "y": made.tolist()},
        "histogram": {
            "edges": edges.tolist(),
            "negatives": np.histogram(found[~labels], edges)[0].tolist(),
            "positives": np.histogram(found[labels], edges)[0].tolist(),
        },
    }


def slices(champion: bool) -> list[dict[str, Any]]:
    groups = {
        "Gender": ["Female", "Male"],
        "Age": ["20 to 25", "25 to 36", "36 to 49", "49 to 85"],
        "Vehicle_Age": ["1-2 Year", "< 1 Year", "> 2 Years"],
    }
    found = []
    for column, names in groups.items():
        for number, name in enumerate(names):
            auc, half = 0.84 - 0.03 * number, 0.01 + 0.01 * number
            row = {
                "column": column,
                "slice": name,
                "rows": CUSTOMERS // len(names),
                "positives": 700 // len(names),
                "mean_probability": 0.12,
                "observed_rate": 0.118,
                "auc": auc,
                "auc_low": auc - half,
                "auc_high": auc + half,
            }
            against = {"champion_auc": auc - 0.004, "auc_difference": 0.004, "standard_error": 0.002, "bound": -0.006}
            found.append({**row, "comparison": against} if champion else row)
    few = {"column": "Vehicle_Age", "slice": "(missing)", "rows": 3, "positives": 0}
    return [*found, {**few, "mean_probability": 0.1, "observed_rate": 0.0, "reason": "There are no buyers among them."}]


def drift() -> Drift:
    def column(name: str, psi: float, now: list[float]) -> dict[str, Any]:
        then = [0.25] * 4
        bins = [
            {"label": f"{name} {i}", "expected": a, "actual": b} for i, (a, b) in enumerate(zip(then, now, strict=True))
        ]
        return {"column": name, "role": "feature", "psi": psi, "chance": 0.004, "bins": bins}

    columns = [
        column("Policy_Sales_Channel", 0.31, [0.1, 0.2, 0.3, 0.4]),
        column("Age", 0.12, [0.2, 0.2, 0.3, 0.3]),
        column("Gender", 0.001, [0.25, 0.25, 0.25, 0.25]),
        {"column": "Response", "role": "target", "psi": None, "chance": None, "bins": [], "reason": "It is constant."},
    ]
    return Drift.model_validate(
        {"version": 3, "bundle": "c" * 64, "rows": 30_000, "reference_rows": 24_000, "columns": columns}
    )


def drivers() -> Drivers:
    def influence(name: str, size: float, values: dict[str, float], sentence: str) -> dict[str, Any]:
        effects = [{"value": value, "rows": 400, "mean": mean} for value, mean in values.items()]
        return {"feature": name, "mean_absolute": size, "effects": effects, "sentence": sentence}

    ages = {"20 to 23": -0.61, "23 to 28": -0.42, "28 to 41": 0.38, "41 to 52": 0.4, "52 to 85": -0.1}
    influences = [
        influence("Vehicle_Damage", 1.21, {"Yes": 1.1, "No": -1.32}, "Lowest for No (-1.32), highest for Yes (+1.10)."),
        influence("Previously_Insured", 1.02, {"0": 0.9, "1": -1.15}, "Lowest for 1 (-1.15), highest for 0 (+0.90)."),
        influence("Age", 0.41, ages, "Lowest for 20 to 23 (-0.61), highest for 41 to 52 (+0.40)."),
        influence("Policy_Sales_Channel", 0.33, {"152": -0.3, "26": 0.41, "124": 0.2, "160": -0.7}, "Lowest for 160."),
        influence("Region_Code", 0.12, {"28": 0.13, "8": -0.06, "46": -0.1}, "Lowest for 46 (-0.10)."),
        influence("Vintage", 0.0, {}, "It is the same for all rows."),
    ]
    return Drivers.model_validate({"rows": 2_000, "influences": influences})


def evaluation(champion: bool = True, **changes: Any) -> dict[str, Any]:
    """The result of an evaluation."""
    rival = {
        "version": 3,
        "bundle": "c" * 64,
        "metrics": metrics(2, 0.7),
        "auc_difference": metrics()["auc"] - metrics(2, 0.7)["auc"],
        "auc_difference_low": 0.0021,
        "gains": gains(2, 0.7),
        "calibration": calibration(2, 0.7),
        "profit": profit(2, 0.7),
    }
    rules = [
        rule("enough_rows", 712.0, 50.0, "The test side has 712 customers of the rarer class; a verdict needs 50."),
        rule("auc_floor", 0.8571, 0.6, "The AUC is at least 0.8571 with confidence; the floor is 0.6."),
        rule("better_than_champion", 0.0021, 0.0, "With 95% confidence the AUC is better by at least 0.0021."),
    ]
    found = {
        "bundle": "b" * 64,
        "confidence": 0.95,
        "metrics": metrics(),
        "gains": gains(),
        "calibration": calibration(),
        "slices": slices(champion),
        "profit": profit(),
        "drift": drift() if champion else None,
        "integrity": INTEGRITY,
        "champion": rival if champion else None,
        "rules": rules if champion else rules[:2],
        "verdict": "accept",
    }
    return EvaluationResult.model_validate({**found, **changes}).model_dump(mode="json")


INTEGRITY = {
    "rows": CUSTOMERS,
    "expected_rows": CUSTOMERS,
    "digest_matches": True,
    "duplicated_keys": 0,
    "misplaced_rows": 0,
    "share": 0.2,
    "expected_share": 0.2,
    "share_z": 0.1,
    "base_rate": 0.12,
    "other_base_rate": 0.121,
    "base_rate_z": -0.2,
}


def rule(name: str, value: float | None, bound: float, sentence: str, verdict: str = "pass") -> dict[str, Any]:
    return {"name": name, "value": value, "bound": bound, "verdict": verdict, "sentence": sentence}


def results(champion: bool = True) -> dict[str, dict[str, Any]]:
    """What each stage found, by kind."""
    return {
        "Dataset": {
            "source": "customers.csv",
            "schema_name": "vehicle-insurance",
            "rows": 30_012,
            "rows_by_side": {"train": 19_210, "valid": 4_801, "test": CUSTOMERS},
            "row_digest": "30012-00ff",
            "missing_columns": [],
            "extra_columns": ["Fax"],
            "unparsed_cells": 1,
        },
        "Validation": {
            "rows": 30_012,
            "quarantined_rows": 12,
            "anomalies": [
                {
                    "column": "Age",
                    "rule": "too_small",
                    "expected": "at least 18",
                    "rows": 12,
                    "share": 0.0004,
                    "examples": [{"key": "7", "value": "-1"}, {"key": "19", "value": "3"}],
                }
            ],
            "statistics": [
                {"column": "Age", "dtype": "int", "nulls": 0, "mean": 38.8, "minimum": 20.0, "maximum": 85.0}
                | {"quartiles": [25.0, 36.0, 49.0], "standard_deviation": 15.5},
                {"column": "Gender", "dtype": "string", "nulls": 1, "distinct": 2, "top": {"Male": 16_000}},
            ],
            "verdict": "accept",
            "reasons": [],
        },
        "FeatureSet": {
            "features": ["Age", "Gender"],
            "categories": {"Gender": 2},
            "train_rows": 19_210,
            "valid_rows": 4_801,
            "train_positives": 2_300,
            "valid_positives": 580,
        },
        "TrainedModel": {
            "bundle": "b" * 64,
            "trees": 198,
            "rows": 24_011,
            "valid_auc": 0.8603,
            "valid_log_loss": 0.2646,
            "parameters": {"learning_rate": 0.05, "num_threads": None, "objective": "binary"},
            "importance": {"Vehicle_Damage": 0.52, "Previously_Insured": 0.3, "Age": 0.1, "Region_Code": 0.08},
            "baseline": {"name": "logistic regression", "rows": 7, "valid_auc": 0.84, "valid_log_loss": 0.3},
        },
        "Evaluation": evaluation(champion),
        "PushedModel": {
            "registry": "registry",
            "model": "vehicle-insurance",
            "version": 4 if champion else 1,
            "alias": "production",
            "previous": 3 if champion else None,
            "registered": True,
            "promoted": True,
        },
    }


def manifest(kind: str, stage: str, result: dict[str, Any], **changes: Any) -> AnyManifest:
    fields = {
        "id": f"20261124T101112000000Z-{stage}",
        "stage": stage,
        "fingerprint": "f" * 64,
        "content": f"content of {kind}",
        "created_at": MOMENT,
        "seconds": 1.25,
        "inputs": [],
        "settings": {f"{stage}.seed": 1},
        "outside": {},
        "code": {"version": "0.1.0", "source": "s" * 64, "revision": "0888bb8"},
        "libraries": {"polars": "2.1.0"},
        "files": [],
        "result": result,
        **changes,
    }
    return KINDS[kind].model_validate(fields)


def run(stages: list[dict[str, Any]], outcome: str = "completed", number: int = 1) -> RunRecord:
    return RunRecord.model_validate(
        {
            "run": f"20261124T10111{number}-abcdef",
            "command": "vehins pipeline run --source customers.csv",
            "started_at": MOMENT,
            "ended_at": MOMENT + timedelta(seconds=17),
            "outcome": outcome,
            "exit_code": 0,
            "pid": 1,
            "host": "host",
            "stages": stages,
        }
    )


def story(
    upto: str = "push",
    *,
    champion: bool = True,
    status: str = "ran",
    outcome: str = "completed",
    reason: str = "first run",
    number: int = 1,
    noise: float = 0.3,
    manifest_changes: dict[str, dict[str, Any]] | None = None,
    **result_changes: dict[str, Any],
) -> Story:
    """A run up to a stage, which ended with ``status``; ``result_changes`` by kind."""
    last = STAGES.index(upto)
    kinds = dict(zip(STAGES, KINDS, strict=True))
    stages: list[dict[str, Any]] = []
    manifests: dict[str, AnyManifest] = {}
    for place, stage in enumerate(STAGES):
        found = "ran" if place < last else status if place == last else "skipped"
        made = found in {"ran", "reused", "refused"}
        if made:
            result = {**results(champion)[kinds[stage]], **result_changes.get(kinds[stage], {})}
            more = (manifest_changes or {}).get(kinds[stage], {})
            manifests[kinds[stage]] = manifest(kinds[stage], stage, result, **more)
        artifact = f"{kinds[stage]}/{manifests[kinds[stage]].id}" if made else None
        why = reason if place == last else f"{upto} stopped the chain" if found == "skipped" else "first run"
        stages.append({"stage": stage, "status": found, "reason": why, "artifact": artifact, "seconds": 0.5})
    evaluated = "Evaluation" in manifests
    curves = {"challenger": model_curves(1, noise), "champion": model_curves(2, 0.7, 3) if champion else None}
    return Story(
        run=run(stages, outcome, number),
        manifests=manifests,
        curves=Curves.model_validate(curves) if evaluated else None,
        drivers=drivers() if evaluated else None,
    )


def difference(**changes: Any) -> RunDifference:
    """What differs between two runs, from the second of a page to the first."""
    stages = [
        {"stage": "ingest", "a": "Dataset/d1", "b": "Dataset/d1", "change": "same", "reasons": []},
        {"stage": "train", "a": "T/t1", "b": "T/t2", "change": "changed", "reasons": ["setting train.seed 2 -> 1"]},
        {"stage": "push", "a": None, "b": "P/p1", "change": "only in b", "reasons": ["not part of the first run"]},
    ]
    settings = [{"name": "train.seed", "a": 2, "b": 1}]
    data = [{"name": "Dataset.rows", "a": 30_000, "b": 30_012}]
    fields = {"a": "run 2", "b": "run 1", "stages": stages, "settings": settings, "data": data, "metrics": []}
    return RunDifference.model_validate({**fields, **changes})
