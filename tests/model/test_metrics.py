"""Metrics against scikit-learn, against direct sums over all pairs, and against chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from vehins.errors import DataError, SettingsError
from vehins.model import metrics

RANKING = [metrics.auc, metrics.auc_interval, metrics.average_precision]
PROPER = [metrics.log_loss, metrics.brier, metrics.expected_calibration_error]
EVERY = [*RANKING, *PROPER, lambda labels, scores: metrics.auc_difference(labels, scores, scores)]


def sample(seed: int, rows: int, levels: int | None = None, signal: float = 1.0):
    """Labels, and probabilities that know something of them; ``levels`` makes ties."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.3).astype(np.int64)
    probabilities = 1 / (1 + np.exp(-rng.normal(size=rows) - signal * labels))
    return labels, probabilities if levels is None else np.round(probabilities * levels) / levels


def placements(labels, scores):
    """DeLong's placement values by looking at every pair: of each positive row, of each negative row."""
    wins = np.subtract.outer(scores[labels == 1], scores[labels == 0])
    psi = (wins > 0) + 0.5 * (wins == 0)
    return psi.mean(axis=1), psi.mean(axis=0)


@st.composite
def ranked(draw, least_per_class: int = 1):
    """Labels with enough of each class and few distinct whole scores, in any order."""
    labels = draw(st.lists(st.integers(0, 1), min_size=2, max_size=40))
    assume(least_per_class <= sum(labels) <= len(labels) - least_per_class)
    scores = draw(st.lists(st.integers(-6, 6), min_size=len(labels), max_size=len(labels)))
    return np.array(labels), np.array(scores, dtype=np.float64)


@pytest.mark.parametrize("levels", [None, 2, 7, 100])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scikit_learn(levels, seed):
    labels, probabilities = sample(seed, 5_000, levels)
    assert metrics.auc(labels, probabilities) == pytest.approx(
        reference.roc_auc_score(labels, probabilities), abs=1e-12
    )
    expected = reference.average_precision_score(labels, probabilities)
    assert metrics.average_precision(labels, probabilities) == pytest.approx(expected, abs=1e-12)
    assert metrics.log_loss(labels, probabilities) == pytest.approx(
        reference.log_loss(labels, probabilities), rel=1e-12
    )
    expected = reference.brier_score_loss(labels, probabilities)
    assert metrics.brier(labels, probabilities) == pytest.approx(expected, rel=1e-12)


