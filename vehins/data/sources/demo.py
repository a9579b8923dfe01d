"""``demo://?rows=&seed=``: synthetic customers, so that everything runs without a server or an account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from vehins.data import demo
from vehins.data.sources import ReadOptions
from vehins.errors import SettingsError
from vehins.remote.probes import Check

if TYPE_CHECKING:
    import polars as pl

    from vehins.data.schema import TableSchema

SUMMARY = "`demo://?rows=50000&seed=1` (synthetic customers)"
CHECKS = ("address",)
_DEFAULTS = {"rows": 50_000, "seed": 1}


def matches(url: str) -> bool:
    """Whether the address is one of this kind."""
    return url.startswith("demo:")


def open_source(url: str, options: ReadOptions) -> DemoSource:
    """Read the number of rows and the seed from the address."""
    given = {name: values[-1] for name, values in parse_qs(urlsplit(url).query, keep_blank_values=True).items()}
    unknown = sorted(given.keys() - _DEFAULTS.keys())
    if unknown:
        raise SettingsError(f"`demo://` has no option `{unknown[0]}`", hint="Write `demo://?rows=50000&seed=1`.")
    numbers = _DEFAULTS | {name: _number(name, value) for name, value in given.items()}
    return DemoSource(numbers["rows"], numbers["seed"], options.batch_rows)


def _number(name: str, value: str) -> int:
    if not value.isdecimal() or (name == "rows" and int(value) == 0):
        raise SettingsError(
            f"`demo://` cannot take {name}={value}",
            detail="It is a whole number, and at least one row.",
            hint="Write `demo://?rows=50000&seed=1`.",
        )
    return int(value)


def probe(url: str, options: ReadOptions) -> Iterator[Check]:
    """Check the numbers in the address."""
    source = open_source(url, options)
    yield Check("address", "ok", source.label)


class DemoSource:
    """Synthetic customers, the same for the same numbers."""

    def __init__(self, rows: int, seed: int, batch_rows: int) -> None:
        self._rows, self._seed, self._batch_rows = rows, seed, batch_rows

    @property
    def label(self) -> str:
        """Its address with all options."""
        return f"demo://?rows={self._rows}&seed={self._seed}"

    def token(self) -> str:
        """The address says all; a change of the generator is a change of the code."""
        return self.label

    def batches(self, schema: TableSchema) -> Iterator[pl.DataFrame]:  # noqa: ARG002 - the columns are fixed
        """Yield the customers."""
        return demo.batches(self._rows, self._seed)
