"""How far a draw lies from what a fair one gives."""

from __future__ import annotations

import numpy as np
import pytest

from vehins.data import integrity


def test_standard_errors_by_hand():
    assert integrity.share_z(20, 100, 0.2) == 0
    assert integrity.share_z(28, 100, 0.2) == pytest.approx(2)
    assert integrity.share_z(0, 0, 0.2) is None
    # 30 of 100 against 20 of 100: 0.1 over sqrt(0.25 x 0.75 x 2 / 100)
    assert integrity.rates_z(30, 100, 20, 100) == pytest.approx(0.1 / (0.25 * 0.75 * 0.02) ** 0.5)
    assert integrity.rates_z(20, 100, 30, 100) == -integrity.rates_z(30, 100, 20, 100)


@pytest.mark.parametrize("counts", [(0, 0, 1, 10), (1, 10, 0, 0), (0, 10, 0, 10), (10, 10, 10, 10)])
def test_where_there_is_no_telling_there_is_no_number(counts):
    assert integrity.rates_z(*counts) is None


def test_a_fair_draw_is_no_surprise():
    """20,000 draws: two standard errors are common, five do not occur."""
    dice = np.random.default_rng(1)
    sizes = [integrity.share_z(int(hits), 5_000, 0.2) for hits in dice.binomial(5_000, 0.2, 10_000)]
    pairs = zip(dice.binomial(1_000, 0.12, 10_000), dice.binomial(4_000, 0.12, 10_000), strict=True)
    rates = [integrity.rates_z(int(here), 1_000, int(there), 4_000) for here, there in pairs]
    for found in (np.abs(sizes), np.abs(rates)):
        assert 0.02 < (found > 2).mean() < 0.07
        assert found.max() < 5
