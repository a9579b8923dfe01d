"""How far the rows of today lie from those that a model was trained on.

The measure is the population stability index of Lewis, "An Introduction to Credit Scoring" (1994): over the bins of a
column, the sum of (actual - expected) ln(actual / expected), both shares of all rows; it is the divergence of Jeffreys
(1946). Siddiqi, "Intelligent Credit Scoring" (2017), reads less than 0.1 as no shift and more than 0.25 as a great one.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING

from vehins.artifacts.drift import ColumnDrift, Drift, DriftBin
from vehins.data.statistics import DECILES, ColumnBins, NumberBins, Statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

CONFIDENCE = 0.99
_HALF = 0.5  # a row that each bin has for free, so that an empty one has a logarithm (Krichevsky & Trofimov, 1981)


def measure(rows: pl.LazyFrame, reference: Statistics | None, *, version: int, bundle: str) -> Drift:
    """Compare some rows with the training rows of a champion; without statistics of those, say so."""
    import polars as pl

    total = int(rows.select(pl.len()).collect(engine="streaming").item())
    if reference is None:
        reason = f"Champion {version} carries no statistics of its training rows: an older vehins trained it."
        return Drift(version=version, bundle=bundle, rows=total, reference_rows=None, columns=[], reason=reason)
    names = rows.collect_schema().names()
    known = len(reference.columns)
    columns = [_column(rows, reference, column, names, known) for column in reference.columns]
    columns.sort(key=lambda found: -math.inf if found.psi is None else -found.psi)
    return Drift(version=version, bundle=bundle, rows=total, reference_rows=reference.rows, columns=columns)


def _column(
    rows: pl.LazyFrame, reference: Statistics, column: ColumnBins, names: list[str], columns: int
) -> ColumnDrift:
    role = "target" if column.column == reference.target else "feature"
    if column.column not in names:
        reason = "These rows have no such column."
        return ColumnDrift(column=column.column, role=role, psi=None, chance=None, bins=[], reason=reason)
    expected, actual = reference.expected(column), column.tally(rows)
    if not sum(expected) or not sum(actual):
        reason = "There are no rows to compare."
        return ColumnDrift(column=column.column, role=role, psi=None, chance=None, bins=[], reason=reason)
    bins = [
        DriftBin(label=label, expected=before / sum(expected), actual=now / sum(actual))
        for label, before, now in zip(column.labels, expected, actual, strict=True)
        if before or now
    ]
    psi = stability_index(expected, actual)
    return ColumnDrift(column=column.column, role=role, psi=psi, chance=chance(expected, actual, columns), bins=bins)


def score_bins(name: str, quantiles: Sequence[float], rows: int) -> NumberBins:
    """The scores of so many rows, of which only sorted quantiles are known, as a column in ten bins."""
    import numpy as np

    scores = np.asarray(quantiles, dtype=np.float32)
    places = np.arange(1, DECILES) * len(scores) // DECILES
    edges = [float(edge) for edge in np.unique(scores[places]) if edge < scores[-1]]
    below = np.searchsorted(scores, np.asarray(edges, dtype=np.float32), side="right")
    up_to = [0, *np.rint(below * (rows / len(scores))).astype(int).tolist(), rows]
    return NumberBins(column=name, edges=edges, counts=[high - low for low, high in pairwise(up_to)], missing=0)


def stability_index(expected: Sequence[int], actual: Sequence[int]) -> float:
    """The index of rows counted in the same bins; bins that are empty on both sides do not count."""
    pairs = [(before, now) for before, now in zip(expected, actual, strict=True) if before or now]
    free = _HALF * len(pairs)
    total = 0.0
    for before, now in pairs:
        old, new = (before + _HALF) / (sum(expected) + free), (now + _HALF) / (sum(actual) + free)
        total += (new - old) * math.log(new / old)
    return total


def chance(expected: Sequence[int], actual: Sequence[int], columns: int = 1, confidence: float = CONFIDENCE) -> float:
    """What the index of rows from one population stays below, in all of so many columns at once (Bonferroni).

    For n and m rows in b bins the index over 1/n + 1/m has the chi-squared distribution with b - 1 degrees of freedom:
    Yurdakul & Naranjo, "Statistical properties of the population stability index", Journal of Risk Model Validation 14
    (2020).
    """
    used = sum(1 for before, now in zip(expected, actual, strict=True) if before or now)
    return (1 / sum(expected) + 1 / sum(actual)) * _chi_squared(used - 1, 1 - (1 - confidence) / columns)


def _chi_squared(degrees: int, confidence: float) -> float:
    """A quantile of the chi-squared distribution, by the cube root of Wilson & Hilferty (1931): within 2% up there."""
    if degrees < 1:
        return 0.0
    spread = 2 / (9 * degrees)
    return degrees * float(1 - spread + NormalDist().inv_cdf(confidence) * math.sqrt(spread)) ** 3
