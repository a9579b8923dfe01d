"""Rows on their way to a store, set down on disk first: everything is checked before anything is written there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vehins.data import conform
from vehins.data.checks import UNPARSED
from vehins.data.conform import ROW
from vehins.errors import SourceFormatError, StorageError, storage_error

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema
    from vehins.data.sources import Source


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder among the system's temporary files, which goes afterwards.

    Raises:
        StorageError: that disk is full or forbidden.
    """
    import polars as pl

    try:
        with tempfile.TemporaryDirectory(prefix="vehins-") as folder:
            yield Path(folder)
    except (OSError, pl.exceptions.PolarsError) as error:
        found = storage_error(error)
        if found is None:
            raise
        hint = "Free some space there, or name another folder for temporary files in the variable TMPDIR."
        detail = f"While rows were set down in {tempfile.gettempdir()}."
        raise StorageError(found.headline, detail=detail, hint=hint) from None


class Staging:
    """Typed rows as Parquet parts in a folder, numbered from 0 in the order of their source."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: list[Path] = []
        self.rows = 0
        self.cells = 0
        """How many cells are not of their type."""

    def add(self, rows: pl.DataFrame, unparsed: pl.DataFrame) -> None:
        """Set down a batch; ``unparsed`` are its cells that are not of their type (`conform.Conformed`)."""
        import polars as pl

        if rows.is_empty():
            return
        numbered = rows.with_columns(
            pl.int_range(self.rows, self.rows + rows.height, dtype=pl.Int64).alias(ROW),
        ).with_columns(pl.col(ROW).is_in(unparsed["row"].implode()).alias(UNPARSED))
        path = self._folder / f"part-{len(self._parts):05}.parquet"
        numbered.write_parquet(path, compression="lz4")
        unparsed.write_parquet(_cells_of(path), compression="lz4")
        self._parts.append(path)
        self.rows += rows.height
        self.cells += unparsed.height

    def frame(self) -> pl.LazyFrame:
        """All rows, with ``__row__`` and ``__unparsed__``."""
        import polars as pl

        return pl.scan_parquet(self._parts, glob=False)

    def unparsed(self) -> pl.LazyFrame:
        """Every cell that is not of its type."""
        import polars as pl

        return pl.scan_parquet([_cells_of(path) for path in self._parts], glob=False)

    def parts(self) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Yield `frame` and `unparsed` part by part."""
        import polars as pl

        for path in self._parts:
            yield pl.read_parquet(path, glob=False), pl.read_parquet(_cells_of(path), glob=False)

    def batches(self, without: pl.Series | None = None, *, numbered: bool = False) -> Iterator[pl.DataFrame]:
        """Yield the rows as they came, less those whose numbers are in ``without``; ``numbered`` by ``__row__``."""
        import polars as pl

        for path in self._parts:
            rows = pl.read_parquet(path, glob=False)
            if without is not None and without.len():
                rows = rows.filter(~pl.col(ROW).is_in(_within(without, rows).implode()))
            yield rows.drop(UNPARSED) if numbered else rows.drop(ROW, UNPARSED)


def stage(
    source: Source, table: TableSchema, folder: Path, progress: Callable[[str], None]
) -> tuple[Staging, list[str]]:
    """Set down the typed rows of a source in a folder; return them and the columns that they lack.

    The target is not looked at.

    Raises:
        SourceFormatError: there are no rows, or they lack a column that cannot be null.
    """
    staging, missing = Staging(folder), list[str]()
    for batch in source.batches(table):
        untargeted = batch.drop(table.target, conform.UNREAD + table.target, strict=False)
        if staging.rows == 0:
            missing = _missing(table, untargeted.columns, source.label)
        typed = conform.conform(untargeted, table, staging.rows)
        staging.add(typed.rows, typed.unparsed)
        progress(f"{staging.rows:,} rows read")
    if staging.rows == 0:
        raise SourceFormatError(f"{source.label} has no rows", hint="Name another source.")
    return staging, missing


def _missing(table: TableSchema, columns: list[str], label: str) -> list[str]:
    missing = [name for name in table.kept if name not in columns]
    needed = [name for name in missing if name != table.target and not table.columns[name].nullable]
    if needed:
        raise SourceFormatError(
            f"{label} does not have every column that the model needs",
            detail=f"Missing: {', '.join(f'`{name}`' for name in needed)}.",
            hint="Add what is missing to the source; if a column has another name there, rename it.",
        )
    return missing


def _within(numbers: pl.Series, rows: pl.DataFrame) -> pl.Series:
    """Those of the numbers that may be those of these rows."""
    return numbers.filter(numbers.is_between(rows[ROW][0], rows[ROW][-1]))


def _cells_of(part: Path) -> Path:
    return part.with_name(part.name.replace("part-", "cells-"))