def test_by_hand():
    labels, scores = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]
    assert metrics.auc(labels, scores) == 0.75
    assert metrics.average_precision(labels, scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert metrics.auc([0, 1], [5, 5]) == 0.5
    assert metrics.auc([True, False], np.array([2, 1], dtype=np.uint8)) == 1.0
    assert metrics.brier([0, 1], [0.5, 1.0]) == 0.125
    assert metrics.log_loss([1, 1], [0.5, 0.25]) == pytest.approx(1.5 * math.log(2))


def test_log_loss_of_a_certain_mistake_is_large_and_finite():
    assert metrics.log_loss([1], [0.0]) == pytest.approx(52 * math.log(2))
    assert metrics.log_loss([0], [1.0]) == pytest.approx(52 * math.log(2))
    assert metrics.log_loss([0, 1], [0.0, 1.0]) == pytest.approx(0, abs=1e-15)


@settings(max_examples=200, deadline=None)
@given(ranked(least_per_class=2))
def test_delong_agrees_with_all_pairs(rows):
    labels, scores = rows
    of_positives, of_negatives = placements(labels, scores)
    interval = metrics.auc_interval(labels, scores)
    variance = of_positives.var(ddof=1) / of_positives.size + of_negatives.var(ddof=1) / of_negatives.size
    assert interval.auc == pytest.approx(of_positives.mean(), abs=1e-12)
    assert interval.standard_error == pytest.approx(math.sqrt(variance), abs=1e-9)
    assert 0 <= interval.low <= interval.auc <= interval.high <= 1


@settings(max_examples=200, deadline=None)
@given(ranked(least_per_class=2), st.randoms(use_true_random=False))
def test_paired_delong_agrees_with_the_covariances_of_all_pairs(rows, random):
    labels, champion = rows
    challenger = np.array(random.choices(range(5), k=labels.size), dtype=np.float64)
    both = [placements(labels, scores) for scores in (challenger, champion)]
    covariance = sum(np.cov([one[side] for one in both]) / both[0][side].size for side in (0, 1))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    found = metrics.auc_difference(labels, challenger, champion)
    assert found.difference == pytest.approx(both[0][0].mean() - both[1][0].mean(), abs=1e-12)
    assert found.standard_error == pytest.approx(math.sqrt(max(variance, 0)), abs=1e-7)
    assert found.lower == pytest.approx(max(-1, found.difference - 1.6448536269514722 * found.standard_error))


@settings(deadline=None)
@given(ranked(least_per_class=2))
def test_only_the_order_of_scores_counts(rows):
    labels, scores = rows
    mapped = np.exp(scores / 3) - 7
    for metric in RANKING:
        assert metric(labels, mapped) == metric(labels, scores)
    assert metrics.auc_difference(labels, mapped, scores) == metrics.AucDifference(0.0, 0.0, 0.0)


@settings(deadline=None)
@given(ranked(least_per_class=2))
def test_other_labels_or_other_signs_mirror_the_area(rows):
    labels, scores = rows
    there = metrics.auc_interval(labels, scores)
    for back in (metrics.auc_interval(1 - labels, scores), metrics.auc_interval(labels, -scores)):
        assert back.auc == pytest.approx(1 - there.auc, abs=1e-12)
        assert back.standard_error == pytest.approx(there.standard_error, abs=1e-9)
        assert (back.low, back.high) == pytest.approx((1 - there.high, 1 - there.low), abs=1e-9)


@settings(deadline=None)
@given(ranked(least_per_class=2), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_count(rows, random):
    labels, scores = rows
    order = np.array(random.sample(range(labels.size), labels.size))
    probabilities = (scores + 6) / 12
    for metric in RANKING:
        assert metric(labels[order], scores[order]) == metric(labels, scores)
    for metric in PROPER:
        assert metric(labels[order], probabilities[order]) == pytest.approx(metric(labels, probabilities), abs=1e-12)


@settings(deadline=None)
@given(ranked(least_per_class=2), st.randoms(use_true_random=False))
def test_challenger_and_champion_change_places(rows, random):
    labels, scores = rows
    other = np.array(random.choices(range(5), k=labels.size), dtype=np.float64)
    there, back = metrics.auc_difference(labels, other, scores), metrics.auc_difference(labels, scores, other)
    assert there.difference == -back.difference
    assert there.standard_error == pytest.approx(back.standard_error, rel=1e-12)
    assert there.lower <= there.difference


@pytest.mark.parametrize("rows", [4, 100])
def test_a_perfect_ranking_leaves_doubt(rows):
    labels = np.arange(rows) >= rows / 2
    interval = metrics.auc_interval(labels, np.arange(rows))
    assert (interval.auc, interval.high, interval.standard_error) == (1.0, 1.0, 0.0)
    assert interval.low == pytest.approx(0.025 ** (2 / rows))
    mirrored = metrics.auc_interval(~labels, np.arange(rows))
    assert (mirrored.auc, mirrored.low) == (0.0, 0.0)
    assert mirrored.high == pytest.approx(1 - interval.low)


def test_more_confidence_is_a_wider_interval():
    labels, scores = sample(5, 500)
    narrow, wide = metrics.auc_interval(labels, scores, 0.5), metrics.auc_interval(labels, scores, 0.999)
    assert wide.low < narrow.low < narrow.auc < narrow.high < wide.high
    bounds = [metrics.auc_difference(labels, scores, -scores, confidence).lower for confidence in (0.5, 0.9, 0.99)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] == pytest.approx(metrics.auc_difference(labels, scores, -scores).difference)


def test_the_interval_covers_the_true_area():
    """Normal scores one apart have the area Phi(1 / sqrt 2); 300 draws cover within 2.8 binomial sd of 95%."""
    truth = 0.5 * (1 + math.erf(0.5))
    rng = np.random.default_rng(20)
    covered = 0
    for _ in range(300):
        labels = rng.random(1_500) < 0.12
        interval = metrics.auc_interval(labels, rng.normal(size=1_500) + labels)
        covered += interval.low <= truth <= interval.high
    assert 0.915 <= covered / 300 <= 0.985


def test_equal_models_are_rarely_called_better():
    """Two scores, equally noisy readings of one signal: the 95% bound exceeds 0 in about 5% of draws."""
    rng = np.random.default_rng(21)
    promoted = 0
    for _ in range(400):
        labels = rng.random(1_500) < 0.12
        signal = rng.normal(size=1_500) + labels
        challenger, champion = (signal + 0.5 * rng.normal(size=1_500) for _ in range(2))
        promoted += metrics.auc_difference(labels, challenger, champion).lower > 0
    assert 0.02 <= promoted / 400 <= 0.08


def test_a_better_model_is_called_better():
    labels, scores = sample(6, 3_000)
    worse = scores + np.random.default_rng(7).normal(size=3_000)
    assert metrics.auc_difference(labels, scores, worse).lower > 0
    assert metrics.auc_difference(labels, worse, scores).lower < 0


def test_calibration_of_bins_by_hand():
    labels, probabilities = [0, 1, 0, 1], [0.1, 0.2, 0.6, 0.7]
    assert metrics.expected_calibration_error(labels, probabilities, bins=2) == pytest.approx(0.25)
    assert metrics.expected_calibration_error(labels, probabilities, bins=1) == pytest.approx(0.1)
    each = (0.1 + 0.8 + 0.6 + 0.3) / 4
    assert metrics.expected_calibration_error(labels, probabilities, bins=4) == pytest.approx(each)
    assert metrics.expected_calibration_error(labels, probabilities, bins=10**12) == pytest.approx(each)


def test_calibration_agrees_with_sorted_slices():
    labels, probabilities = sample(8, 4_000)
    slices = np.split(np.argsort(probabilities), 20)
    gaps = [abs(probabilities[one].mean() - labels[one].mean()) for one in slices]
    assert metrics.expected_calibration_error(labels, probabilities) == pytest.approx(np.mean(gaps), rel=1e-12)


def test_calibration_keeps_ties_together():
    labels = np.tile([0, 1], 500)
    assert metrics.expected_calibration_error(np.sort(labels), np.full(1_000, 0.5)) == 0
    assert metrics.expected_calibration_error(labels, np.full(1_000, 0.7)) == pytest.approx(0.2)


def test_true_probabilities_are_calibrated_and_others_are_not():
    rng = np.random.default_rng(9)
    truth = rng.beta(1, 7, size=200_000)
    labels = rng.random(200_000) < truth
    assert metrics.expected_calibration_error(labels, truth) < 0.005
    assert metrics.expected_calibration_error(labels, truth**0.5) > 0.1


@pytest.mark.parametrize("metric", EVERY)
@pytest.mark.parametrize(
    ("labels", "scores", "detail"),
    [
        ([0, 1, 0, 1], [0.1, math.nan, 0.2, 0.3], "1 of 4 values, the first in row 1: nan."),
        ([0, 1, 0, 1], [0.1, 0.5, math.inf, -math.inf], "2 of 4 values, the first in row 2: inf."),
        ([0.0, 1.0, math.nan, 1.0], [0.1, 0.5, 0.2, 0.3], "1 of 4 values, the first in row 2: nan."),
        ([0, 1, 2, 3], [0.1, 0.5, 0.2, 0.3], "2 of 4 values, the first in row 2: 2."),
        ([0, 1, 0, 1], [0.1, 0.5], "4 labels, but 2 values."),
        ([], [], "The array has shape (0,)."),
        ([0, 1, 0, 1], [[0.1, 0.9]] * 4, "The array has shape (4, 2)."),
        ([0, 1, 0, 1], 0.5, "The array has shape ()."),
        (["0", "1"], [0.1, 0.2], "The array has dtype <U1."),
        ([0, 1, 0, 1], [0.1, None, 0.2, 0.3], "The array has dtype object."),
    ],
)
def test_refuses_what_is_not_labels_and_scores(metric, labels, scores, detail):
    with pytest.raises(DataError) as caught:
        metric(labels, scores)
    assert caught.value.detail == detail
    assert caught.value.headline
    assert caught.value.hint


@pytest.mark.parametrize("metric", RANKING)
@pytest.mark.parametrize("label", [0, 1])
def test_a_ranking_needs_both_classes(metric, label):
    with pytest.raises(DataError, match="Too few labels of one class") as caught:
        metric([label] * 3, [0.1, 0.2, 0.3])
    assert "3 labels are" in caught.value.detail or "3 are 0" in caught.value.detail


@pytest.mark.parametrize("metric", [metrics.auc_interval, EVERY[-1]])
def test_a_variance_needs_two_of_each_class(metric):
    with pytest.raises(DataError, match="Too few labels of one class"):
        metric([0, 0, 1], [0.1, 0.2, 0.3])


def test_one_class_has_a_loss_all_the_same():
    assert [metric([0, 0], [0.0, 0.0]) for metric in PROPER] == [pytest.approx(0, abs=1e-15)] * 3


@pytest.mark.parametrize("metric", PROPER)
@pytest.mark.parametrize("wrong", [-0.1, 1.5])
def test_probabilities_stay_within_0_and_1(metric, wrong):
    with pytest.raises(DataError, match="not between 0 and 1"):
        metric([0, 1], [0.5, wrong])


def test_names_the_model_whose_scores_are_wrong():
    labels, good, bad = [0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, math.nan, 0.4]
    with pytest.raises(DataError, match="score of the champion is not a finite number"):
        metrics.auc_difference(labels, good, bad)
    with pytest.raises(DataError, match="score of the challenger is not a finite number"):
        metrics.auc_difference(labels, bad, good)


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.5, math.nan])
def test_a_confidence_lies_between_0_and_1(confidence):
    labels, scores = [0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4]
    with pytest.raises(SettingsError, match="between 0 and 1"):
        metrics.auc_interval(labels, scores, confidence)
    with pytest.raises(SettingsError, match="between 0 and 1"):
        metrics.auc_difference(labels, scores, scores, confidence)


