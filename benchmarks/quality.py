"""vehins beside other libraries on real customers: how good, how quick, how large.

All have the same rows on the same sides. vehins is measured as `vehins train` (it reads what `transform` has encoded,
searches for the number of trees, refits, fits its baseline, and writes a bundle); the others from reading a Parquet
file of all rows to the scores of the test side (`peers.py`). Each is a process of its own; scores are judged here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from benchmarks import measure
from benchmarks.peers import PEERS
from vehins.artifacts.manifest import Dataset, TrainedModel, Validation
from vehins.artifacts.workspace import Workspace
from vehins.data import parts
from vehins.data.split import SIDE, TEST
from vehins.model import metrics
from vehins.model.bundle import Bundle

if TYPE_CHECKING:
    from numpy.typing import NDArray

HERE = Path(__file__).parent
# The public table lies beside the repository, if it is there at all.
REAL_ROWS = HERE.parents[1] / "shared" / "data" / "vehicle-insurance.parquet"
VEHINS = [sys.executable, "-m", "vehins"]
OURS = {"vehins": [], "vehins --seeds 5": ["--seeds", "5"], "vehins --tune 5": ["--tune", "5"]}
LIBRARIES = ("vehins", "lightgbm", "scikit-learn", "xgboost", "xgboost-cpu", "catboost", "optuna")
HEADER = (
    "model",
    "AUC",
    "minus vehins (SE)",
    "average precision",
    "log loss",
    "ECE",
    "seconds",
    "CPU seconds",
    "peak MB",
)


def quality(folder: Path, file: Path | None) -> None:
    """Print the table, as Markdown."""
    workspace = prepared(file, folder / "workspace")
    rows = clean_rows(workspace)
    rows.write_parquet(folder / "rows.parquet")
    test = rows.filter(pl.col(SIDE) == TEST)
    labels = test["__label__"].to_numpy()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {_versions()}; {test.height:,} test rows of {rows.height:,}\n")
    print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER), flush=True)
    ours: NDArray[np.float64] | None = None
    for name, run in _contestants(workspace, folder, test).items():
        scores, cost = run()
        ours = scores if ours is None else ours
        print(_line(name, labels, scores, ours, cost), flush=True)


def prepared(file: Path | None, workspace: Path) -> Path:
    """A workspace in which the customers are ingested, validated and encoded."""
    source = file or REAL_ROWS
    if not source.exists():
        sys.exit(f"There are no customers at {source}; name a Parquet file: --file.")
    for words in (["ingest", "--source", str(source)], ["validate"], ["transform"]):
        measure.run([*VEHINS, *words, "--workspace", str(workspace)])
    return workspace


def clean_rows(workspace: Path) -> pl.DataFrame:
    """Its rows with their side and their label."""
    found = Workspace(workspace)
    dataset, validation = found.newest(Dataset), found.newest(Validation)
    assert dataset is not None
    assert validation is not None
    table = parts.schema_of(dataset)
    label = (pl.col(table.target) == table.columns[table.target].positive).cast(pl.UInt8).alias("__label__")
    return parts.clean_rows(dataset, validation).select(*table.features, SIDE, label).collect()


Run = Callable[[], tuple["NDArray[np.float64]", measure.Cost]]


def _contestants(workspace: Path, folder: Path, test: pl.DataFrame) -> dict[str, Run]:
    """Who takes part, ours first; the others without and with vehins' refit."""

    def ours(words: list[str]) -> tuple[NDArray[np.float64], measure.Cost]:
        cost = measure.run([*VEHINS, "train", "--workspace", str(workspace), *words])
        model = Workspace(workspace).newest(TrainedModel)
        assert model is not None
        return Bundle(model.path("bundle"), 1).predict(test.lazy()), cost

    def peer(name: str) -> tuple[NDArray[np.float64], measure.Cost]:
        place = folder / "scores.parquet"
        cost = measure.run([sys.executable, str(HERE / "peers.py"), name, str(folder / "rows.parquet"), str(place)])
        return pl.read_parquet(place)["score"].to_numpy(), cost

    peers = [*PEERS, *(f"{name}+refit" for name in PEERS)]
    return {
        **{name: lambda words=words: ours(words) for name, words in OURS.items()},
        **{name: lambda name=name: peer(name) for name in peers},
    }


def _line(
    name: str,
    labels: NDArray[np.uint8],
    scores: NDArray[np.float64],
    ours: NDArray[np.float64],
    cost: measure.Cost,
) -> str:
    beside = metrics.auc_difference(labels, scores, ours)
    cells = (
        name,
        f"{metrics.auc(labels, scores):.5f}",
        "" if scores is ours else f"{beside.difference:+.5f} ({beside.standard_error:.5f})",
        f"{metrics.average_precision(labels, scores):.4f}",
        f"{metrics.log_loss(labels, scores):.5f}",
        f"{metrics.expected_calibration_error(labels, scores):.4f}",
        f"{cost.seconds:.1f}",
        f"{cost.cpu_seconds:.1f}",
        f"{cost.peak_mb:,.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def _versions() -> str:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
