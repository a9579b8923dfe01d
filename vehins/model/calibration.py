"""Make probabilities mean what they say: a calibrator is fitted where it helps, and kept as numbers.

A calibrator is a rising polyline from (0, 0) to (1, 1): it moves probabilities and never changes their order, and as it
is nothing but additions, multiplications and divisions, it gives the same bits for one row as for many. There are two
ways to fit one: ``sigmoid``, a logistic curve on the log-odds (Platt, "Probabilistic outputs for support vector
machines", 1999), and ``isotonic``, the rising steps of least squares (Zadrozny & Elkan, KDD 2002), each step a point at
its mean and the line drawn through the points.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from vehins.artifacts.record import Record, canonical

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vehins.artifacts.manifest import Calibration, TriedCalibrator

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

Method = Literal["sigmoid", "isotonic"]
FOLDS = 5
# Of each class, in the rows to calibrate on: with fewer, chance looks like a curve.
LEAST_ROWS = 100
# Standard errors that a gain must exceed: of two calibrators that gain nothing, one is taken in at most 5% of cases.
_STANDARD_ERRORS = 1.96
# No point lies nearer to 0: the slope up to it must be a number.
_NEAR_ZERO = 1e-12
# The sigmoid's polyline: steps of its log-odds. A chord is off by less than a thousandth of the probability.
_REACH, _STEPS = 16.0, 513


class Calibrator(Record):
    """A rising polyline through points (probability of the trees, probability to give)."""

    method: Method
    given: list[float] = Field(min_length=2, description="Probabilities of the trees, rising from 0 to 1.")
    meant: list[float] = Field(min_length=2, description="What each becomes, rising from 0 to 1.")

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if len(self.given) != len(self.meant):
            raise ValueError("a calibrator has as many `given` as `meant`")
        for points in (self.given, self.meant):
            if (points[0], points[-1]) != (0.0, 1.0) or any(a >= b for a, b in pairwise(points)):
                raise ValueError("a calibrator rises from 0 to 1")
        return self

    @cached_property
    def _points(self) -> tuple[Floats, Floats, Floats]:
        import numpy as np

        given, meant = np.array(self.given), np.array(self.meant)
        return given, meant, np.diff(meant) / np.diff(given)

    def apply(self, probabilities: Floats) -> Floats:
        """Calibrate probabilities, shape (n,)."""
        import numpy as np

        given, meant, slopes = self._points
        left = np.searchsorted(given, probabilities, side="right").clip(1, len(slopes)) - 1
        found: Floats = (meant[left] + (probabilities - given[left]) * slopes[left]).clip(0.0, 1.0)
        return found

    @cached_property
    def _slopes(self) -> list[float]:
        rises = zip(pairwise(self.given), pairwise(self.meant), strict=True)
        return [(up - down) / (right - left) for (left, right), (down, up) in rises]

    def apply_one(self, probability: float) -> float:
        """`apply` for one probability, to the same bits, without numpy."""
        slopes, given = self._slopes, self.given
        left = min(max(bisect_right(given, probability), 1), len(slopes)) - 1
        found = self.meant[left] + (probability - given[left]) * slopes[left]
        return 0.0 if found < 0.0 else 1.0 if found > 1.0 else found

    def to_json(self) -> bytes:
        """The calibrator as a bundle carries it."""
        return canonical(self.model_dump(mode="json")) + b"\n"


def parse(data: bytes) -> Calibrator:
    """Read a calibrator back (`Calibrator.to_json`)."""
    return Calibrator.model_validate_json(data)


def choose(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, mode: Literal["auto", "never"] = "auto"
) -> tuple[Calibrator | None, Calibration]:
    """Fit the calibrator that helps most; None when none does.

    Each is cross-fitted on `FOLDS` folds, and so judged on rows that it was not fitted on. It helps when the mean log
    loss falls by more than 1.96 standard errors of the paired difference, and the calibration error falls too. The one
    that is returned is fitted on all rows.

    Args:
        labels: shape (n,), 0 or 1.
        probabilities: shape (n,), of a model that was not fitted on these rows.
        mode: ``never`` measures the calibration error and leaves it at that.
    """
    import numpy as np

    from vehins.artifacts.manifest import Calibration
    from vehins.model.metrics import expected_calibration_error

    positive = np.asarray(labels) == 1
    given = np.asarray(probabilities, dtype=np.float64)
    error = expected_calibration_error(positive, given)
    rarer = min(np.count_nonzero(positive), np.count_nonzero(~positive))
    may_help = mode == "auto" and rarer >= LEAST_ROWS
    tried = [_tried(method, positive, given) for method in _FITTERS] if may_help else []
    helping = [one for one in tried if one.gain_low > 0 and one.ece < error]
    best = max(helping, key=lambda one: one.gain, default=None)
    record = Calibration(method=best.method if best else "none", valid_ece=error, tried=tried)
    return _FITTERS[best.method](positive, given) if best else None, record


def _tried(method: Method, positive: Flags, given: Floats) -> TriedCalibrator:
    """What a calibrator makes of rows that it was not fitted on."""
    import numpy as np

    from vehins.artifacts.manifest import TriedCalibrator
    from vehins.model.metrics import expected_calibration_error

    fold = np.arange(positive.size) % FOLDS
    meant = np.empty_like(given)
    for number in range(FOLDS):
        out = fold == number
        meant[out] = _FITTERS[method](positive[~out], given[~out]).apply(given[out])
    gains = _losses(positive, given) - _losses(positive, meant)
    gain, spread = float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(gains.size))
    return TriedCalibrator(
        method=method,
        ece=expected_calibration_error(positive, meant),
        gain=gain,
        gain_low=gain - _STANDARD_ERRORS * spread,
    )


def _losses(positive: Flags, probabilities: Floats) -> Floats:
    """The log loss of each row."""
    import numpy as np

    from vehins.model.metrics import PROBABILITY_FLOOR

    of_truth = np.where(positive, probabilities, 1 - probabilities)
    losses: Floats = -np.log(of_truth.clip(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR))
    return losses


def _sigmoid(positive: Flags, given: Floats) -> Calibrator:
    """Fit slope and intercept on the log-odds, with Platt's targets, which keep away from 0 and 1."""
    import numpy as np

    positives = np.count_nonzero(positive)
    targets = np.where(positive, (positives + 1) / (positives + 2), 1 / (positive.size - positives + 2))
    odds = np.stack([_log_odds(given), np.ones_like(given)])
    weights = np.array([1.0, 0.0])
    for _ in range(50):  # Newton; it needs about five
        meant = _expit(weights @ odds)
        slope = odds @ (targets - meant)
        step = np.linalg.solve((odds * (meant * (1 - meant))) @ odds.T + 1e-9 * np.eye(2), slope)
        weights += step
        if np.abs(step).max() < 1e-10:
            break
    grid = np.linspace(-_REACH, _REACH, _STEPS)
    # Falling, it would turn the ranking round: then there is nothing to calibrate.
    return _polyline("sigmoid", _expit(grid), _expit(max(weights[0], 1e-3) * grid + weights[1]))


