"""Labels and scores, sorted once: what every metric is read off, for all rows and for some of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vehins.model.metrics._checks import flags, numbers, probabilities

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vehins.model.metrics._checks import Flags, Floats

    Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ties:
    """Rows grouped by equal score, lowest first: one entry per distinct score."""

    scores: Floats
    positives: Counts
    negatives: Counts

    @property
    def sizes(self) -> Counts:
        """Rows of each distinct score."""
        return self.positives + self.negatives

    def placements(self) -> tuple[Floats, Floats]:
        """For each distinct score, how many negatives lie below it and how many positives above it, ties counted half.

        Multiples of one half, and so exact in float64, as are their sums up to 2**52 pairs.
        """
        import numpy as np

        below = np.cumsum(self.negatives) - self.negatives / 2
        above = self.positives.sum() - np.cumsum(self.positives) + self.positives / 2
        return below, above


@dataclass(frozen=True)
class Ranked:
    """Rows from the lowest score to the highest."""

    order: npt.NDArray[np.intp]
    """Their numbers."""
    scores: Floats
    positive: Flags

    @property
    def rows(self) -> int:
        """How many there are."""
        return int(self.scores.size)

    @cached_property
    def positives(self) -> int:
        """How many have the label 1."""
        return int(self.positive.sum())

    @property
    def rarer(self) -> int:
        """How many have the rarer label."""
        return min(self.positives, self.rows - self.positives)

    @cached_property
    def ties(self) -> Ties:
        """The same by distinct score."""
        import numpy as np

        last = np.flatnonzero(np.append(self.scores[1:] != self.scores[:-1], True))
        sizes = np.diff(last, prepend=-1)
        positives = np.diff(np.cumsum(self.positive, dtype=np.int64)[last], prepend=0)
        return Ties(self.scores[last], positives, sizes - positives)

    def placements(self) -> Floats:
        """For each row, in the order here, how many of the other class it is on the right side of, ties half."""
        import numpy as np

        below, above = (np.repeat(counts, self.ties.sizes) for counts in self.ties.placements())
        return np.where(self.positive, below, above)

    def labels(self) -> Flags:
        """Which rows have the label 1, by their number; for all rows that were ranked at first."""
        import numpy as np

        found = np.empty_like(self.positive)
        found[self.order] = self.positive
        return found

    def among(self, chosen: Flags) -> Ranked:
        """Those of the rows that are chosen; ``chosen`` has a flag for each row that was ranked at first."""
        kept = chosen[self.order]
        return Ranked(self.order[kept], self.scores[kept], self.positive[kept])


def rank(labels: npt.ArrayLike, scores: npt.ArrayLike, what: str = "score", least_per_class: int = 0) -> Ranked:
    """Sort rows by their score.

    Args:
        labels: shape (n,), 0 or 1.
        scores: shape (n,), finite; more means likelier to be 1.
        what: what errors call a score; a ``probability`` has to lie between 0 and 1.
        least_per_class: how many rows of each label there must be.

    Raises:
        DataError: for labels or scores that are not as above.
    """
    import numpy as np

    positive = flags(labels, least_per_class)
    checked = probabilities(scores, positive.size) if what == "probability" else numbers(scores, what, positive.size)
    order = np.argsort(checked)
    return Ranked(order, checked[order], positive[order])
