"""Rows that have changed, laid over those of an earlier data set: told apart by what their store calls them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from vehins.data import parts
from vehins.data.checks import UNPARSED
from vehins.data.conform import ID, ROW
from vehins.data.split import row_text, text_hash

if TYPE_CHECKING:
    import polars as pl

    from vehins.artifacts.manifest import Dataset
    from vehins.artifacts.workspace import Artifact

_HASH = "hash"


class Kept(NamedTuple):
    """Rows of the earlier data set that nothing has taken the place of."""

    rows: pl.DataFrame
    cells: pl.DataFrame
    """Their unparsed cells, whose ``row`` counts from the first of these rows."""


class Changes:
    """The rows that were read, as far as the earlier ones are compared with them: 8 bytes and a name each."""

    def __init__(self, columns: list[str]) -> None:
        self._columns = columns
        self._read: list[pl.DataFrame] = []
        self.known = self.same = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Take note of typed rows, with ``__id__`` and ``__unparsed__``."""
        self._read.append(self._marks(rows))

    def _marks(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Name and hash of each row; a row with an unparsed cell counts as unlike any other."""
        import polars as pl

        text = row_text({name: rows.schema[name] for name in self._columns})
        return rows.select(ID, pl.when(~pl.col(UNPARSED)).then(text_hash(text, "changes")).alias(_HASH))

    def kept(self, previous: Artifact[Dataset]) -> Iterator[Kept]:
        """Yield the earlier rows that were not read again, part by part; count those that were."""
        import polars as pl

        read = pl.concat(self._read)
        cells = pl.read_parquet(previous.path(parts.UNPARSED_FILE))
        first = 0
        for path in parts.paths(previous):
            rows = pl.read_parquet(path, glob=False)
            again = self._marks(rows).join(read, on=ID, how="inner")
            self.known += again.height
            self.same += int((again[_HASH] == again[f"{_HASH}_right"]).sum())
            numbered = rows.with_row_index(ROW, offset=first)
            first += rows.height
            left = numbered.join(again, on=ID, how="anti", maintain_order="left")
            yield Kept(left.drop(ROW), _renumbered(cells, left[ROW]))


def _renumbered(cells: pl.DataFrame, numbers: pl.Series) -> pl.DataFrame:
    """The cells of the rows of these numbers, in their order, numbered from 0."""
    import polars as pl

    places = pl.DataFrame({"row": numbers.cast(pl.Int64), "place": pl.int_range(numbers.len(), eager=True)})
    found = cells.join(places, on="row", how="inner", maintain_order="left")
    return found.with_columns(pl.col("place").alias("row")).drop("place")
