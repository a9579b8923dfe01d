"""What a list of customers to call is worth: the cutoff that a bundle carries, and what it brings on the test side.

A call costs `contact_cost`, and a sale brings `sale_value` before that. With true probabilities a call pays from
p x sale_value = contact_cost on (the threshold of Elkan, "The foundations of cost-sensitive learning", IJCAI 2001), so
cost / value is the best cutoff there can be. Another one is taken only where the valid side shows, beyond chance, that
the probabilities are not true there; and a capacity, the customers that can be called, may raise it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vehins.artifacts.evaluation import Campaign, Curve, Profit
from vehins.model.metrics import Ranked, caught

if TYPE_CHECKING:
    from vehins.settings import BusinessSettings

# The best of many cutoffs is looked at: two standard errors would be found by chance too often.
_STANDARD_ERRORS = 3.0
_POINTS = 200


def choose_cutoff(ranked: Ranked, business: BusinessSettings, customers: int) -> float:
    """The cutoff that maximises profit, above 0 and below 1.

    Args:
        ranked: the valid side by probabilities of a model that was not fitted on it, and never the test side.
        business: what a call costs and a sale brings, and the capacity.
        customers: how many there are on all sides; the capacity is of so many.

    It is cost / value, unless on these rows another cutoff brings more by over three standard errors; and if more
    customers than the capacity would then be called, it is raised to where they are as many.
    """
    pays = business.contact_cost / business.sale_value
    best = _best_cutoff(ranked, business)
    gain, error = _gain(ranked, pays, best, business)
    cutoff = best if gain > _STANDARD_ERRORS * error else pays
    return min(max(cutoff, _capacity_cutoff(ranked, business, customers)), math.nextafter(1.0, 0.0))


def _best_cutoff(ranked: Ranked, business: BusinessSettings) -> float:
    """The cutoff of the most profitable list; of equal ones, the shortest. Above all scores when no call pays."""
    import numpy as np

    ties = ranked.ties
    profits = np.cumsum((business.sale_value * ties.positives - business.contact_cost * ties.sizes)[::-1])
    if profits.max() <= 0:
        return math.nextafter(float(ranked.scores[-1]), 1.0)
    return float(ties.scores[::-1][int(profits.argmax())])


def _gain(ranked: Ranked, one: float, other: float, business: BusinessSettings) -> tuple[float, float]:
    """What the list of another cutoff brings more than that of one, and its standard error if probabilities are true.

    The lists differ in the customers between the two cutoffs alone, so theirs are the sums. Sales among them have the
    variance sum p (1 - p).
    """
    import numpy as np

    first, last = np.searchsorted(ranked.scores, sorted((one, other)))
    scores, positives = ranked.scores[first:last], int(ranked.positive[first:last].sum())
    brings = business.sale_value * positives - business.contact_cost * scores.size
    error = business.sale_value * math.sqrt(float((scores * (1 - scores)).sum()))
    return (brings if other < one else -brings), error


def _capacity_cutoff(ranked: Ranked, business: BusinessSettings, customers: int) -> float:
    """The least cutoff that calls no more than the capacity; 0 when there is no limit."""
    import numpy as np

    allowed = capacity_of(ranked.rows, business, customers)
    if allowed >= ranked.rows:
        return 0.0
    called = np.cumsum(ranked.ties.sizes[::-1])
    fits = int(np.searchsorted(called, allowed, side="right"))
    scores = ranked.ties.scores[::-1]
    return float(scores[fits - 1]) if fits else math.nextafter(float(scores[0]), 1.0)


def capacity_of(rows: int, business: BusinessSettings, customers: int) -> int:
    """How many of some rows can be called, when the capacity is of all the customers; one at least."""
    if business.capacity is None or business.capacity >= customers:
        return rows
    return max(1, min(rows, round(rows * business.capacity / customers)))


def measure(ranked: Ranked, cutoff: float, business: BusinessSettings, customers: int, confidence: float) -> Profit:
    """What a cutoff brings on the test side, and what calling others would; ``customers`` are those of all sides."""
    import numpy as np

    allowed = capacity_of(ranked.rows, business, customers)
    chosen = ranked.rows - int(np.searchsorted(ranked.scores, cutoff))
    size = min(chosen, allowed)
    rate = ranked.positives / ranked.rows
    best = _best_size(ranked, business, allowed)
    return Profit(
        contact_cost=business.contact_cost,
        sale_value=business.sale_value,
        capacity=business.capacity,
        capacity_here=allowed,
        cutoff=cutoff,
        model=_campaign(ranked, size, float(caught(ranked, np.array([size]))[0]), business, confidence),
        random=_campaign(ranked, size, size * rate, business),
        everybody=_campaign(ranked, ranked.rows, ranked.positives, business),
        nobody=_campaign(ranked, 0, 0, business),
        best=_campaign(ranked, best, float(caught(ranked, np.array([best]))[0]), business),
        best_cutoff=float(ranked.scores[-best]) if best else None,
    )


def _best_size(ranked: Ranked, business: BusinessSettings, allowed: int) -> int:
    """Customers on the most profitable list within the capacity; where it ends among equals, it takes all or none."""
    import numpy as np

    sizes = np.concatenate([[0], np.cumsum(ranked.ties.sizes[::-1])])
    sizes = sizes[sizes <= allowed]
    profits = business.sale_value * caught(ranked, sizes) - business.contact_cost * sizes
    best: int = sizes[profits.argmax()].item()
    return best


def _campaign(
    ranked: Ranked, size: int, sales: float, business: BusinessSettings, confidence: float | None = None
) -> Campaign:
    """A list of some size and sales; with a confidence, its profit with an interval (sales as a binomial count)."""
    from statistics import NormalDist

    profit = business.sale_value * sales - business.contact_cost * size
    low = high = None
    if confidence is not None and size:
        reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(max(0.0, sales * (1 - sales / size)))
        low, high = profit - business.sale_value * reach, profit + business.sale_value * reach
    return Campaign(
        customers=size, share=size / ranked.rows, sales=sales, profit=profit, profit_low=low, profit_high=high
    )


def curve(ranked: Ranked, business: BusinessSettings, points: int = _POINTS) -> Curve:
    """x: share of customers called, the best first; y: profit."""
    import numpy as np

    x = np.linspace(0, 1, points + 1)
    profit = business.sale_value * caught(ranked, x * ranked.rows) - business.contact_cost * x * ranked.rows
    return Curve(x=x.tolist(), y=profit.tolist())