def test_calibration_needs_a_bin():
    with pytest.raises(SettingsError, match="at least one bin"):
        metrics.expected_calibration_error([0, 1], [0.5, 0.5], bins=0)


def test_inputs_are_left_as_they_were():
    labels, scores = sample(10, 1_000)
    kept = labels.copy(), scores.copy()
    for metric in EVERY:
        metric(labels, scores)
    np.testing.assert_array_equal(kept[0], labels)
    np.testing.assert_array_equal(kept[1], scores)


# --- Read off one ranking -------------------------------------------------------------------------------------------


def ranked_sample(seed: int, rows: int, levels: int | None = None):
    return metrics.rank(*sample(seed, rows, levels), "probability", least_per_class=2)


@pytest.mark.parametrize("levels", [None, 7])
def test_some_of_the_rows_are_as_if_they_were_ranked_alone(levels):
    """To the last bit, and in whatever order they came."""
    labels, scores = sample(11, 3_000, levels)
    champion = np.random.default_rng(12).permutation(scores)
    ours, theirs = metrics.rank(labels, scores), metrics.rank(labels, champion)
    chosen = np.random.default_rng(13).random(3_000) < 0.3
    alone = metrics.rank(labels[chosen], scores[chosen])
    among = ours.among(chosen)
    assert metrics.interval(among) == metrics.interval(alone)
    assert metrics.calibration_error(among) == pytest.approx(metrics.calibration_error(alone), abs=1e-15)
    paired = metrics.difference(among, theirs.among(chosen))
    expected = metrics.auc_difference(labels[chosen], scores[chosen], champion[chosen])
    assert paired.difference == expected.difference
    assert paired.standard_error == pytest.approx(expected.standard_error, rel=1e-12)


