"""A calibrator helps, keeps the order, gives the same bits for one row as for many, and stays away if not needed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vehins.model import calibration
from vehins.model.calibration import Calibrator
from vehins.model.metrics import auc, expected_calibration_error, log_loss

ROWS = 20_000


def customers(seed: int, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True probabilities near 12%, and labels that follow them."""
    dice = np.random.default_rng(seed)
    odds = dice.normal(-2.3, 1.2, rows)
    truth = 1 / (1 + np.exp(-odds))
    return odds, truth, dice.random(rows) < truth


def expit(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


WRONG = {
    "too sure": lambda odds: expit(2 * odds + 1),
    "too timid": lambda odds: expit(0.5 * odds - 1),
    "resampled to balance": lambda odds: expit(odds + 2),
}


@pytest.mark.parametrize("distort", WRONG.values(), ids=WRONG)
def test_wrong_probabilities_are_mended_on_rows_that_it_has_not_seen(distort):
    odds, truth, labels = customers(1)
    chosen, record = calibration.choose(labels, distort(odds))
    assert chosen is not None
    assert record.method == chosen.method == "sigmoid"  # the distortion is one
    new_odds, truth, new_labels = customers(2)
    before, after = distort(new_odds), chosen.apply(distort(new_odds))
    assert np.abs(after - truth).max() < 0.05
    assert log_loss(new_labels, after) < log_loss(new_labels, before)
    error = expected_calibration_error(new_labels, after)
    assert error < 0.01 < expected_calibration_error(new_labels, before)
    assert record.valid_ece > 0.01


def test_what_no_sigmoid_mends_is_mended_in_steps():
    odds, _, labels = customers(3)
    bent = np.where(odds > -2, expit(odds) ** 2, expit(odds) ** 2 / 4)
    chosen, record = calibration.choose(labels, bent)
    assert record.method == "isotonic"
    assert [one.method for one in record.tried] == ["sigmoid", "isotonic"]
    new_odds, _, new_labels = customers(4)
    new = np.where(new_odds > -2, expit(new_odds) ** 2, expit(new_odds) ** 2 / 4)
    assert expected_calibration_error(new_labels, chosen.apply(new)) < 0.01


def test_right_probabilities_are_left_alone():
    """Of calibrators that gain nothing, few get in: at most 5% are promised."""
    added = 0
    for seed in range(100):
        _, truth, labels = customers(1_000 + seed, 2_000)
        added += calibration.choose(labels, truth)[0] is not None
    assert added <= 10


def test_too_few_rows_calibrate_nothing():
    odds, _, labels = customers(5, 300)
    chosen, record = calibration.choose(labels, WRONG["too sure"](odds))
    assert chosen is None
    assert (record.method, record.tried) == ("none", [])
    assert record.valid_ece > 0


def test_it_can_be_refused():
    odds, _, labels = customers(1)
    chosen, record = calibration.choose(labels, WRONG["too sure"](odds), "never")
    assert (chosen, record.method, record.tried) == (None, "none", [])


@pytest.mark.parametrize("distort", WRONG.values(), ids=WRONG)
def test_the_order_of_customers_stays(distort):
    odds, _, labels = customers(6)
    for fit in calibration._FITTERS.values():
        given = distort(odds)
        meant = fit(labels, given).apply(given)
        assert auc(labels, meant) == pytest.approx(auc(labels, given), abs=1e-9)
        assert (np.diff(meant[np.argsort(given)]) >= -1e-15).all()


def test_a_sigmoid_is_followed_closely():
    odds, _, labels = customers(7)
    given = WRONG["too sure"](odds)
    found = calibration._sigmoid(labels, given)
    from sklearn.linear_model import LogisticRegression

    exact = LogisticRegression(C=1e12, tol=1e-10, max_iter=1_000).fit((2 * odds + 1)[:, None], labels)
    expected = exact.predict_proba((2 * odds + 1)[:, None])[:, 1]
    np.testing.assert_allclose(found.apply(given), expected, rtol=5e-3)


def test_scores_that_are_upside_down_are_not_turned_round():
    odds, _, labels = customers(8)
    found = calibration._sigmoid(labels, expit(-odds))
    assert (np.diff(found.apply(np.linspace(0, 1, 50))) >= 0).all()
    assert calibration.choose(labels, expit(-odds))[1].method in {"none", "sigmoid", "isotonic"}


def test_equal_scores_are_one_point():
    labels = np.tile([0, 0, 0, 1], 500)
    found = calibration._isotonic(labels == 1, np.full(2_000, 0.9))
    assert (found.given, found.meant) == ([0.0, 0.9, 1.0], [0.0, 0.25, 1.0])


CURVES = st.lists(
    st.tuples(st.floats(1e-9, 1, exclude_max=True), st.floats(1e-9, 1, exclude_max=True)), max_size=20
).map(lambda points: (sorted({x for x, _ in points}), sorted({y for _, y in points})))
PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(curve=CURVES, probabilities=PROBABILITIES)
@example(curve=([0.5], [0.5]), probabilities=[0.0, 1.0, 0.5, 5e-324])
def test_one_row_and_many_give_the_same_bits(curve, probabilities):
    count = min(map(len, curve))
    xs, ys = ([0.0, *points[:count], 1.0] for points in curve)
    found = Calibrator(method="isotonic", given=xs, meant=ys)
    many = found.apply(np.array(probabilities))
    assert many.tolist() == [found.apply(np.array([p])).item() for p in probabilities]
    assert ((many >= 0) & (many <= 1)).all()
    assert (many[np.array(probabilities) == 0] == 0).all()
    assert calibration.parse(found.to_json()).apply(np.array(probabilities)).tolist() == many.tolist()


@pytest.mark.parametrize(
    ("given_", "meant"),
    [
        ([0.0, 1.0], [0.0, 0.5, 1.0]),
        ([0.0, 0.5, 0.5, 1.0], [0.0, 0.1, 0.2, 1.0]),
        ([0.0, 0.5, 1.0], [0.0, 1.0, 0.5]),
        ([0.1, 1.0], [0.0, 1.0]),
        ([0.0, 1.0], [0.0, 0.9]),
        ([0.0], [0.0]),
        ([0.0, float("nan"), 1.0], [0.0, 0.5, 1.0]),
    ],
)
def test_what_does_not_rise_from_0_to_1_is_no_calibrator(given_, meant):
    with pytest.raises(ValidationError):
        Calibrator(method="isotonic", given=given_, meant=meant)
