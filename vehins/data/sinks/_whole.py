"""Tables that are one file: the old rows and the new ones are put together into a new file, which takes its place."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vehins.data.sinks._columns import SqlType, sql_types, typed
from vehins.errors import SettingsError, StorageError, storage_error

if TYPE_CHECKING:
    import polars as pl

CSV, PARQUET = (".csv",), (".parquet", ".pq")
SUFFIXES = CSV + PARQUET


def put_together(batches: Iterable[pl.DataFrame], key: str | None, old: Path | None, new: Path, label: str) -> int:
    """Write the rows of ``old`` whose keys do not come again, and all rows of ``batches``, into the file ``new``.

    ``label`` names the table in messages. The batches are kept beside ``new`` meanwhile.

    Raises:
        SettingsError: the old file has other columns or types.
        StorageError: the disk is full or forbidden.
    """
    import polars as pl

    rows, types = 0, dict[str, SqlType]()
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=new.parent) as folder:
        parts: list[Path] = []
        for batch in batches:
            types = types or sql_types(batch)
            parts.append(Path(folder) / f"{len(parts):05}.parquet")
            typed(batch, types).write_parquet(parts[-1], compression="lz4")
            rows += batch.height
        table = pl.scan_parquet(parts, glob=False) if parts else pl.LazyFrame()
        if old is not None and key is not None and parts:
            before = _scan(old, table.collect_schema(), label)
            table = pl.concat([before.join(table.select(key), on=key, how="anti", maintain_order="left"), table])
        try:
            _write(table, new)
        except (pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError) as error:
            if old is None or storage_error(error) is not None:
                raise
            raise _other_columns(label, str(error).splitlines()[0]) from None
    return rows


def _scan(path: Path, wanted: pl.Schema, label: str) -> pl.LazyFrame:
    """The rows that are there, in the types of the new ones."""
    import polars as pl

    is_csv = path.suffix.lower() in CSV
    try:
        table = pl.scan_csv(path, infer_schema=False) if is_csv else pl.scan_parquet(path, glob=False)
        names = table.collect_schema().names()
    except pl.exceptions.PolarsError as error:
        raise _other_columns(label, str(error).splitlines()[0]) from None
    if set(names) != set(wanted):
        different = sorted(set(names) ^ set(wanted))
        raise _other_columns(label, f"One of them lacks {', '.join(f'`{name}`' for name in different)}")
    return table.select(_as(name, dtype, is_csv) for name, dtype in wanted.items())


def _as(name: str, dtype: pl.DataType, is_csv: bool) -> pl.Expr:
    import polars as pl

    value = pl.col(name)
    if is_csv and isinstance(dtype, pl.Datetime):
        return value.str.to_datetime(time_unit="us", time_zone="UTC", strict=True)
    if is_csv and dtype == pl.Boolean:
        return value.replace_strict({"true": True, "false": False}, return_dtype=pl.Boolean)
    return value.cast(dtype)


def _write(table: pl.LazyFrame, path: Path) -> None:
    if path.suffix.lower() in CSV:
        table.sink_csv(path)
    else:
        table.sink_parquet(path)


def _other_columns(label: str, found: str) -> SettingsError:
    return SettingsError(
        f"{label} has other columns than the rows that are to go there",
        detail=f"{found.rstrip('.')}.",
        hint="Name another target, or let the rows take the place of that table: `--replace`.",
    )


@contextmanager
def storing(path: str | Path) -> Iterator[None]:
    """Turn an error of the disk into a `StorageError`."""
    import polars as pl

    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        found = storage_error(error)
        if found is None and not isinstance(error, OSError):
            raise
        said = found.headline if found else f"Cannot write {path}"
        detail = found.detail if found else f"{getattr(error, 'strerror', None) or error}."
        hint = "Free some space or mend its rights, or name another target: `--to`."
        raise StorageError(said, detail=detail, hint=hint) from None
