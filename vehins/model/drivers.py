"""What drives a model's scores: the part of each feature in those of some customers, kept beside an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vehins.artifacts.record import Record
from vehins.model import reasons
from vehins.model.reasons import Influence

if TYPE_CHECKING:
    import polars as pl

    from vehins.model.bundle import Bundle

DRIVERS_FILE = "drivers.json"
# Enough for means that are right to some percent; each row costs as much as a hundred predictions.
_ROWS = 600


class Drivers(Record):
    """The file `drivers.json` of an Evaluation."""

    drivers_version: Literal[1] = 1
    rows: int = Field(ge=0, description="Customers of the test side, evenly spaced, that the means are over.")
    influences: list[Influence] = Field(description="Each feature's part in their scores, the strongest first.")


def measure(bundle: Bundle, test: pl.LazyFrame, rows: int) -> Drivers:
    """The influences over at most `_ROWS` of the typed ``test`` rows, of which there are so many ``rows``."""
    names = list(bundle.signature.table.features)
    some = test.select(names).gather_every(max(1, -(-rows // _ROWS))).collect()
    return Drivers(rows=some.height, influences=reasons.influences(bundle, some))
