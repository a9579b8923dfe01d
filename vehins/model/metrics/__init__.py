"""How good a model's scores are, and how sure one may be of it.

Pure functions: one-dimensional arrays in, numbers out. Labels are 0 or 1 and scores are finite: anything else, a NaN
above all, is a `DataError` and never a value. Rows of equal score are ties and are treated as such, so no figure
depends on the order of the rows. What ranks sorts each array of scores once, O(n log n); all sums are float64. Who
needs many figures of the same scores ranks them once (`rank`) and reads each off that.
"""

from __future__ import annotations

from vehins.artifacts.evaluation import Metrics
from vehins.model.metrics._ranked import Ranked, rank
from vehins.model.metrics.lists import caught, gains, gains_curve, histogram, precision_curve, roc_curve
from vehins.model.metrics.probability import (
    PROBABILITY_FLOOR,
    brier,
    calibration_chance,
    calibration_error,
    calibration_table,
    expected_calibration_error,
    log_loss,
    log_losses,
    mean_interval,
    squared_errors,
    wilson,
)
from vehins.model.metrics.ranking import (
    AucDifference,
    AucInterval,
    auc,
    auc_difference,
    auc_interval,
    average_precision,
    difference,
    interval,
    kolmogorov_smirnov,
    precision_area,
    precision_interval,
)

__all__ = [
    "PROBABILITY_FLOOR",
    "AucDifference",
    "AucInterval",
    "Ranked",
    "auc",
    "auc_difference",
    "auc_interval",
    "average_precision",
    "brier",
    "calibration_chance",
    "calibration_error",
    "calibration_table",
    "caught",
    "difference",
    "expected_calibration_error",
    "gains",
    "gains_curve",
    "histogram",
    "interval",
    "kolmogorov_smirnov",
    "log_loss",
    "log_losses",
    "mean_interval",
    "measure",
    "precision_area",
    "precision_curve",
    "precision_interval",
    "rank",
    "roc_curve",
    "wilson",
]


def measure(ranked: Ranked, confidence: float, certainty: float) -> Metrics:
    """All metrics of some probabilities: at least two rows of each label, ranked as probabilities.

    ``confidence`` is that of the two-sided intervals, ``certainty`` that of what chance adds to the calibration error.
    """
    area = interval(ranked, confidence)
    precision_low, precision_high = precision_interval(ranked, confidence)
    loss, loss_low, loss_high = mean_interval(log_losses(ranked), confidence)
    square, square_low, square_high = mean_interval(squared_errors(ranked), confidence)
    return Metrics(
        auc=area.auc,
        auc_low=area.low,
        auc_high=area.high,
        average_precision=precision_area(ranked),
        average_precision_low=precision_low,
        average_precision_high=precision_high,
        log_loss=loss,
        log_loss_low=loss_low,
        log_loss_high=loss_high,
        brier=square,
        brier_low=square_low,
        brier_high=square_high,
        ks=kolmogorov_smirnov(ranked),
        expected_calibration_error=calibration_error(ranked),
        calibration_chance=calibration_chance(ranked, certainty),
        rows=ranked.rows,
        positives=ranked.positives,
    )
