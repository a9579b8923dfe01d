"""What the endpoints tell to whoever counts, logs or keeps predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vehins.data.schema import Scalar
    from vehins.serving.answers import BadCell
    from vehins.serving.holder import Ready
    from vehins.serving.predictor import Prediction
    from vehins.serving.status import SwapOutcome


class Observer(Protocol):
    """Hears of every request to predict, on the thread that answers it and in its context (``contextvars``).

    It hears of every change of the model as well, on the thread that watches the alias.
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
        """A model took over, or one that was to take over could not."""
        ...