def test_the_gap_of_the_distributions_agrees_with_scipy():
    from scipy.stats import ks_2samp

    for seed, levels in ((14, None), (15, 9)):
        labels, scores = sample(seed, 2_000, levels)
        expected = ks_2samp(scores[labels == 1], scores[labels == 0]).statistic
        assert metrics.kolmogorov_smirnov(metrics.rank(labels, scores)) == pytest.approx(expected, abs=1e-12)


def test_all_figures_of_a_model_are_those_of_each_function():
    labels, scores = sample(16, 2_000)
    found = metrics.measure(metrics.rank(labels, scores, "probability"), 0.95, 0.975)
    assert (found.rows, found.positives) == (2_000, labels.sum())
    assert found.auc == metrics.auc(labels, scores)
    assert found.average_precision == metrics.average_precision(labels, scores)
    assert found.log_loss == pytest.approx(metrics.log_loss(labels, scores), rel=1e-12)
    assert found.brier == pytest.approx(metrics.brier(labels, scores), rel=1e-12)
    assert found.expected_calibration_error == metrics.expected_calibration_error(labels, scores)
    for name in ("auc", "average_precision", "log_loss", "brier"):
        low, value, high = (getattr(found, name + end) for end in ("_low", "", "_high"))
        assert low < value < high


