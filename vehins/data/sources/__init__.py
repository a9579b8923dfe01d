"""Where customer rows come from: one module per kind of source, found by itself.

A module of this package that has ``matches(url) -> bool`` and ``open_source(url, options) -> Source`` is a kind of
source; ``SUMMARY`` is its line in the documentation. Adding one is adding one file.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from vehins.data.kinds import modules_with
from vehins.errors import SettingsError
from vehins.masking import masked_address
from vehins.remote.logins import Login
from vehins.settings import MongoSettings, RedshiftSettings, RemoteSettings, S3Settings, Settings

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema

_UNPACKED_BY = {
    ".gz": "gunzip --keep",
    ".bz2": "bunzip2 --keep",
    ".xz": "unxz --keep",
    ".zst": "unzstd",
    ".zip": "unzip",
}
_WORKBOOKS = (".xlsx", ".xls", ".xlsb", ".ods")


@dataclass(frozen=True)
class ReadOptions:
    """How to read: settings that more than one kind of source understands."""

    batch_rows: int = 500_000
    csv_delimiter: str = ","
    query: str | None = None
    login: Login = field(default_factory=Login)
    remote: RemoteSettings = field(default_factory=RemoteSettings)
    s3: S3Settings = field(default_factory=S3Settings)
    mongodb: MongoSettings = field(default_factory=MongoSettings)
    redshift: RedshiftSettings = field(default_factory=RedshiftSettings)
    scratch: Path | None = None
    """Folder for copies that are read and removed; by default the system's."""
    say: Callable[[str], None] | None = None
    """Told what a source waits for."""

    @classmethod
    def of(cls, settings: Settings) -> ReadOptions:
        """What the settings say about reading."""
        return cls(
            batch_rows=settings.ingest.part_rows,
            csv_delimiter=settings.ingest.csv_delimiter,
            query=settings.ingest.query,
            login=Login.of_source(settings.credentials),
            remote=settings.remote,
            s3=settings.s3,
            mongodb=settings.mongodb,
            redshift=settings.redshift,
        )


class Source(Protocol):
    """A table of raw customer rows."""

    @property
    def label(self) -> str:
        """Its address, safe to print."""
        ...

    def token(self) -> str | None:
        """A text that changes when the content does; None when only reading can tell."""
        ...

    def batches(self, schema: TableSchema) -> Iterator[pl.DataFrame]:
        """Yield the rows in bounded batches, with the source's own column names and types."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A source that counts what it is sent, before any of it is converted."""

    @property
    def rows_read(self) -> int:
        """Rows so far."""
        ...


@runtime_checkable
class Incremental(Source, Protocol):
    """A source that can tell which rows have changed, by a field that only grows."""

    @property
    def mark(self) -> str | None:
        """The field's highest value when the last reading began, as `changes` takes it; None where there is none."""
        ...

    def changes(self, schema: TableSchema, field: str, mark: str | None) -> Iterator[pl.DataFrame]:
        """Yield what `batches` does, less rows that the field says are older than the mark (None: less nothing).

        A row at the mark itself may have been written after the mark was taken, so it is read again. Every row has a
        name that is unique and stays, in the column `conform.ID`.
        """
        ...


def kinds() -> list[ModuleType]:
    """The modules that are kinds of sources, by name."""
    return modules_with(__name__, "open_source")


def open_source(url: str, options: ReadOptions) -> Source:
    """Open the source at an address.

    Raises:
        SettingsError: no kind of source reads such an address, or more than one does.
        NotFoundError: it reads such an address, and nothing is there.
    """
    found = [kind for kind in kinds() if kind.matches(url)]
    if len(found) == 1:
        source: Source = found[0].open_source(url, options)
        return source
    if found:
        raise SettingsError(
            f"The folder {masked_address(url)} holds files of more than one kind",
            detail="It could be read as " + " or as ".join(kind.SUMMARY for kind in found) + ".",
            hint="Say which files are meant: `--source 'FOLDER/*.parquet'`.",
        )
    raise SettingsError(
        f"Nothing reads a source like {masked_address(url)}",
        detail="Sources are: " + "; ".join(kind.SUMMARY for kind in kinds()) + ".",
        hint=_mend(masked_address(url)),
    )


def _mend(url: str) -> str:
    """What makes a source of a file that is none yet."""
    suffix = PurePath(url).suffix.lower()
    if suffix in _UNPACKED_BY:
        return f"Unpack it first: `{_UNPACKED_BY[suffix]} {shlex.quote(url)}`."
    if suffix in _WORKBOOKS:
        return "Save it as CSV (UTF-8): `--source customers.csv`."
    return "Name one of those: `--source customers.csv`."
