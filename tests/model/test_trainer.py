"""What the trainer judges by: evenly spaced rows, so many at most."""

from __future__ import annotations

import polars as pl
import pytest

from vehins.model.trainer import thinned


@pytest.mark.parametrize(("height", "at_most"), [(1, 1), (10, 10), (10, 3), (11, 10), (1_000, 999), (100_000, 7)])
def test_thinned_rows_are_at_most_so_many_and_evenly_spaced(height: int, at_most: int) -> None:
    found = thinned(pl.DataFrame({"at": range(height)}), at_most)["at"]
    assert at_most / 2 <= found.len() <= at_most
    assert found[0] == 0
    assert found.diff(null_behavior="drop").n_unique() <= 1


def test_a_small_table_is_kept_whole() -> None:
    rows = pl.DataFrame({"at": range(5)})
    assert thinned(rows, 5).equals(rows)
    assert thinned(rows, 250_000).equals(rows)
