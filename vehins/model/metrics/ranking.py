"""How well scores rank: the area under the ROC curve with its errors, average precision, Kolmogorov-Smirnov.

The standard errors of an area are those of DeLong, DeLong & Clarke-Pearson, "Comparing the areas under two or more
correlated receiver operating characteristic curves", Biometrics 44 (1988), in the O(n log n) form of Sun & Xu, "Fast
implementation of DeLong's algorithm", IEEE Signal Processing Letters 21 (2014). What Sun & Xu get as the difference of
two mid-ranks (of a row among all rows, and among those of its own class) is counted here directly, tie by tie, so that
one sort is enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from vehins.model.metrics._checks import confident
from vehins.model.metrics._ranked import Ranked, Ties, rank

if TYPE_CHECKING:
    import numpy.typing as npt


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
    return _area(rank(labels, scores, least_per_class=1).ties)


def auc_interval(labels: npt.ArrayLike, scores: npt.ArrayLike, confidence: float = 0.95) -> AucInterval:
    """`interval` of labels (at least two of each) and scores that are not ranked yet."""
    confident(confidence)
    return interval(rank(labels, scores, least_per_class=2), confidence)


def interval(ranked: Ranked, confidence: float = 0.95) -> AucInterval:
    """AUC with DeLong's standard error and a two-sided interval that stays within 0 and 1.

    The interval is symmetric on the logit scale (standard error there: se / (auc (1 - auc)), by the delta method) and
    is mapped back. At an AUC of exactly 0 or 1 DeLong's variance is 0 and says nothing: there the open end is the exact
    bound of Clopper & Pearson (1934) for k successes in k trials, (alpha / 2) ** (1 / k), where k, the size of the
    smaller class, is the number of separate pairs of a positive and a negative row. It holds, and it is wide.

    Args:
        ranked: at least two rows of each label.
        confidence: how often such an interval is to hold the true value, above 0 and below 1.

    Raises:
        SettingsError: for another confidence.
    """
    confident(confidence)
    area, error = _area(ranked.ties), _area_error(ranked.ties)
    low, high = logit_interval(area, error, confidence, ranked.rarer)
    return AucInterval(area, low, high, error)


def logit_interval(share: float, error: float, confidence: float, trials: int) -> tuple[float, float]:
    """An interval around a share, symmetric on the logit scale; at 0 and 1 Clopper & Pearson's with so many trials."""
    tail = (1 - confidence) / 2
    if share in (0.0, 1.0):
        bound = tail ** (1 / trials)
        return (bound, 1.0) if share else (0.0, 1 - bound)
    centre = math.log(share / (1 - share))
    reach = NormalDist().inv_cdf(1 - tail) * error / (share * (1 - share))
    return _expit(centre - reach), _expit(centre + reach)


def auc_difference(
    labels: npt.ArrayLike, challenger: npt.ArrayLike, champion: npt.ArrayLike, confidence: float = 0.95
) -> AucDifference:
    """`difference` of the scores of two models for rows with these labels (at least two of each)."""
    confident(confidence)
    ours = rank(labels, challenger, "score of the challenger", least_per_class=2)
    return difference(ours, rank(labels, champion, "score of the champion"), confidence)


def difference(challenger: Ranked, champion: Ranked, confidence: float = 0.95) -> AucDifference:
    """AUC of a challenger minus AUC of a champion on the same rows, with a one-sided lower bound (paired DeLong test).

    Of two equally good models the bound lies above 0 in a share 1 - ``confidence`` of all comparisons. Scores that rank
    the rows alike give 0, 0, 0.

    Args:
        challenger: the rows as the new model ranks them, at least two of each label.
        champion: the same rows as the model in use ranks them.
        confidence: of the lower bound, above 0 and below 1.

    Raises:
        SettingsError: for another confidence.
    """
    import numpy as np

    quantile = NormalDist().inv_cdf(confident(confidence))
    placed = np.empty(int(champion.order.max()) + 1)
    placed[champion.order] = champion.placements()
    gain = challenger.placements() - placed[challenger.order]
    of_positives, of_negatives = gain[challenger.positive], gain[~challenger.positive]
    pairs = float(of_positives.size) * of_negatives.size
    found = float(of_positives.sum()) / pairs
    variance = of_positives.var(ddof=1) * of_positives.size + of_negatives.var(ddof=1) * of_negatives.size
    error = math.sqrt(variance) / pairs
    return AucDifference(found, error, max(-1.0, found - quantile * error))


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """`precision_area` of labels (both present) and finite scores that are not ranked yet."""
    return precision_area(rank(labels, scores, least_per_class=1))


def precision_area(ranked: Ranked) -> float:
    """Average precision: the precision at each distinct score, weighted by the recall gained there (no interpolation).

    Only the order of the scores counts. There must be a positive row.
    """
    import numpy as np

    positives = ranked.ties.positives[::-1]
    hits = np.cumsum(positives)
    chosen = np.cumsum(ranked.ties.sizes[::-1])
    return float(np.sum(positives * (hits / chosen)) / hits[-1])


def precision_interval(ranked: Ranked, confidence: float = 0.95) -> tuple[float, float]:
    """An interval around the average precision, symmetric on the logit scale.

    The standard error there is 1 / sqrt(k p (1 - p)) for an average precision p of k positives: the logit interval of
    Boyd, Eng & Page, "Area under the precision-recall curve: point estimates and confidence intervals", ECML PKDD 2013.
    """
    share, trials = precision_area(ranked), ranked.positives
    return logit_interval(share, math.sqrt(share * (1 - share) / trials), confidence, trials)


def kolmogorov_smirnov(ranked: Ranked) -> float:
    """The widest gap between the distribution functions of the scores of both labels, 0 to 1; both must be there."""
    import numpy as np

    ties = ranked.ties
    gaps = np.cumsum(ties.negatives) / ties.negatives.sum() - np.cumsum(ties.positives) / ties.positives.sum()
    return float(np.abs(gaps).max())


def _area(ties: Ties) -> float:
    """The AUC of grouped rows."""
    below, _ = ties.placements()
    return float((ties.positives * below).sum() / (float(ties.positives.sum()) * float(ties.negatives.sum())))


def _area_error(ties: Ties) -> float:
    """DeLong's standard error: the variances of both classes' placements, each over the size of its class, summed."""
    below, above = ties.placements()
    positives, negatives = float(ties.positives.sum()), float(ties.negatives.sum())
    pairs_right = (ties.positives * below).sum()
    of_positives = (ties.positives * (below - pairs_right / positives) ** 2).sum() / (positives - 1)
    of_negatives = (ties.negatives * (above - pairs_right / negatives) ** 2).sum() / (negatives - 1)
    return math.sqrt(of_positives * positives + of_negatives * negatives) / (positives * negatives)


def _expit(logit: float) -> float:
    """The logistic function, in the form that cannot overflow."""
    return (1 + math.tanh(logit / 2)) / 2
