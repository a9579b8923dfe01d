"""`vehins predict` on disks that are full: said so, nothing half-written, the old file still there."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import polars as pl
import pytest
from test_disks import DISK, FULL, fill, mounted
from vehins_runner import customers, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vehins_runner import Vehins

MANY = "demo://?rows=60000"


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    with mounted(place, "3m") as disk:
        yield disk


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
@pytest.mark.parametrize("leave", [0, 200_000, 500_000])
def test_full_where_the_scores_go(name: str, leave: int, small_disk: Path, finished: Vehins) -> None:
    target = DISK / name
    finished("predict", "demo://?rows=100", target)
    old = target.read_bytes()
    filler = fill(small_disk, leave)
    before = tree(DISK)
    error = finished("predict", MANY, target, "--json", code=6).error
    assert error["headline"] == FULL
    assert error["hint"]
    assert tree(DISK) == before
    assert target.read_bytes() == old
    filler.unlink()
    finished("predict", "demo://?rows=2000", target)


def test_full_where_the_quarantine_goes(small_disk: Path, finished: Vehins) -> None:
    ages = pl.when(pl.col("id") % 2 == 0).then(5).otherwise("Age")
    customers(60_000).with_columns(Age=ages).write_parquet("in.parquet")
    fill(small_disk, 100_000)
    before = tree(DISK)
    words = ("--quarantine", DISK / "bad.csv", "--json")
    error = finished("predict", "in.parquet", "out.csv", *words, code=6).error
    assert error["headline"] == FULL
    assert tree(DISK) == before


@pytest.mark.parametrize("leave", [0, 300_000])
def test_full_where_temporary_files_go(
    leave: int, small_disk: Path, finished: Vehins, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(small_disk, leave)
    before = tree(DISK)
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    error = finished("predict", MANY, "out.csv", "--json", code=6).error
    assert error["headline"] == FULL
    assert "TMPDIR" in error["hint"]
    assert tree(DISK) == before
    assert not (place / "out.csv").exists()
