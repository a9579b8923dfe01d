"""CSV in UTF-8: a file, a folder of files, or a glob. Every value is read as text; the schema gives it its type."""

from __future__ import annotations

import codecs
import csv
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vehins.data.sources import ReadOptions, _files
from vehins.errors import SourceFormatError
from vehins.remote.probes import Check

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema

SUMMARY = "`PATH.csv` (a file, a folder or a glob of CSV files in UTF-8)"
SUFFIXES = (".csv", ".tsv")
CHECKS = _files.CHECKS
_BLOCK = 1 << 20
_PARQUET = b"PAR1"
_NO_LIMIT = 2**31 - 1


def matches(url: str) -> bool:
    """Whether the address is one of this kind."""
    return _files.names_files(url, SUFFIXES)


def open_source(url: str, options: ReadOptions) -> CsvSource:
    """Find the files behind the address."""
    return CsvSource(_files.Files(_files.strip_scheme(url), _files.find(url, SUFFIXES)), options)


def probe(url: str, options: ReadOptions) -> Iterator[Check]:  # noqa: ARG001 - the signature of every kind
    """Check the way to the rows."""
    return _files.probe(url, SUFFIXES)


def columns(url: str, options: ReadOptions, schema: TableSchema) -> list[str]:
    """The names in the header of the first file; errors as `CsvSource.batches`."""
    path = _files.find(url, SUFFIXES)[0]
    try:
        return _header(path, _delimiter(path, options), schema)
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except OSError as error:
        raise _files.unreachable(path, error) from None


def _delimiter(path: Path, options: ReadOptions) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else options.csv_delimiter


class CsvSource:
    """CSV files with a header line and the same columns, in whatever order.

    A line without any value is no row: many programs end a file with some.
    """

    def __init__(self, files: _files.Files, options: ReadOptions) -> None:
        self._files = files
        self._options = options
        self.label = files.label

    def token(self) -> str:
        """Digest of the content."""
        return self._files.token()

    def batches(self, schema: TableSchema) -> Iterator[pl.DataFrame]:
        """Yield the rows of all files, one after the other."""
        first, wanted = Path(), list[str]()
        for path in self._files.each():
            try:
                delimiter = _delimiter(path, self._options)
                names = _header(path, delimiter, schema)
                first, wanted = (first, wanted) if wanted else (path, names)
                _files.check_columns(path, names, first, wanted)
                yield from self._of_file(path, delimiter, names)
            except UnicodeDecodeError:
                raise _not_utf8(path) from None
            except OSError as error:
                raise _files.unreachable(path, error) from None
        self._files.check_unchanged()

    def _of_file(self, path: Path, delimiter: str, names: list[str]) -> Iterator[pl.DataFrame]:
        import polars as pl

        scan = pl.scan_csv(path, separator=delimiter, infer_schema=False, glob=False)
        may_be_short = False
        try:
            if len(scan.collect_schema()) != len(names):
                hint = "Write it again with lines that end in LF or CRLF."
                raise SourceFormatError(f"{path} is not well-formed CSV", detail="Its lines end in CR.", hint=hint)
            scan = scan.rename(dict(zip(scan.collect_schema(), names, strict=True)))
            for batch in scan.collect_batches(chunk_size=self._options.batch_rows):
                # polars fills a row that is too short with nulls, so its last column tells that there may be one.
                if batch.to_series(-1).null_count():
                    may_be_short = True
                    yield batch.filter(pl.any_horizontal(pl.all().is_not_null()))
                else:
                    yield batch
        except pl.exceptions.PolarsError as error:
            raise _explained(path, delimiter, len(names), str(error).splitlines()[0]) from None
        fault = _first_fault(path, delimiter, len(names)) if may_be_short else None
        if fault:
            raise _faulty(path, fault, len(names))


