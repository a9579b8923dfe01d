"""A few rows, as a request holds them: tuples, which are seen as mappings or as columns when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Self, overload

from vehins.data.schema import Scalar

Row = Mapping[str, Scalar | None]


class Rows(Sequence[Row]):
    """Rows whose values lie in the order of ``names``."""

    def __init__(self, names: Sequence[str], values: Sequence[Sequence[Scalar | None]]) -> None:
        self._names, self._values = names, values

    @classmethod
    def of(cls, rows: Sequence[Row], names: Sequence[str]) -> Self:
        """Any rows; what one of them lacks counts as missing."""
        return cls(names, [[row.get(name) for name in names] for row in rows])

    @property
    def columns(self) -> dict[str, Sequence[Scalar | None]]:
        """The values by the names of their columns; of no rows, none."""
        return dict(zip(self._names, zip(*self._values, strict=True), strict=False))

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Rows: ...
    def __getitem__(self, at: int | slice) -> Row | Rows:
        if isinstance(at, slice):
            return Rows(self._names, self._values[at])
        return dict(zip(self._names, self._values[at], strict=True))

    def __iter__(self) -> Iterator[Row]:
        return (dict(zip(self._names, values, strict=True)) for values in self._values)