def test_wilson_by_hand():
    # Wilson's interval for 81 of 263 at 95%, as Newcombe (Statistics in Medicine 17, 1998, table I) has it.
    assert metrics.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_the_intervals_cover_the_truth():
    """Of 300 draws from a large population, whose own figures are the truth; 2.8 binomial sd below 95%."""
    dice = np.random.default_rng(17)
    chances = dice.beta(0.6, 4.0, 300_000)
    labels = (dice.random(chances.size) < chances).astype(np.uint8)
    whole = metrics.measure(metrics.rank(labels, chances, "probability"), 0.95, 0.95)
    names = ("average_precision", "log_loss", "brier")
    covered, calm = dict.fromkeys(names, 0), 0
    for _ in range(300):
        some = dice.integers(0, chances.size, 1_200)
        found = metrics.measure(metrics.rank(labels[some], chances[some], "probability"), 0.95, 0.95)
        for name in names:
            covered[name] += getattr(found, name + "_low") <= getattr(whole, name) <= getattr(found, name + "_high")
        calm += found.expected_calibration_error <= found.calibration_chance
    assert all(count >= 0.915 * 300 for count in covered.values()), covered
    assert 0.90 <= calm / 300 <= 0.985


def test_the_calibration_table_is_the_calibration_error():
    labels, scores = sample(18, 5_000)
    ranked = metrics.rank(labels, scores, "probability")
    bins = metrics.calibration_table(ranked)
    assert [one.rows for one in bins] == [250] * 20
    assert sum(one.positives for one in bins) == labels.sum()
    gaps = sum(one.rows * abs(one.mean_probability - one.observed_rate) for one in bins)
    assert gaps / 5_000 == pytest.approx(metrics.calibration_error(ranked), rel=1e-12)
    assert all(one.low <= one.observed_rate <= one.high for one in bins)
    assert [one.mean_probability for one in bins] == sorted(one.mean_probability for one in bins)
    # Ties leave fewer bins, and no empty ones.
    few = metrics.calibration_table(metrics.rank(labels, np.where(scores > 0.5, 0.9, 0.1), "probability"))
    assert (len(few), sum(one.rows for one in few)) == (2, 5_000)


# --- Lists and curves -----------------------------------------------------------------------------------------------


def test_gains_by_hand():
    labels, scores = [1, 0, 1, 0, 0, 0, 0, 0, 0, 1], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    found = metrics.gains(metrics.rank(labels, scores), (0.1, 0.3, 0.5, 1.0))
    assert [(one.customers, one.positives, one.cutoff) for one in found] == [
        (1, 1, 0.9),
        (3, 2, 0.7),
        (5, 2, 0.5),
        (10, 3, 0.0),
    ]
    assert [one.recall for one in found] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1])
    assert [one.precision for one in found] == pytest.approx([1, 2 / 3, 2 / 5, 3 / 10])
    assert [one.lift for one in found] == pytest.approx([10 / 3, 20 / 9, 4 / 3, 1])


def test_a_list_that_ends_among_equals_has_its_share_of_them():
    found = metrics.gains(metrics.rank([1, 0, 1, 0], [0.5] * 4), (0.25, 0.5))
    assert [(one.customers, one.positives, one.lift) for one in found] == [(1, 0.5, 1.0), (2, 1.0, 1.0)]


def test_gains_at_the_shares_that_people_ask_for():
    found = metrics.gains(ranked_sample(19, 4_000))
    assert [one.share for one in found] == [0.05, 0.1, 0.2, 0.3, 0.5]
    assert [one.customers for one in found] == [200, 400, 800, 1_200, 2_000]
    assert [one.lift for one in found] == sorted((one.lift for one in found), reverse=True)


@pytest.mark.parametrize("levels", [None, 5])
def test_curves_are_thin_and_start_and_end_where_they_must(levels):
    ranked = ranked_sample(20, 20_000, levels)
    roc, precision, gains = metrics.roc_curve(ranked), metrics.precision_curve(ranked), metrics.gains_curve(ranked)
    for curve in (roc, precision, gains):
        assert len(curve.x) == len(curve.y) <= 202
        assert curve.x == sorted(curve.x)
    for curve in (roc, gains):
        assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
        assert curve.y == sorted(curve.y)
    assert precision.x[-1] == 1
    assert precision.y[-1] == pytest.approx(ranked.positives / ranked.rows, abs=0.01)
    # Thinned as it is, the area below is that of all points.
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(metrics.interval(ranked).auc, abs=2e-4)


def test_a_histogram_has_every_row():
    ranked = ranked_sample(21, 5_000)
    found = metrics.histogram(ranked)
    assert len(found.edges) == len(found.positives) + 1 == len(found.negatives) + 1
    assert (sum(found.positives), sum(found.negatives)) == (ranked.positives, ranked.rows - ranked.positives)
    nothing = metrics.histogram(metrics.rank([0, 1], [0.0, 0.0]))
    assert (sum(nothing.positives), sum(nothing.negatives)) == (1, 1)
