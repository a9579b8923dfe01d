"""CSV in UTF-8: a file, a folder of files, or a glob. Every value is read as text; the schema gives it its type."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vehins.data.sources import ReadOptions, _files
from vehins.errors import SourceFormatError

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema

SUMMARY = "`PATH.csv` (a file, a folder or a glob of CSV files in UTF-8)"
SUFFIXES = (".csv", ".tsv")
_BLOCK = 1 << 20


def matches(url: str) -> bool:
    """Whether the address is one of this kind."""
    return _files.names_files(url, SUFFIXES)


def open_source(url: str, options: ReadOptions) -> CsvSource:
    """Find the files behind the address."""
    return CsvSource(_files.Files(_files.strip_scheme(url), _files.find(url, SUFFIXES)), options)


class CsvSource:
    """CSV files with a header line and the same columns."""

    def __init__(self, files: _files.Files, options: ReadOptions) -> None:
        self._files = files
        self._options = options
        self.label = files.label

    def token(self) -> str:
        """Digest of the content."""
        return self._files.token()

    def batches(self, schema: TableSchema) -> Iterator[pl.DataFrame]:
        """Yield the rows of all files, one after the other."""
        for path in self._files.paths:
            yield from self._of_file(path, schema)
        self._files.check_unchanged()

    def _of_file(self, path: Path, schema: TableSchema) -> Iterator[pl.DataFrame]:
        import polars as pl

        delimiter = "\t" if path.suffix == ".tsv" else self._options.csv_delimiter
        try:
            names = _header(path, delimiter)
            _check_header(path, names, delimiter, schema)
            scan = pl.scan_csv(path, separator=delimiter, infer_schema=False, glob=False)
            may_be_short = False
            for batch in scan.collect_batches(chunk_size=self._options.batch_rows):
                # polars fills a row that is too short with nulls, so its last column tells that there may be one.
                may_be_short = may_be_short or batch.to_series(-1).null_count() > 0
                yield batch
            if may_be_short:
                _check_ragged(path, delimiter, len(names))
        except pl.exceptions.PolarsError as error:
            raise _explained(path, delimiter, str(error)) from None


def _header(path: Path, delimiter: str) -> list[str]:
    """The names in the first line."""
    import polars as pl

    first = pl.scan_csv(
        path, separator="\x01", has_header=False, quote_char=None, infer_schema=False, n_rows=1, glob=False
    )
    line: str = first.collect().item() or ""
    return next(csv.reader([line.removeprefix("\ufeff").rstrip("\r")], delimiter=delimiter), [])


def _check_header(path: Path, names: list[str], delimiter: str, schema: TableSchema) -> None:
    duplicated = sorted({name for name in names if names.count(name) > 1})
    if duplicated:
        raise SourceFormatError(
            f"{path} has the column `{duplicated[0]}` {names.count(duplicated[0])} times",
            detail="Which of them is meant cannot be known.",
            hint="Rename or remove all but one in the first line of the file.",
        )
    if len(names) == 1 and len(schema.kept) > 1:
        found = [sign for sign in ";\t|,:" if sign != delimiter and sign in names[0]]
        shown = "\\t" if found[:1] == ["\t"] else "".join(found[:1])
        hint = (
            f"Its delimiter seems to be `{shown}`: `--set ingest.csv_delimiter='{shown}'`." if found else "Is it a CSV?"
        )
        raise SourceFormatError(
            f"{path} has a single column", detail=f"Split by `{delimiter}`, its first line is one field.", hint=hint
        )


class _Ragged(NamedTuple):
    line: int
    fields: int


def _check_ragged(path: Path, delimiter: str, fields: int) -> None:
    ragged = _first_ragged(path, delimiter, fields)
    if ragged:
        raise SourceFormatError(
            f"{path} has a ragged row",
            detail=f"Line {ragged.line:,} has {ragged.fields} fields, the first line has {fields}.",
            hint="Mend that line (an unquoted delimiter, or a line cut short?) and run the command again.",
        )


def _first_ragged(path: Path, delimiter: str, fields: int) -> _Ragged | None:
    """The first line with another number of fields; None also where quoted fields span lines, which hides it."""
    import polars as pl

    lines = pl.scan_csv(
        path, separator="\x01", has_header=False, quote_char=None, infer_schema=False, new_columns=["line"], glob=False
    ).with_row_index("number", offset=1)
    bare = pl.col("line").str.replace_all(r'"[^"]*"', "")
    counts = lines.select(
        "number",
        bare.str.count_matches(delimiter, literal=True).alias("count") + 1,
        bare.str.contains('"', literal=True).alias("open"),
        (pl.col("line").str.strip_chars("\r") == "").alias("empty"),
    )
    found = counts.filter((pl.col("open") | (pl.col("count") != fields)) & ~pl.col("empty")).head(1).collect()
    if found.height == 0 or found["open"][0]:
        return None
    return _Ragged(found["number"][0], found["count"][0])


def _explained(path: Path, delimiter: str, message: str) -> SourceFormatError:
    """Say in our words, and with a line number, why polars could not read the file."""
    if "utf-8" in message or "utf8" in message:
        return SourceFormatError(
            f"{path} is not UTF-8",
            detail=f"Line {_first_bad_line(path):,} has bytes that are no UTF-8 text.",
            hint=f"Convert it: `iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8.csv`.",
        )
    names = _header(path, delimiter)
    ragged = _first_ragged(path, delimiter, len(names))
    if ragged:
        detail = f"Line {ragged.line:,} has {ragged.fields} fields, the first line has {len(names)}."
        hint = "Mend that line (an unquoted delimiter, or a line cut short?) and run the command again."
        return SourceFormatError(f"{path} has a ragged row", detail=detail, hint=hint)
    hint = "Look for a quote that is opened and never closed, and run the command again."
    return SourceFormatError(f"{path} is not well-formed CSV", detail=message.splitlines()[0], hint=hint)


def _first_bad_line(path: Path) -> int:
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            try:
                line += decoder.decode(block).count("\n")
            except UnicodeDecodeError as error:
                return line + error.object[: error.start].count(b"\n")
    return line
