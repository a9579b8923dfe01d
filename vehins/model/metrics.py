"""How good a model's scores are, and how sure one may be of it.

Pure functions: one-dimensional arrays in, numbers out. Labels are 0 or 1 and scores are finite: anything else, a NaN
above all, is a `DataError` and never a value. Rows of equal score are ties and are treated as such, so no figure
depends on the order of the rows. What ranks sorts each array of scores once, O(n log n); all sums are float64.

The standard errors are those of DeLong, DeLong & Clarke-Pearson, "Comparing the areas under two or more correlated
receiver operating characteristic curves", Biometrics 44 (1988), in the O(n log n) form of Sun & Xu, "Fast
implementation of DeLong's algorithm", IEEE Signal Processing Letters 21 (2014). What Sun & Xu get as the difference of
two mid-ranks (of a row among all rows, and among those of its own class) is counted here directly, tie by tie, so that
one sort is enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, NoReturn

from vehins.errors import DataError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Counts = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

PROBABILITY_FLOOR = 2.0**-52
"""Nearest that `log_loss` lets a probability come to 0 or 1: the spacing of float64 at 1, as in scikit-learn."""


@dataclass(frozen=True, slots=True)
class AucInterval:
    """An area under the ROC curve and the two-sided confidence interval around it.

    Attributes:
        auc: the area, 0 to 1: the chance that a positive row scores above a negative one, a tie counted half.
        low: lower end of the interval, 0 to 1.
        high: upper end of the interval, 0 to 1.
        standard_error: DeLong's standard error of ``auc``.
    """

    auc: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class AucDifference:
    """How far a challenger's AUC lies above a champion's, both on the same rows.

    Attributes:
        difference: AUC of the challenger minus AUC of the champion, -1 to 1.
        standard_error: DeLong's standard error of the paired difference.
        lower: one-sided lower confidence bound of ``difference``.
    """

    difference: float
    standard_error: float
    lower: float


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve: the Mann-Whitney statistic over all pairs of a positive and a negative row.

    Args:
        labels: shape (n,), 0 or 1, both present.
        scores: shape (n,), finite; more means likelier to be 1. Only their order counts.

    Raises:
        DataError: for labels or scores that are not as above.
    """
    positive = _labels(labels, least_per_class=1)
    return _area(_ties(positive, _values(scores, "score", positive.size)))


def auc_interval(labels: npt.ArrayLike, scores: npt.ArrayLike, confidence: float = 0.95) -> AucInterval:
    """AUC with DeLong's standard error and a two-sided interval that stays within 0 and 1.

    The interval is symmetric on the logit scale (standard error there: se / (auc (1 - auc)), by the delta method) and
    is mapped back. At an AUC of exactly 0 or 1 DeLong's variance is 0 and says nothing: there the open end is the exact
    bound of Clopper & Pearson (1934) for k successes in k trials, (alpha / 2) ** (1 / k), where k, the size of the
    smaller class, is the number of separate pairs of a positive and a negative row. It holds, and it is wide.

    Args:
        labels: shape (n,), 0 or 1, at least two of each.
        scores: shape (n,), finite; more means likelier to be 1. Only their order counts.
        confidence: how often such an interval is to hold the true value, above 0 and below 1.

    Raises:
        DataError: for labels or scores that are not as above.
        SettingsError: for another confidence.
    """
    tail = (1 - _confidence(confidence)) / 2
    positive = _labels(labels, least_per_class=2)
    ties = _ties(positive, _values(scores, "score", positive.size))
    area, error = _area(ties), _area_error(ties)
    if area in (0.0, 1.0):
        bound = tail ** (1 / min(int(ties.positives.sum()), int(ties.negatives.sum())))
        return AucInterval(area, bound, 1.0, error) if area else AucInterval(area, 0.0, 1 - bound, error)
    centre = math.log(area / (1 - area))
    reach = NormalDist().inv_cdf(1 - tail) * error / (area * (1 - area))
    return AucInterval(area, _expit(centre - reach), _expit(centre + reach), error)


