"""A file of rows -> a table in a store: checked as a whole before the first row is written."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vehins.data import checks, conform
from vehins.data import schema as table_schema
from vehins.data.schema import Column, Dtype, TableSchema
from vehins.data.sinks import WriteOptions, open_sink
from vehins.data.sources import ReadOptions, Source, open_source
from vehins.data.staging import Staging, scratch
from vehins.errors import DataError, SettingsError, SourceFormatError

if TYPE_CHECKING:
    import polars as pl

    from vehins.settings import Settings

_SHOWN = 3


class Loaded(NamedTuple):
    """What was done."""

    rows: int
    source: str
    target: str
    key: str
    replaced: bool
    seconds: float


def load(
    settings: Settings,
    to: str,
    *,
    key: str | None = None,
    replace: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Loaded:
    """Put the rows of `source` into the table at an address, told apart by a key (by default the schema's).

    Columns of the schema get its types; every other column stays as it is.

    Raises:
        SettingsError: no key is named, or the address cannot be.
        DataError: a cell is not of its type, or a key is missing or stands twice; nothing was written.
    """
    began = time.monotonic()
    schema = table_schema.load(settings.schema_file)
    key = key or schema.key
    if key is None:
        detail = f"The schema {schema.name} has no column with the role `key`."
        raise SettingsError("The rows have no key", detail=detail, hint="Name the column: `--key COLUMN`.")
    paths = {name: column.path for name, column in schema.columns.items() if column.path}
    sink = open_sink(to, WriteOptions.of(settings, paths))
    source = open_source(settings.source, ReadOptions.of(settings))
    with scratch() as folder:
        staging = _stage(source, schema, key, folder, progress)
        _check(staging, source.label, key)
        rows = sink.write(
            staging.batches(), key, replace=replace, on_rows=lambda done: progress(f"{done:,} rows written")
        )
    return Loaded(rows, source.label, sink.label, key, replace, time.monotonic() - began)


def _stage(source: Source, schema: TableSchema, key: str, folder: Path, progress: Callable[[str], None]) -> Staging:
    """Set down all columns of the rows, those of the schema in its types."""
    first = next((batch for batch in source.batches(schema)), None)
    if first is None or first.is_empty():
        raise SourceFormatError(f"{source.label} has no rows", hint="Name another file: `vehins load FILE --to URL`.")
    if key not in first.columns:
        near = schema.nearest(key)
        detail = f"It has {', '.join(f'`{name}`' for name in first.columns)}."
        hint = "Name the column that identifies a row: `--key COLUMN`."
        raise SourceFormatError(f"{source.label} has no column `{key or near}`", detail=detail, hint=hint)
    wide, staging = _widened(schema, first.columns), Staging(folder)
    for batch in source.batches(wide):
        typed = conform.conform(batch, wide, staging.rows)
        known = [name for name in batch.columns if name in schema.columns]
        unparsed = typed.unparsed.filter(typed.unparsed["column"].is_in(known))
        rows = batch.with_columns(typed.rows.select(known)).select(_portable(batch, set(known)))
        staging.add(rows, unparsed)
        progress(f"{staging.rows:,} rows read")
    return staging


def _widened(schema: TableSchema, names: list[str]) -> TableSchema:
    """The schema with all columns of a file, so that none of them is left out."""
    columns = {
        name: column.model_copy(update={"role": "feature"}) if column.role == "ignored" else column
        for name, column in schema.columns.items()
    }
    more = {name: Column(dtype="string") for name in names if name not in columns}
    return TableSchema.model_construct(**{**dict(schema), "columns": columns | more})


def _portable(batch: pl.DataFrame, known: set[str]) -> list[pl.Expr]:
    """Columns that the schema does not know, in types that every store has."""
    import polars as pl

    found = []
    for name, dtype in batch.schema.items():
        value = pl.col(name)
        if name in known or dtype.is_integer() or dtype.is_float() or dtype in (pl.Boolean, pl.String):
            found.append(value)
        elif isinstance(dtype, (pl.Categorical, pl.Enum, pl.Null)):
            found.append(value.cast(pl.String))
        elif dtype.is_decimal():
            found.append(value.cast(pl.Float64))
        elif isinstance(dtype, (pl.Date, pl.Datetime)):
            found.append(value)
        else:
            raise SourceFormatError(
                f"The column `{name}` cannot be put into a table",
                detail=f"Its type is {dtype}.",
                hint="Leave it out of the file, or write it as text.",
            )
    return found


def _check(staging: Staging, label: str, key: str) -> None:
    """Refuse a table with a cell that is not of its type, or a key that is missing or stands twice."""
    import polars as pl

    if staging.cells:
        some = staging.unparsed().sort("row").head(_SHOWN).collect().iter_rows(named=True)
        said = "; ".join(f"row {cell['row'] + 1}: `{cell['column']}` is {cell['value']!r}" for cell in some)
        raise _refused(label, f"{staging.cells:,} values that are not of their type", said)
    rows = staging.frame()
    numbers = rows.filter(pl.col(key).is_null()).select(conform.ROW).collect()[conform.ROW]
    if numbers.len():
        said = ", ".join(f"row {number + 1}" for number in numbers.head(_SHOWN))
        raise _refused(label, f"{numbers.len():,} rows without a value of the key `{key}`", said)
    twice = checks.duplicated_rows(rows, _keyed(key, staging))
    if twice.height:
        some = twice.sort(conform.ROW).head(_SHOWN).iter_rows(named=True)
        said = "; ".join(f"row {row[conform.ROW] + 1}: {row['key']!r}" for row in some)
        raise _refused(label, f"{twice.height:,} rows whose key `{key}` stands more than once", said)


def _keyed(key: str, staging: Staging) -> TableSchema:
    """A schema of nothing but the key."""
    dtype = staging.frame().collect_schema()[key]
    kind: Dtype = "int" if dtype.is_integer() else "string"
    if not dtype.is_integer() and str(dtype) != "String":
        raise SettingsError(
            f"The column `{key}` cannot be a key", detail=f"Its type is {dtype}.", hint="A key is an integer or a text."
        )
    column = Column.model_construct(dtype=kind, role="key")
    return TableSchema.model_construct(name="key", columns={key: column})


def _refused(label: str, what: str, said: str) -> DataError:
    hint = "Mend the file, or adapt the schema (`--schema FILE`); nothing was written."
    return DataError(f"{label} has {what}", detail=f"{said}.", hint=hint)
