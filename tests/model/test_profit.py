"""The cutoff that a bundle carries, and what a list brings: by hand, by looking at all cutoffs, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from vehins.model import metrics, profit
from vehins.settings import BusinessSettings

BUSINESS = BusinessSettings(contact_cost=1, sale_value=5)


def ranked(labels, scores) -> metrics.Ranked:
    return metrics.rank(labels, scores, "probability")


def true_probabilities(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the probabilities that they were drawn with."""
    dice = np.random.default_rng(seed)
    chances = dice.beta(1, 6, rows)
    return (dice.random(rows) < chances).astype(np.uint8), chances


def brings(labels: np.ndarray, scores: np.ndarray, cutoff: float, business=BUSINESS) -> float:
    called = scores >= cutoff
    return business.sale_value * labels[called].sum() - business.contact_cost * called.sum()


# --- The cutoff -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_of_true_probabilities_it_is_cost_over_value(seed):
    """Not the best cutoff of these very rows, which chance has moved."""
    sample = ranked(*true_probabilities(seed, 5_000))
    assert profit._best_cutoff(sample, BUSINESS) != 0.2
    assert profit.choose_cutoff(sample, BUSINESS, 30_000) == 0.2


@pytest.mark.parametrize("power", [0.5, 2.0])
def test_of_probabilities_that_are_not_true_it_is_where_a_call_pays(power):
    labels, chances = true_probabilities(1, 50_000)
    scores = chances**power
    cutoff = profit.choose_cutoff(ranked(labels, scores), BUSINESS, 300_000)
    assert cutoff == pytest.approx(0.2**power, rel=0.25)
    # On other rows as well it brings more than cost / value.
    others, their_chances = true_probabilities(2, 50_000)
    assert brings(others, their_chances**power, cutoff) > brings(others, their_chances**power, 0.2)


def test_it_is_the_most_profitable_of_all_cutoffs():
    labels, chances = true_probabilities(3, 2_000)
    scores = np.round(chances, 2)  # with ties
    best = profit._best_cutoff(ranked(labels, scores), BUSINESS)
    assert brings(labels, scores, best) == max(brings(labels, scores, cutoff) for cutoff in np.unique(scores))


def test_when_no_call_pays_nobody_is_called():
    labels = np.zeros(5_000, dtype=np.uint8)
    scores = np.linspace(0.3, 0.6, 5_000)  # a model that promises what does not come
    cutoff = profit.choose_cutoff(ranked(labels, scores), BUSINESS, 5_000)
    assert 0.6 < cutoff < 1
    assert not (scores >= cutoff).any()


def test_certainty_is_no_cutoff():
    cutoff = profit.choose_cutoff(ranked(np.zeros(2_000), np.ones(2_000)), BUSINESS, 2_000)
    assert 0 < cutoff < 1


@pytest.mark.parametrize(("capacity", "called"), [(30_000, 2_000), (3_000, 500), (300, 50), (3, 1), (1, 1)])
def test_a_capacity_raises_it(capacity, called):
    """5,000 rows stand for 30,000 customers."""
    labels, chances = true_probabilities(4, 5_000)
    business = BusinessSettings(contact_cost=1, sale_value=20, capacity=capacity)
    cutoff = profit.choose_cutoff(ranked(labels, chances), business, 30_000)
    found = int((chances >= cutoff).sum())
    assert found == called if capacity < 30_000 else found > called
    assert cutoff >= 1 / 20


def test_customers_of_equal_probability_are_called_together_or_not_at_all():
    labels, scores = np.tile([0, 1], 500), np.repeat([0.9, 0.5], [400, 600])
    for capacity, called in ((399, 0), (400, 400), (999, 400), (1_000, 1_000)):
        business = BusinessSettings(capacity=capacity)
        cutoff = profit.choose_cutoff(ranked(labels, scores), business, 1_000)
        assert (scores >= cutoff).sum() == called


@pytest.mark.parametrize("capacity", [0, -1, 1.5])
def test_a_capacity_is_a_number_of_customers(capacity):
    with pytest.raises(ValidationError):
        BusinessSettings(capacity=capacity)


# --- What it brings ---------------------------------------------------------------------------------------------------


def test_money_by_hand():
    labels, scores = [1, 0, 1, 0, 0, 0, 0, 0, 0, 1], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]
    found = profit.measure(ranked(labels, scores), 0.5, BUSINESS, 100, 0.95)
    assert (found.model.customers, found.model.sales, found.model.profit) == (5, 2, 5.0)
    assert (found.random.customers, found.random.sales, found.random.profit) == (5, 1.5, 2.5)
    assert (found.everybody.customers, found.everybody.profit) == (10, 5.0)
    assert (found.nobody.customers, found.nobody.profit) == (0, 0.0)
    assert (found.best.customers, found.best.profit, found.best_cutoff) == (3, 7.0, 0.7)
    assert found.model.profit_low < 5 < found.model.profit_high
    assert (found.capacity, found.capacity_here) == (None, 10)


def test_a_capacity_ends_the_list_and_leaves_everybody_as_they_are():
    labels, scores = [1, 0, 1, 0, 0, 0, 0, 0, 0, 1], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]
    found = profit.measure(ranked(labels, scores), 0.5, BUSINESS.model_copy(update={"capacity": 20}), 100, 0.95)
    assert (found.capacity, found.capacity_here) == (20, 2)
    assert (found.model.customers, found.model.profit) == (2, 3.0)
    assert (found.best.customers, found.best.profit) == (1, 4.0)
    assert found.random.customers == 2
    assert found.everybody.customers == 10


def test_when_nobody_is_called_there_is_nothing_to_win_or_lose():
    found = profit.measure(ranked([0, 1], [0.1, 0.1]), 0.9, BUSINESS, 2, 0.95)
    assert (found.model.customers, found.model.profit, found.model.profit_low) == (0, 0, None)
    low = profit.measure(ranked([0, 0, 0, 1], [0.9, 0.8, 0.7, 0.1]), 0.9, BUSINESS, 4, 0.95)
    assert low.best.profit == max(0, 5 - 4)


def test_the_profit_interval_covers_what_the_list_brings():
    covered = 0
    for seed in range(200):
        labels, chances = true_probabilities(100 + seed, 2_000)
        found = profit.measure(ranked(labels, chances), 0.2, BUSINESS, 2_000, 0.95)
        called = chances >= 0.2
        truth = (BUSINESS.sale_value * chances[called] - BUSINESS.contact_cost).sum()
        covered += found.model.profit_low <= truth <= found.model.profit_high
    assert covered >= 0.91 * 200


def test_the_profit_curve_runs_from_nobody_to_everybody():
    sample = ranked(*true_probabilities(5, 3_000))
    curve, found = profit.curve(sample, BUSINESS), profit.measure(sample, 0.2, BUSINESS, 3_000, 0.95)
    assert (curve.x[0], curve.y[0], curve.x[-1]) == (0, 0, 1)
    assert curve.y[-1] == pytest.approx(found.everybody.profit)
    assert max(curve.y) <= found.best.profit + 1e-9
    assert max(curve.y) == pytest.approx(found.best.profit, rel=0.02)
    assert all(math.isfinite(y) for y in curve.y)
