"""What says how far the customers of today lie from those that a model was trained on, column by column."""

from __future__ import annotations

from pydantic import Field

from vehins.artifacts.record import Record


class DriftBin(Record):
    """One bin of a column: a value, a range, what is missing, or all that is rare."""

    label: str
    expected: float = Field(ge=0, le=1, description="Share of the champion's training rows.")
    actual: float = Field(ge=0, le=1, description="Share of the rows of today.")


class ColumnDrift(Record):
    """How far the values of one column have moved."""

    column: str
    role: str = Field(description="`feature` or `target`.")
    psi: float | None = Field(description="Population stability index; null when it could not be computed.")
    chance: float | None = Field(
        description="What the index stays below by chance alone, with 99% confidence over all columns together."
    )
    bins: list[DriftBin]
    reason: str | None = Field(default=None, description="Why there is no index.")


class Drift(Record):
    """The rows of a data set against the rows that the champion was trained on."""

    version: int | None = Field(description="The champion's version; null when there is none.")
    bundle: str | None = Field(description="Digest of the champion's bundle.")
    rows: int = Field(ge=0, description="Rows of today: all clean rows of the data set.")
    reference_rows: int | None = Field(description="Rows that the champion was trained on.")
    columns: list[ColumnDrift] = Field(description="The furthest first.")
    reason: str | None = Field(default=None, description="Why nothing could be compared.")
