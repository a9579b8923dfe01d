"""A CSV or Parquet file on this machine: written beside the old one, and put into its place when it is whole."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vehins.artifacts.files import flush_file, flush_folder
from vehins.data.sinks import WriteOptions, _whole
from vehins.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    import polars as pl

SUMMARY = "`PATH.csv` or `PATH.parquet` (a file)"


def matches(url: str) -> bool:
    """Whether the address is one of this kind."""
    path = url.removeprefix("file://")
    return "://" not in path and path.lower().endswith(_whole.SUFFIXES)


def open_sink(url: str, options: WriteOptions) -> FileSink:  # noqa: ARG001 - the signature of every kind
    """Name the file; nothing is looked at yet."""
    return FileSink(Path(url.removeprefix("file://")))


class FileSink:
    """One file; readers see the old one or the new one."""

    takes_no_key = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.label = str(path)

    def write(
        self, batches: Iterable[pl.DataFrame], key: str | None, *, replace: bool, on_rows: Callable[[int], None]
    ) -> int:
        """Write the file anew; without a key, or with ``replace``, what it held before is gone.

        Raises:
            NotFoundError: its folder does not exist.
            SettingsError: the old file has other columns.
            ConflictError: another program wrote to it meanwhile.
            StorageError: the disk is full or forbidden.
        """
        path = self._path
        if not path.parent.is_dir():
            raise NotFoundError(f"There is no folder {path.parent}", hint=f"Make it: `mkdir -p {path.parent}`.")
        before = _mark(path)
        old = path if before and not replace and key is not None else None
        fresh = path.with_name(f".tmp-{secrets.token_hex(8)}{path.suffix}")
        try:
            with _whole.storing(path):
                rows = _whole.put_together(batches, key, old, fresh, self.label)
                flush_file(fresh)
                if _mark(path) != before:
                    raise _changed(self.label)
                fresh.replace(path)
                flush_folder(path.parent)
        finally:
            fresh.unlink(missing_ok=True)
        on_rows(rows)
        return rows


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _changed(label: str) -> ConflictError:
    return ConflictError(
        f"Another program wrote to {label} meanwhile",
        detail="What it wrote is still there.",
        hint="Run the command again.",
    )
