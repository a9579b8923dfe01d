"""Who is called first: what lists of the best customers catch, and the curves that show it.

Customers of equal probability stand on a list in no particular order: where a list ends among them, it has its share of
their positives. So no figure depends on the order of the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vehins.artifacts.evaluation import Curve, Gain, Histogram
from vehins.model.metrics._ranked import Ranked

if TYPE_CHECKING:
    from vehins.model.metrics._checks import Floats

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
POINTS = 200
_HISTOGRAM_BINS = 50


def caught(ranked: Ranked, customers: Floats) -> Floats:
    """How many positives are among the first so many customers, the most probable first."""
    import numpy as np

    ties = ranked.ties
    chosen = np.concatenate([[0], np.cumsum(ties.sizes[::-1])])
    hits = np.concatenate([[0], np.cumsum(ties.positives[::-1])])
    found: Floats = np.interp(customers, chosen, hits)
    return found


def gains(ranked: Ranked, shares: tuple[float, ...] = SHARES) -> list[Gain]:
    """What lists of the best customers catch; there must be a positive row."""
    import numpy as np

    sizes = [max(1, round(share * ranked.rows)) for share in shares]
    hits = caught(ranked, np.array(sizes, dtype=np.float64)).tolist()
    rate = ranked.positives / ranked.rows
    return [
        Gain(
            share=share,
            customers=size,
            cutoff=float(ranked.scores[-size]),
            positives=found,
            recall=found / ranked.positives,
            precision=found / size,
            lift=found / size / rate,
        )
        for share, size, found in zip(shares, sizes, hits, strict=True)
    ]


def gains_curve(ranked: Ranked, points: int = POINTS) -> Curve:
    """x: share of customers, y: share of positives among them."""
    import numpy as np

    x = np.linspace(0, 1, points + 1)
    return Curve(x=x.tolist(), y=(caught(ranked, x * ranked.rows) / ranked.positives).tolist())


def roc_curve(ranked: Ranked, points: int = POINTS) -> Curve:
    """x: false positive rate, y: true positive rate; the points lie evenly along the curve."""
    import numpy as np

    hits = np.concatenate([[0], np.cumsum(ranked.ties.positives[::-1])]) / ranked.positives
    misses = np.concatenate([[0], np.cumsum(ranked.ties.negatives[::-1])]) / (ranked.rows - ranked.positives)
    kept = np.unique(np.searchsorted(hits + misses, np.linspace(0, 2, points + 1)).clip(max=hits.size - 1))
    return Curve(x=misses[kept].tolist(), y=hits[kept].tolist())


def precision_curve(ranked: Ranked, points: int = POINTS) -> Curve:
    """x: recall, y: precision, at distinct scores that lie evenly in recall."""
    import numpy as np

    hits = np.cumsum(ranked.ties.positives[::-1])
    chosen = np.cumsum(ranked.ties.sizes[::-1])
    wanted = np.linspace(0, ranked.positives, points + 1)[1:]
    kept = np.unique(np.searchsorted(hits, wanted))
    return Curve(x=(hits[kept] / ranked.positives).tolist(), y=(hits[kept] / chosen[kept]).tolist())


def histogram(ranked: Ranked, bins: int = _HISTOGRAM_BINS) -> Histogram:
    """Customers of each label by probability, in ranges of equal width from 0 to the highest."""
    import numpy as np

    edges = np.linspace(0, float(ranked.scores[-1]) or 1.0, bins + 1)
    positives, _ = np.histogram(ranked.scores[ranked.positive], edges)
    negatives, _ = np.histogram(ranked.scores[~ranked.positive], edges)
    return Histogram(edges=edges.tolist(), negatives=negatives.tolist(), positives=positives.tolist())