def _header(path: Path, delimiter: str, schema: TableSchema) -> list[str]:
    """The names in the first line, without blanks around them where the schema drops those."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            names = next(filter(None, csv.reader(file, delimiter=delimiter)), [])
        except csv.Error as error:
            hint = "Its lines must end in LF or CRLF, and its quotes must be closed."
            raise SourceFormatError(f"The header of {path} cannot be read", detail=f"{error}.", hint=hint) from None
    names = [name.strip() for name in names] if schema.strip else names
    _check_header(path, names, delimiter)
    return names


def _check_header(path: Path, names: list[str], delimiter: str) -> None:
    if not names:
        hint = "Export it again, or remove it."
        raise SourceFormatError(f"{path} is empty", detail="It has blank lines only.", hint=hint)
    duplicated = sorted({name for name in names if names.count(name) > 1})
    if duplicated:
        raise SourceFormatError(
            f"{path} has the column `{duplicated[0]}` {names.count(duplicated[0])} times",
            detail="Which of them is meant cannot be known.",
            hint="Rename or remove all but one in the first line of the file.",
        )
    if len(names) == 1:
        found = next((sign for sign in ";\t|,:" if sign != delimiter and sign in names[0]), "")
        hint = f"Its delimiter seems to be `{_shown(found)}`: `--set ingest.csv_delimiter='{_shown(found)}'`."
        raise SourceFormatError(
            f"{path} has a single column",
            detail=f"Split by `{_shown(delimiter)}`, its first line is one field.",
            hint=hint if found else "Is it a CSV?",
        )


def _shown(delimiter: str) -> str:
    return delimiter.replace("\t", "\\t")


class _Fault(NamedTuple):
    line: int
    fields: int | None
    """How many fields the line has; None when its quotes are at fault."""


def _faulty(path: Path, fault: _Fault, fields: int) -> SourceFormatError:
    if fault.fields is None:
        return SourceFormatError(
            f"{path} is not well-formed CSV",
            detail=f"A quote in line {fault.line:,} is never closed, or has no place there.",
            hint='A field with a quote in it is written `"5"" pipe"`; mend that line and run the command again.',
        )
    return SourceFormatError(
        f"{path} has a ragged row",
        detail=f"Line {fault.line:,} has {fault.fields} fields, the first line has {fields}.",
        hint="Mend that line (an unquoted delimiter, or a line cut short?) and run the command again.",
    )


def _first_fault(path: Path, delimiter: str, fields: int) -> _Fault | None:
    """The first line with another number of fields, or with quotes that Python's reader refuses."""
    import polars as pl

    bare = pl.col("line").str.replace_all(r'"[^"]*"', "")
    counts = pl.scan_lines(path, glob=False, row_index_name="number", row_index_offset=1).select(
        "number",
        (bare.str.count_matches(delimiter, literal=True) + 1).alias("fields"),
        bare.str.contains('"', literal=True).alias("open"),
        (pl.col("line") == "").alias("empty"),
    )
    found = counts.filter((pl.col("open") | (pl.col("fields") != fields)) & ~pl.col("empty")).head(1).collect()
    if found.is_empty():
        return None
    number, count, is_open, _ = found.row(0)
    # Where a quoted field spans lines, lines tell nothing: this takes a slower look.
    return _first_fault_in_records(path, delimiter, fields) if is_open else _Fault(number, count)


def _first_fault_in_records(path: Path, delimiter: str, fields: int) -> _Fault | None:
    limit = csv.field_size_limit(_NO_LIMIT)
    try:
        return _slow_look(path, delimiter, fields)
    finally:
        csv.field_size_limit(limit)


def _slow_look(path: Path, delimiter: str, fields: int) -> _Fault | None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        line = 1
        try:
            for record in reader:
                if record and len(record) != fields:
                    return _Fault(line, len(record))
                line = reader.line_num + 1
        except csv.Error:
            return _Fault(line, None)
    return None


def _explained(path: Path, delimiter: str, fields: int, message: str) -> SourceFormatError:
    """Say in our words, and with a line number, why polars could not read the file."""
    import polars as pl

    if "utf-8" in message or "utf8" in message:
        return _not_utf8(path)
    try:
        fault = _first_fault(path, delimiter, fields) or _first_fault_in_records(path, delimiter, fields)
        fault = fault or _first_odd_quote(path)
    except pl.exceptions.PolarsError:  # it can be wrong in more ways than one
        return _not_utf8(path)
    if fault:
        return _faulty(path, fault, fields)
    return SourceFormatError(f"{path} is not well-formed CSV", detail=f"{message}.", hint="Write it again.")


def _first_odd_quote(path: Path) -> _Fault | None:
    """The first line with an odd number of quotes."""
    import polars as pl

    odd = pl.col("line").str.count_matches('"', literal=True) % 2 == 1
    lines = pl.scan_lines(path, glob=False, row_index_name="number", row_index_offset=1)
    found = lines.filter(odd).select("number").head(1).collect()
    return None if found.is_empty() else _Fault(found.item(), None)


def _not_utf8(path: Path) -> SourceFormatError:
    with path.open("rb") as file:
        start = file.read(4)
    if start == _PARQUET:
        mend = f"Name it as one: `mv {shlex.quote(path.name)} {shlex.quote(path.with_suffix('.parquet').name)}`."
        return SourceFormatError(f"{path} is not CSV", detail="It is a Parquet file.", hint=mend)
    is_utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return SourceFormatError(
        f"{path} is not UTF-8",
        detail=f"Line {_first_bad_line(path):,} has bytes that are no UTF-8 text.",
        hint=f"Convert it: `iconv -f {'UTF-16' if is_utf16 else 'WINDOWS-1252'} -t UTF-8 {path.name} > utf8.csv`.",
    )


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
