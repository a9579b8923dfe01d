"""A file's probabilities are those that the service answers, to the last bit, over ten thousand real customers."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import polars as pl
import pytest
from vehins_runner import Vehins, customers

from vehins import settings
from vehins.serving.app import create_app
from vehins.serving.holder import Holder
from vehins.serving.predictor import load
from vehins.settings.sections import ServeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

REAL = Path(__file__).parents[3] / "shared" / "data" / "vehicle-insurance.parquet"
ROWS, AT_ONCE = 10_000, 1_000


def synthetic() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Customers to train on, and others to ask about."""
    rows = customers(20_000 + ROWS)
    return rows[:20_000], rows[20_000:]


def real() -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same of the published data."""
    if not REAL.exists():
        pytest.skip(f"the published customers are not there: {REAL.name}")
    rows = pl.read_parquet(REAL)
    return rows[:20_000], rows[-ROWS:]


def asked(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """What the service answers to raw rows, over HTTP."""
    holder = Holder(AT_ONCE)
    holder.put(load(settings.load().settings))
    app = create_app(holder, ServeSettings(max_rows=AT_ONCE))

    async def ask() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            for some in rows.drop("id", "Response").iter_slices(AT_ONCE):
                answer = await client.post("/v1/predict", json={"rows": some.to_dicts()})
                assert answer.status_code == 200, answer.text[:2000]
                found += answer.json()["predictions"]
        return found

    return asyncio.run(ask())


def in_csv(path: Path) -> Iterator[dict[str, Any]]:
    """The predictions of a CSV file, read by Python's own means."""
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            numbers = {name: float(row[name]) for name in ("probability", "percentile")}
            yield {**numbers, "contact": {"true": True, "false": False}[row["contact"]]}


@pytest.mark.slow
@pytest.mark.parametrize("tables", [synthetic, real])
def test_probabilities_are_those_that_are_served(tables: Any, vehins: Vehins) -> None:
    train, rows = tables()
    train.write_parquet("train.parquet")
    words = ("--set", "train.max_rounds=120", "--set", "gate.min_auc=0.5")
    vehins("pipeline", "run", "--source", "train.parquet", "--quiet", *words)
    rows.write_csv("in.csv")
    rows.write_parquet("in.parquet")
    served = asked(rows)
    assert len({answer["probability"] for answer in served}) > ROWS / 2
    for source in ("in.csv", "in.parquet"):
        for target in (Path("out.csv"), Path("out.parquet")):
            answer = vehins("predict", source, target, "--json").json
            assert (answer["scored"], answer["set_aside"]) == (ROWS, 0)
            if target.suffix == ".csv":
                found, keys = list(in_csv(target)), pl.read_csv(target)["id"]
            else:
                table = pl.read_parquet(target)
                found, keys = table.select(list(served[0])).to_dicts(), table["id"]
            assert found == served
            assert keys.equals(rows["id"])