def auc_difference(
    labels: npt.ArrayLike, challenger: npt.ArrayLike, champion: npt.ArrayLike, confidence: float = 0.95
) -> AucDifference:
    """AUC of a challenger minus AUC of a champion on the same rows, with a one-sided lower bound (paired DeLong test).

    Of two equally good models the bound lies above 0 in a share 1 - ``confidence`` of all comparisons. Scores that rank
    the rows alike give 0, 0, 0.

    Args:
        labels: shape (n,), 0 or 1, at least two of each.
        challenger: shape (n,), finite scores of the new model.
        champion: shape (n,), finite scores of the model in use, in the same order of rows.
        confidence: of the lower bound, above 0 and below 1.

    Raises:
        DataError: for labels or scores that are not as above.
        SettingsError: for another confidence.
    """
    quantile = NormalDist().inv_cdf(_confidence(confidence))
    positive = _labels(labels, least_per_class=2)
    gain = _row_placements(positive, _values(challenger, "score of the challenger", positive.size))
    gain -= _row_placements(positive, _values(champion, "score of the champion", positive.size))
    of_positives, of_negatives = gain[positive], gain[~positive]
    pairs = float(of_positives.size) * of_negatives.size
    difference = float(of_positives.sum()) / pairs
    variance = of_positives.var(ddof=1) * of_positives.size + of_negatives.var(ddof=1) * of_negatives.size
    error = math.sqrt(variance) / pairs
    return AucDifference(difference, error, max(-1.0, difference - quantile * error))


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Average precision: the precision at each distinct score, weighted by the recall gained there (no interpolation).

    Args:
        labels: shape (n,), 0 or 1, both present.
        scores: shape (n,), finite; more means likelier to be 1. Only their order counts.

    Raises:
        DataError: for labels or scores that are not as above.
    """
    import numpy as np

    positive = _labels(labels, least_per_class=1)
    ties = _ties(positive, _values(scores, "score", positive.size))
    hits = np.cumsum(ties.positives[::-1])
    chosen = np.cumsum((ties.positives + ties.negatives)[::-1])
    return float(np.sum(ties.positives[::-1] * (hits / chosen)) / hits[-1])


def log_loss(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean negative log-likelihood in nats; a probability is first moved `PROBABILITY_FLOOR` away from 0 and 1.

    The move keeps one confident mistake from making the mean infinite: it costs 36 nats instead.

    Args:
        labels: shape (n,), 0 or 1, at least one row.
        probabilities: shape (n,), of the label being 1, 0 to 1.

    Raises:
        DataError: for labels or probabilities that are not as above.
    """
    import numpy as np

    positive = _labels(labels)
    given = _probabilities(probabilities, positive.size)
    of_truth = np.where(positive, given, 1 - given)
    return float(-np.log(of_truth.clip(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)).mean())


