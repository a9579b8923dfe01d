"""``?reasons=N``: what moved each score most, in words, beside the prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from vehins.model import reasons
from vehins.serving.answers import ExplainedAnswer, ExplainedPrediction, Fault, ModelName, RefusedAnswer
from vehins.serving.failures import RefusalError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vehins.data.schema import Scalar
    from vehins.serving.holder import Ready
    from vehins.serving.predictor import Prediction

MAX_REASONS = 20
MAX_ROWS = 1_000
"""Explaining takes some hundred times as long as predicting: so many rows take as long as a full plain request."""
PARAMETER: dict[str, Any] = {
    "name": "reasons",
    "in": "query",
    "required": False,
    "description": (
        "Tell so many of the strongest contributions with each prediction, in words: the answer is then an "
        f"`ExplainedAnswer`, and at most {MAX_ROWS:,} rows are taken. A row has fewer where fewer features matter."
    ),
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_REASONS},
    "examples": {"three": {"value": 3}},
}
_MAX_FIELDS, _SHOWN_CHARACTERS = 50, 60
_HINT = f"Ask for 1 to {MAX_REASONS}: `?reasons=3`; without it, no reasons are told."


def wanted(query: bytes) -> int:
    """How many reasons a query string asks for; 0 when it does not.

    Raises:
        RefusalError: it asks for a number that cannot be (422).
    """
    if not query:
        return 0
    try:
        found = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise _refused("The address has too many parameters", f"At most {_MAX_FIELDS} are read.", _HINT) from None
    values = [value for name, value in found if name == "reasons"]
    if not values:
        return 0
    text = values[0]
    if len(values) > 1 or len(text) > 2 or not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_REASONS):
        shown = ", ".join(f"`{value[:_SHOWN_CHARACTERS]}`" for value in values[:2])
        raise _refused("The number of reasons cannot be", f"`reasons` is {shown}.", _HINT)
    return int(text)


def check_rows(rows: int) -> None:
    """See to it that explaining stays a matter of a second.

    Raises:
        RefusalError: there are too many rows (422).
    """
    if rows > MAX_ROWS:
        detail = f"It has {rows:,}; with reasons at most {MAX_ROWS:,} are taken."
        hint = "Send the rows in several requests, or without `?reasons=`; `vehins predict --reasons` takes any number."
        raise _refused("Too many rows to give reasons for", detail, hint)


def answer(
    ready: Ready, rows: Sequence[Mapping[str, Scalar | None]], predictions: Sequence[Prediction], count: int
) -> ExplainedAnswer:
    """The predictions with their ``count`` strongest reasons."""
    model = ready.predictor
    explained = [
        ExplainedPrediction(
            probability=prediction.probability,
            percentile=prediction.percentile,
            contact=prediction.contact,
            reasons=why,
        )
        for prediction, why in zip(predictions, reasons.of_rows(model.bundle, rows, count), strict=True)
    ]
    return ExplainedAnswer(model=ModelName(name=model.name, version=model.version), predictions=explained)


def _refused(headline: str, detail: str, hint: str) -> RefusalError:
    return RefusalError(422, RefusedAnswer(error=Fault(headline=headline, detail=detail, hint=hint), rows=[]))
