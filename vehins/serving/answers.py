"""What the service answers, typed; errors have one shape, whatever their number."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vehins.data.schema import Dtype, Scalar
from vehins.model.reasons import Reason
from vehins.serving.status import Source


class Answer(BaseModel):
    """One JSON object of an answer."""

    model_config = ConfigDict(frozen=True)


class ModelName(Answer):
    """Which version of which model answers."""

    name: str = Field(description="Name of the model in the registry.")
    version: int = Field(description="Number of the version.")


class PredictionAnswer(Answer):
    """What the model says of one customer."""

    probability: float = Field(description="Probability that the customer says yes.")
    percentile: float = Field(description="Share of the training population that scores no higher, in percent.")
    contact: bool = Field(description="Whether contacting this customer pays: probability >= cutoff.")


class PredictAnswer(Answer):
    """Answer of ``POST /v1/predict``: one prediction per row, in the order of the rows."""

    model: ModelName = Field(description="The version that made this answer.")
    predictions: list[PredictionAnswer] = Field(description="One for each row, in the order of the rows.")


class ExplainedPrediction(PredictionAnswer):
    """What the model says of one customer, and why."""

    reasons: list[Reason] = Field(description="The strongest contributions to its score, the strongest first.")


class ExplainedAnswer(Answer):
    """Answer of ``POST /v1/predict?reasons=N``: one prediction per row, in the order of the rows, each with reasons."""

    model: ModelName = Field(description="The version that made this answer.")
    predictions: list[ExplainedPrediction] = Field(description="One for each row, in the order of the rows.")


class ColumnAnswer(Answer):
    """A column of the rows that the model takes."""

    name: str = Field(description="Its name, as a row has it.")
    dtype: Dtype = Field(description="Type of its values.")
    required: bool = Field(description="Whether a row must have it; otherwise it may be null or left out.")
    category: bool = Field(description="Whether its values are names, not amounts.")
    values: list[Scalar] | None = Field(description="The only values allowed.")
    minimum: float | None = Field(description="The least value allowed.")
    maximum: float | None = Field(description="The greatest value allowed.")
    unit: str | None = Field(description="What its values are counted in.")
    description: str = Field(description="What it means.")
    expected: str = Field(description="What it may hold, in words.")


class CheckAnswer(Answer):
    """The last look at the registry."""

    at: datetime = Field(description="When it ended.")
    fault: str | None = Field(description="Why it told nothing; null when it did.")


class FailureAnswer(Answer):
    """The last version that was to take over and could not."""

    version: int | None = Field(description="Its number; null when the registry did not tell which.")
    reason: str = Field(description="Why it could not.")
    at: datetime = Field(description="When that was.")


class ServiceAnswer(Answer):
    """How the model came into service, and how that goes on."""

    source: Source | None = Field(description="`cache`: the registry could not give it, and a local copy stands in.")
    since: datetime | None = Field(description="Since when this version answers here.")
    pinned: bool = Field(description="Whether this version stays, wherever the alias points.")
    check: CheckAnswer | None = Field(description="The last look at the registry.")
    swaps: int = Field(description="Versions that have taken over in this process, the first one included.")
    failed_swaps: int = Field(description="Attempts to let one take over that came to nothing.")
    last_failure: FailureAnswer | None = Field(description="The last of those attempts; null when there was none.")


class ModelAnswer(ModelName):
    """Answer of ``GET /v1/model``."""

    bundle: str = Field(description="SHA-256 of the model bundle.")
    registered_at: datetime = Field(description="When the version was registered.")
    cutoff: float = Field(description="Probability from which a customer is worth a call.")
    columns: list[ColumnAnswer] = Field(description="What a row may and must have.")
    metrics: dict[str, Scalar | None] = Field(description="What the gate judged it by, measured on the test side.")
    service: ServiceAnswer = Field(description="How this version came into service, and how that goes on.")


class AliveAnswer(Answer):
    """Answer of ``GET /healthz``."""

    status: Literal["alive"] = Field("alive", description="The process answers.")


class ReadyAnswer(Answer):
    """Answer of ``GET /readyz`` when a verified model is loaded."""

    status: Literal["ready"] = Field("ready", description="A verified model is loaded.")
    model: ModelName = Field(description="The version that answers.")
    source: Source | None = Field(description="`cache`: the registry could not give it, and a local copy stands in.")
    since: datetime | None = Field(description="Since when this version answers here.")
    check: CheckAnswer | None = Field(description="The last look at the registry.")


class Fault(Answer):
    """What went wrong, in three lines for a person."""

    headline: str = Field(description="What happened.")
    detail: str = Field(description="The value at fault.")
    hint: str = Field(description="What mends it.")


class ErrorAnswer(Answer):
    """Every answer that is an error."""

    error: Fault = Field(description="What went wrong.")


class BadCell(Answer):
    """A value, or a whole row, that cannot be used."""

    row: int = Field(description="Index of the row in the request, from 0.")
    column: str | None = Field(description="Name of the column; null when the row itself is at fault.")
    value: str | None = Field(description="The value as it was sent, cut short; null when there is none.")
    rule: str = Field(description="The rule that it breaks.")


class RefusedAnswer(ErrorAnswer):
    """A request that cannot be used (422)."""

    rows: list[BadCell] = Field(description="What is wrong in the rows; the first 20 faults at most.")
