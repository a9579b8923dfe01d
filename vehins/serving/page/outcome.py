"""The answer for one customer, as the page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vehins.serving.page import words

if TYPE_CHECKING:
    from vehins.model.reasons import Reason
    from vehins.serving.page.form import Field
    from vehins.serving.predictor import Prediction

REASONS = 5
_HALF = 100.0  # width of the chart of a reason, from its middle


@dataclass(frozen=True)
class Bar:
    """One reason with its bar: from the middle to the right where it raises the score, else to the left."""

    what: str
    raises: bool
    amount: str
    x: float
    width: float


@dataclass(frozen=True)
class Outcome:
    """What the model says of one customer."""

    probability: str
    place: float
    """Where the bar ends, of 100."""
    cutoff: str
    cutoff_place: float
    percentile: str
    contact: bool
    because: str
    bars: list[Bar]


def outcome(found: Prediction, reasons: list[Reason], cutoff: float, fields: list[Field]) -> Outcome:
    """A prediction and its reasons in words and lengths; values are called as in the form."""
    probability, edge = words.apart(found.probability, cutoff)
    reached = "reaches" if found.contact else "does not reach"
    return Outcome(
        probability=probability,
        place=round(100 * found.probability, 2),
        cutoff=edge,
        cutoff_place=round(100 * cutoff, 2),
        percentile=words.percentile(found.percentile),
        contact=found.contact,
        because=f"A contact pays from {edge} on; this customer {reached} that.",
        bars=_bars(reasons, {(f.name, c.value): c.label for f in fields for c in f.choices}),
    )


def _bars(reasons: list[Reason], called: dict[tuple[str, str], str]) -> list[Bar]:
    longest = max((abs(reason.contribution) for reason in reasons), default=1.0)
    return [
        _bar(
            reason, called.get((reason.feature, reason.value), reason.value), _HALF * abs(reason.contribution) / longest
        )
        for reason in reasons
    ]


def _bar(reason: Reason, value: str, width: float) -> Bar:
    raises, size = reason.contribution > 0, abs(reason.contribution)
    return Bar(
        what=f"{words.label(reason.feature)}: {value}",
        raises=raises,
        amount="less than 0.01" if size < 0.005 else f"{size:.2f}",
        x=round(_HALF if raises else _HALF - width, 2),
        width=round(max(width, 0.75), 2),
    )