def brier(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Brier score: the mean squared distance between probability and label, 0 (perfect) to 1.

    Args:
        labels: shape (n,), 0 or 1, at least one row.
        probabilities: shape (n,), of the label being 1, 0 to 1.

    Raises:
        DataError: for labels or probabilities that are not as above.
    """
    import numpy as np

    positive = _labels(labels)
    return float(np.square(_probabilities(probabilities, positive.size) - positive).mean())


def expected_calibration_error(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 20) -> float:
    """Mean distance, over bins of equal count, between a bin's mean probability and its share of positives.

    Rows fall into bins by the mid-rank of their probability, so equal probabilities share a bin and bins are only as
    equal as ties allow. Chance alone makes the error positive: about 0.8 sqrt(bins p (1 - p) / n) for perfect
    probabilities near p.

    Args:
        labels: shape (n,), 0 or 1, at least one row.
        probabilities: shape (n,), of the label being 1, 0 to 1.
        bins: how many, at least 1; more than there are rows are as many as rows.

    Raises:
        DataError: for labels or probabilities that are not as above.
        SettingsError: for fewer than one bin.
    """
    import numpy as np

    if bins < 1:
        raise SettingsError("Calibration needs at least one bin", detail=f"bins is {bins}.", hint="Set bins to 20.")
    positive = _labels(labels)
    ties = _ties(positive, _probabilities(probabilities, positive.size))
    sizes = ties.positives + ties.negatives
    middle = np.cumsum(sizes) - sizes / 2
    bin_of = (middle * min(bins, positive.size) / positive.size).astype(np.int64)
    gaps = np.bincount(bin_of, weights=ties.scores * sizes - ties.positives)
    return float(np.abs(gaps).sum() / positive.size)


@dataclass(frozen=True, slots=True)
class _Ties:
    """Rows grouped by equal score, lowest first: all but ``order`` have one entry per distinct score."""

    order: npt.NDArray[np.intp]
    """Row numbers, from the lowest score to the highest."""
    scores: Floats
    positives: Counts
    negatives: Counts


def _ties(positive: Flags, scores: Floats) -> _Ties:
    """Group rows by score with one sort."""
    import numpy as np

    order = np.argsort(scores)
    ranked = scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    sizes = np.diff(last, prepend=-1)
    positives = np.diff(np.cumsum(positive[order], dtype=np.int64)[last], prepend=0)
    return _Ties(order, ranked[last], positives, sizes - positives)


def _placements(ties: _Ties) -> tuple[Floats, Floats]:
    """For each distinct score, how many negatives lie below it and how many positives above it, ties counted half.

    Multiples of one half, and so exact in float64, as are their sums up to 2**52 pairs.
    """
    import numpy as np

    below = np.cumsum(ties.negatives) - ties.negatives / 2
    above = ties.positives.sum() - np.cumsum(ties.positives) + ties.positives / 2
    return below, above


def _row_placements(positive: Flags, scores: Floats) -> Floats:
    """For each row, in the order of the rows, how many of the other class it is on the right side of, ties half."""
    import numpy as np

    ties = _ties(positive, scores)
    sizes = ties.positives + ties.negatives
    below, above = (np.repeat(counts, sizes) for counts in _placements(ties))
    placed = np.empty_like(scores)
    placed[ties.order] = np.where(positive[ties.order], below, above)
    return placed


def _area(ties: _Ties) -> float:
    """The AUC of grouped rows."""
    below, _ = _placements(ties)
    return float((ties.positives * below).sum() / (float(ties.positives.sum()) * float(ties.negatives.sum())))


def _area_error(ties: _Ties) -> float:
    """DeLong's standard error: the variances of both classes' placements, each over the size of its class, summed."""
    below, above = _placements(ties)
    positives, negatives = float(ties.positives.sum()), float(ties.negatives.sum())
    pairs_right = (ties.positives * below).sum()
    of_positives = (ties.positives * (below - pairs_right / positives) ** 2).sum() / (positives - 1)
    of_negatives = (ties.negatives * (above - pairs_right / negatives) ** 2).sum() / (negatives - 1)
    return math.sqrt(of_positives * positives + of_negatives * negatives) / (positives * negatives)


def _expit(logit: float) -> float:
    """The logistic function, in the form that cannot overflow."""
    return (1 + math.tanh(logit / 2)) / 2


def _confidence(confidence: float) -> float:
    """A confidence between 0 and 1, or an error."""
    if not 0 < confidence < 1:
        raise SettingsError(
            "A confidence lies between 0 and 1",
            detail=f"The confidence is {confidence}.",
            hint="Give a share, not a percentage: 0.95.",
        )
    return confidence


def _labels(labels: npt.ArrayLike, least_per_class: int = 0) -> Flags:
    """Labels as booleans, once they are known to be 0 and 1, and enough of each."""
    import numpy as np

    array = _one_dimensional(labels, "label")
    positive: Flags = array == 1
    wrong = ~(positive | (array == 0))
    if wrong.any():
        _refuse_rows(
            "A label is neither 0 nor 1", array, wrong, "Encode the target as 0 and 1 and drop rows without one."
        )
    positives = int(np.count_nonzero(positive))
    if min(positives, positive.size - positives) < least_per_class:
        raise DataError(
            "Too few labels of one class to judge a ranking",
            detail=f"{positives:,} labels are 1 and {positive.size - positives:,} are 0.",
            hint=f"Judge on more rows: at least {least_per_class} of each class are needed.",
        )
    return positive


def _values(values: npt.ArrayLike, what: str, rows: int) -> Floats:
    """One finite float64 per label, or an error that names the first that is not."""
    import numpy as np

    array = _one_dimensional(values, what).astype(np.float64, copy=False)
    if array.size != rows:
        raise DataError(
            f"There is not one {what} for every label",
            detail=f"{rows:,} labels, but {array.size:,} values.",
            hint="Score the very rows that the labels come from, in the same order.",
        )
    wrong = ~np.isfinite(array)
    if wrong.any():
        _refuse_rows(f"A {what} is not a finite number", array, wrong, "Find the rows that the model cannot score.")
    return array


def _probabilities(values: npt.ArrayLike, rows: int) -> Floats:
    """One probability per label, or an error that names the first that is not between 0 and 1."""
    array = _values(values, "probability", rows)
    wrong = (array < 0) | (array > 1)
    if wrong.any():
        _refuse_rows("A probability is not between 0 and 1", array, wrong, "Pass probabilities, not raw scores.")
    return array


def _one_dimensional(values: npt.ArrayLike, what: str) -> npt.NDArray[np.generic]:
    """A filled array of numbers in one dimension, or an error; nothing is parsed out of text or objects."""
    import numpy as np

    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise DataError(
            f"A {what} per row is needed, and at least one row",
            detail=f"The array has shape {array.shape}.",
            hint="Pass one-dimensional arrays; of two columns of probabilities, the one of class 1.",
        )
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"A {what} is not a number",
            detail=f"The array has dtype {array.dtype}.",
            hint="Cast the column to numbers first; text and missing values have no place in a metric.",
        )
    return array


def _refuse_rows(headline: str, array: npt.NDArray[np.generic], wrong: Flags, hint: str) -> NoReturn:
    """Raise the `DataError` that counts the wrong rows and shows the first."""
    first = int(wrong.argmax())
    detail = f"{int(wrong.sum()):,} of {array.size:,} values, the first in row {first}: {array[first]}."
    raise DataError(headline, detail=detail, hint=hint)
