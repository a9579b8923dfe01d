"""Parquet: a file, a folder of files, or a glob."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vehins.data.sources import ReadOptions, _files
from vehins.errors import SourceFormatError
from vehins.remote.probes import Check

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema

SUMMARY = "`PATH.parquet` (a file, a folder or a glob of Parquet files)"
SUFFIXES = (".parquet", ".pq")
CHECKS = _files.CHECKS


def matches(url: str) -> bool:
    """Whether the address is one of this kind."""
    return _files.names_files(url, SUFFIXES)


def open_source(url: str, options: ReadOptions) -> ParquetSource:
    """Find the files behind the address."""
    return ParquetSource(_files.Files(_files.strip_scheme(url), _files.find(url, SUFFIXES)), options.batch_rows)


def probe(url: str, options: ReadOptions) -> Iterator[Check]:  # noqa: ARG001 - the signature of every kind
    """Check the way to the rows."""
    return _files.probe(url, SUFFIXES)


def columns(url: str, options: ReadOptions, schema: TableSchema) -> list[str]:  # noqa: ARG001 - likewise
    """The names of the columns of the first file; errors as `ParquetSource.batches`."""
    import polars as pl

    path = _files.find(url, SUFFIXES)[0]
    try:
        return pl.scan_parquet(path, glob=False, hive_partitioning=False).collect_schema().names()
    except OSError as error:
        raise _files.unreachable(path, error) from None
    except pl.exceptions.PolarsError as error:
        raise _damaged(path, error) from None


class ParquetSource:
    """Parquet files of the same columns; their order and types may differ.

    With ``any_case``, the case of a column may differ from that in the schema; it keeps its own name all the same.
    """

    def __init__(self, files: _files.Files, batch_rows: int, any_case: bool = False) -> None:
        self._files = files
        self._fold = str.casefold if any_case else str
        self._batch_rows = batch_rows
        self.label = files.label

    def token(self) -> str:
        """Digest of the content."""
        return self._files.token()

    def batches(self, schema: TableSchema) -> Iterator[pl.DataFrame]:
        """Yield the rows; only the columns that the schema keeps are decoded, the others are named and left empty."""
        import polars as pl

        first, wanted = Path(), list[str]()
        kept = {self._fold(name) for name in schema.kept}
        for path in self._files.each():
            try:
                scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
                names = scan.collect_schema().names()
                first, wanted = (first, wanted) if wanted else (path, names)
                _files.check_columns(path, names, first, wanted)
                unwanted = [pl.lit(None).alias(name) for name in names if self._fold(name) not in kept]
                yield from scan.with_columns(unwanted).collect_batches(chunk_size=self._batch_rows)
            except OSError as error:
                raise _files.unreachable(path, error) from None
            except pl.exceptions.PolarsError as error:
                raise _damaged(path, error) from None
        self._files.check_unchanged()


def _damaged(path: Path, error: Exception) -> SourceFormatError:
    hint = "Write it again: it is damaged, incomplete, or no Parquet."
    return SourceFormatError(f"{path} is not readable as Parquet", detail=str(error).splitlines()[0], hint=hint)
