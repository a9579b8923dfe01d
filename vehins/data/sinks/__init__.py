"""Where rows go to: one module per kind of store, found by itself.

A module of this package that has ``matches(url) -> bool`` and ``open_sink(url, options) -> Sink`` is a kind of sink;
``SUMMARY`` is its line in the documentation. Adding one is adding one file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from vehins.data.kinds import modules_with
from vehins.errors import SettingsError
from vehins.masking import masked_address
from vehins.remote.logins import Login
from vehins.settings import RemoteSettings, S3Settings, Settings

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class WriteOptions:
    """How to write: settings that more than one kind of sink understands."""

    login: Login = field(default_factory=Login)
    remote: RemoteSettings = field(default_factory=RemoteSettings)
    s3: S3Settings = field(default_factory=S3Settings)
    paths: Mapping[str, str] = field(default_factory=dict)
    """Column -> where a document keeps it, for columns that a document keeps elsewhere than under their name."""

    @classmethod
    def of(cls, settings: Settings, paths: Mapping[str, str] | None = None) -> WriteOptions:
        """What the settings say about writing."""
        return cls(Login.of_target(settings.credentials), settings.remote, settings.s3, paths or {})


class Sink(Protocol):
    """A table that rows are put into. Every sink keeps these promises; ``tests/data/test_sink_contract.py`` holds it to
    them.

    Rows are told apart by their key: one whose key is there already takes the old row's place, every other is added.
    So writing the same rows again changes nothing, and a write that was killed is completed by writing again. With
    ``replace`` the table holds the written rows alone afterwards; until the last of them is safe, readers see the old
    table.

    A sink with an attribute ``takes_no_key`` that is true takes None for the key as well: it then holds the written
    rows alone, in their order.
    """

    @property
    def label(self) -> str:
        """Its address, safe to print."""
        ...

    def write(self, batches: Iterable[pl.DataFrame], key: str, *, replace: bool, on_rows: Callable[[int], None]) -> int:
        """Write batches of rows of the same columns, and return how many rows there were.

        ``key`` is the column that identifies a row; it has no nulls and no value twice. Types are integers, floats,
        text, bools, and moments in UTC; null stands for a missing value. ``on_rows`` is called with the number of rows
        that are safe.

        Raises:
            SettingsError: the address names no table, or columns that the table there does not have.
            CredentialsError: the login is wrong or may not write.
            UnreachableError: the store does not answer.
        """
        ...


def kinds() -> list[ModuleType]:
    """The modules that are kinds of sinks, by name."""
    return modules_with(__name__, "open_sink")


def open_sink(url: str, options: WriteOptions) -> Sink:
    """Open the sink at an address; nothing is written yet.

    Raises:
        SettingsError: no kind of sink writes to such an address.
    """
    for kind in kinds():
        if kind.matches(url):
            sink: Sink = kind.open_sink(url, options)
            return sink
    raise SettingsError(
        f"Nothing writes to an address like {masked_address(url)}",
        detail="Rows can go to " + "; ".join(kind.SUMMARY for kind in kinds()) + ".",
        hint="Name one of those, such as `scores.csv` or `mongodb://HOST/DATABASE?collection=NAME`.",
    )
