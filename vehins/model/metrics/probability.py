"""How true probabilities are: log loss, Brier score, and calibration with what chance alone adds to it."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from vehins.artifacts.evaluation import CalibrationBin
from vehins.errors import SettingsError
from vehins.model.metrics._ranked import Ranked, rank

if TYPE_CHECKING:
    import numpy.typing as npt

    from vehins.model.metrics._checks import Floats

PROBABILITY_FLOOR = 2.0**-52
"""Nearest that `log_loss` lets a probability come to 0 or 1: the spacing of float64 at 1, as in scikit-learn."""
BINS = 20


def log_loss(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean negative log-likelihood in nats; a probability is first moved `PROBABILITY_FLOOR` away from 0 and 1.

    The move keeps one confident mistake from making the mean infinite: it costs 36 nats instead.

    Args:
        labels: shape (n,), 0 or 1, at least one row.
        probabilities: shape (n,), of the label being 1, 0 to 1.

    Raises:
        DataError: for labels or probabilities that are not as above.
    """
    return float(log_losses(rank(labels, probabilities, "probability")).mean())


def brier(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Brier score: the mean squared distance between probability and label, 0 (perfect) to 1.

    Args:
        labels: shape (n,), 0 or 1, at least one row.
        probabilities: shape (n,), of the label being 1, 0 to 1.

    Raises:
        DataError: for labels or probabilities that are not as above.
    """
    return float(squared_errors(rank(labels, probabilities, "probability")).mean())


def log_losses(ranked: Ranked) -> Floats:
    """The log loss of each row."""
    import numpy as np

    of_truth = np.where(ranked.positive, ranked.scores, 1 - ranked.scores)
    losses: Floats = -np.log(of_truth.clip(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR))
    return losses


def squared_errors(ranked: Ranked) -> Floats:
    """The squared distance between probability and label of each row."""
    import numpy as np

    return np.square(ranked.scores - ranked.positive)


def mean_interval(values: Floats, confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean of some rows' losses and Wald's interval around it: z standard errors of the mean to both sides.

    It rests on the central limit theorem. Of a single row, it is as wide as can be: from 0 on without an end.
    """
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else math.inf
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return mean, max(0.0, mean - reach), mean + reach


def expected_calibration_error(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS) -> float:
    """Mean distance, over bins of equal count, between a bin's mean probability and its share of positives.

    Rows fall into bins by the mid-rank of their probability, so equal probabilities share a bin and bins are only as
    equal as ties allow. Chance alone makes the error positive: see `calibration_chance`.

    Args:
        labels: shape (n,), 0 or 1, at least one row.
        probabilities: shape (n,), of the label being 1, 0 to 1.
        bins: how many, at least 1; more than there are rows are as many as rows.

    Raises:
        DataError: for labels or probabilities that are not as above.
        SettingsError: for fewer than one bin.
    """
    return calibration_error(rank(labels, probabilities, "probability"), bins)


def calibration_error(ranked: Ranked, bins: int = BINS) -> float:
    """`expected_calibration_error` of rows that are ranked by their probability."""
    import numpy as np

    ties = ranked.ties
    gaps = _sums(ranked, ties.scores * ties.sizes - ties.positives, bins)
    return float(np.abs(gaps).sum() / ranked.rows)


def calibration_chance(ranked: Ranked, confidence: float = 0.95, bins: int = BINS) -> float:
    """What `calibration_error` stays below, with some confidence, when every probability is true.

    The positives of a bin then have the variance v = sum p (1 - p), and the bin's gap is close to normal; the absolute
    value of a normal variable has the mean sqrt(2 v / pi) and the variance v (1 - 2 / pi) (half-normal distribution).
    Means and variances of the bins add up, and the sum is taken as normal again.
    """
    import numpy as np

    ties = ranked.ties
    variances = _sums(ranked, ties.scores * (1 - ties.scores) * ties.sizes, bins)
    mean = np.sqrt(2 * variances / math.pi).sum()
    spread = math.sqrt((1 - 2 / math.pi) * variances.sum())
    return float(mean + NormalDist().inv_cdf(confidence) * spread) / ranked.rows


def calibration_table(ranked: Ranked, confidence: float = 0.95, bins: int = BINS) -> list[CalibrationBin]:
    """The bins of `calibration_error`, lowest probability first; empty ones, which ties leave, are left out."""
    ties = ranked.ties
    rows, positives, sums = (
        _sums(ranked, values, bins) for values in (ties.sizes, ties.positives, ties.scores * ties.sizes)
    )
    found = []
    for count, hits, total in zip(rows.tolist(), positives.tolist(), sums.tolist(), strict=True):
        if count:
            low, high = wilson(hits, count, confidence)
            found.append(
                CalibrationBin(
                    rows=int(count),
                    positives=int(hits),
                    mean_probability=total / count,
                    observed_rate=hits / count,
                    low=low,
                    high=high,
                )
            )
    return found


def wilson(hits: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval around a share of trials that were hits.

    Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American Statistical
    Association 22 (1927).
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = hits / trials, z * z / trials
    centre = (share + weight / 2) / (1 + weight)
    reach = z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _sums(ranked: Ranked, values: npt.NDArray[Any], bins: int) -> Floats:
    """The sum in each bin of what each distinct probability has; see `expected_calibration_error` for the bins."""
    import numpy as np

    if bins < 1:
        raise SettingsError("Calibration needs at least one bin", detail=f"bins is {bins}.", hint="Set bins to 20.")
    sizes = ranked.ties.sizes
    middle = np.cumsum(sizes) - sizes / 2
    bin_of = (middle * min(bins, ranked.rows) / ranked.rows).astype(np.int64)
    return np.asarray(np.bincount(bin_of, weights=values), dtype=np.float64)
