"""Parquet: a file, a folder of files, or a glob."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vehins.data.sources import ReadOptions, _files
from vehins.errors import SourceFormatError

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema

SUMMARY = "`PATH.parquet` (a file, a folder or a glob of Parquet files)"
SUFFIXES = (".parquet", ".pq")


def matches(url: str) -> bool:
    """Whether the address is one of this kind."""
    return _files.names_files(url, SUFFIXES)


def open_source(url: str, options: ReadOptions) -> ParquetSource:
    """Find the files behind the address."""
    return ParquetSource(_files.Files(_files.strip_scheme(url), _files.find(url, SUFFIXES)), options.batch_rows)


class ParquetSource:
    """Parquet files of the same columns."""

    def __init__(self, files: _files.Files, batch_rows: int) -> None:
        self._files = files
        self._batch_rows = batch_rows
        self.label = files.label

    def token(self) -> str:
        """Digest of the content."""
        return self._files.token()

    def batches(self, schema: TableSchema) -> Iterator[pl.DataFrame]:
        """Yield the rows; only the columns that the schema keeps are decoded, the others are named and left empty."""
        import polars as pl

        try:
            scan = pl.scan_parquet(self._files.paths, glob=False, hive_partitioning=False)
            kept = [pl.col(name) if name in schema.kept else pl.lit(None).alias(name) for name in scan.collect_schema()]
            yield from scan.select(kept).collect_batches(chunk_size=self._batch_rows)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceFormatError(
                f"{self.label} is not readable as Parquet",
                detail=str(error).splitlines()[0],
                hint="Write it again; all files of a folder or glob need the same columns and types.",
            ) from None
        self._files.check_unchanged()
