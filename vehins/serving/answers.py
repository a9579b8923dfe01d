"""What the service answers, typed; errors have one shape, whatever their number."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vehins.data.schema import Dtype, Scalar


class Answer(BaseModel):
    """One JSON object of an answer."""

    model_config = ConfigDict(frozen=True)


class ModelName(Answer):
    """Which version of which model answers."""

    name: str
    version: int


class PredictionAnswer(Answer):
    """What the model says of one customer."""

    probability: float = Field(description="Probability that the customer says yes.")
    percentile: float = Field(description="Share of the training population that scores no higher, in percent.")
    contact: bool = Field(description="Whether contacting this customer pays: probability >= cutoff.")


class PredictAnswer(Answer):
    """Answer of ``POST /v1/predict``: one prediction per row, in the order of the rows."""

    model: ModelName
    predictions: list[PredictionAnswer]


class ColumnAnswer(Answer):
    """A column of the rows that the model takes."""

    name: str
    dtype: Dtype
    required: bool = Field(description="Whether a row must have it; otherwise it may be null or left out.")
    category: bool = Field(description="Whether its values are names, not amounts.")
    values: list[Scalar] | None = Field(description="The only values allowed.")
    minimum: float | None
    maximum: float | None
    unit: str | None
    description: str
    expected: str = Field(description="What it may hold, in words.")


class ModelAnswer(ModelName):
    """Answer of ``GET /v1/model``."""

    bundle: str = Field(description="SHA-256 of the model bundle.")
    registered_at: datetime
    cutoff: float = Field(description="Probability from which a customer is worth a call.")
    columns: list[ColumnAnswer]
    metrics: dict[str, Scalar | None] = Field(description="What the gate judged it by, measured on the test side.")


class AliveAnswer(Answer):
    """Answer of ``GET /healthz``."""

    status: Literal["alive"] = "alive"


class ReadyAnswer(Answer):
    """Answer of ``GET /readyz`` when a verified model is loaded."""

    status: Literal["ready"] = "ready"
    model: ModelName


class Fault(Answer):
    """What went wrong, in three lines for a person."""

    headline: str = Field(description="What happened.")
    detail: str = Field(description="The value at fault.")
    hint: str = Field(description="What mends it.")


class ErrorAnswer(Answer):
    """Every answer that is an error."""

    error: Fault


class BadCell(Answer):
    """A value, or a whole row, that cannot be used."""

    row: int = Field(description="Index of the row in the request, from 0.")
    column: str | None = Field(description="Name of the column; null when the row itself is at fault.")
    rule: str = Field(description="The rule that it breaks.")


class RefusedAnswer(ErrorAnswer):
    """A request that cannot be used (422)."""

    rows: list[BadCell] = Field(description="What is wrong in the rows; the first 20 faults at most.")
