"""What the endpoints tell to whoever counts, logs or keeps predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vehins.data.schema import Scalar
    from vehins.serving.answers import BadCell
    from vehins.serving.holder import Ready
    from vehins.serving.predictor import Prediction


class SwapOutcome(NamedTuple):
    """What came of an attempt to take another version into service."""

    ok: bool
    version: int
    reason: str | None
    """Why it was refused."""


class Observer(Protocol):
    """Hears of every request to predict, on the thread that answers it and in its context (``contextvars``).

    It must return at once and never raise.
    """

    def answered(
        self, ready: Ready, rows: Sequence[Mapping[str, Scalar | None]], predictions: Sequence[Prediction]
    ) -> None:
        """Some rows were predicted by this model; the answer is about to go out."""
        ...

    def refused(self, ready: Ready, cells: Sequence[BadCell]) -> None:
        """A request was refused for these faults (the first of them); none when the fault lies around the rows."""
        ...

    def swapped(self, outcome: SwapOutcome) -> None:
        """Another version was taken into service, or could not be; on the thread that tried."""
        ...