def _isotonic(positive: Flags, given: Floats) -> Calibrator:
    """Pool adjacent violators; each pool is a point at its mean probability and its share of positives."""
    import numpy as np
    from sklearn.isotonic import isotonic_regression

    scores, inverse, counts = np.unique(given, return_inverse=True, return_counts=True)
    shares = np.bincount(inverse, weights=positive) / counts
    levels, pool = np.unique(isotonic_regression(shares, sample_weight=counts), return_inverse=True)
    middles = np.bincount(pool, weights=scores * counts) / np.bincount(pool, weights=counts)
    return _polyline("isotonic", middles, levels)


def _polyline(method: Method, given: Floats, meant: Floats) -> Calibrator:
    """Rising points with the ends put on; what does not rise is left out."""
    import numpy as np

    inside = (given > _NEAR_ZERO) & (given < 1) & (meant > 0) & (meant < 1)
    xs, ys = (np.concatenate([[0.0], points[inside], [1.0]]) for points in (given, meant))
    rising = np.append(True, (np.diff(xs) > 0) & (np.diff(ys) > 0))
    rising[-1] = True
    return Calibrator(method=method, given=xs[rising].tolist(), meant=ys[rising].tolist())


def _log_odds(probabilities: Floats) -> Floats:
    import numpy as np

    from vehins.model.metrics import PROBABILITY_FLOOR

    safe = probabilities.clip(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    odds: Floats = np.log(safe) - np.log1p(-safe)
    return odds


def _expit(odds: Floats) -> Floats:
    """The logistic function, in the form that cannot overflow."""
    import numpy as np

    found: Floats = (1 + np.tanh(odds / 2)) / 2
    return found


_FITTERS: dict[Method, Callable[[Flags, Floats], Calibrator]] = {"sigmoid": _sigmoid, "isotonic": _isotonic}
