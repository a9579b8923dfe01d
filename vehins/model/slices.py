"""The same figures for some of the customers: by value of a category, and by quantile bin of an amount.

What too few customers cannot tell is not computed: a slice is judged when it has enough of both classes. As many slices
are looked at, the bound that a difference to the champion must reach is Bonferroni's: over all of them together, chance
alone breaks it no more often than 1 - confidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from vehins.artifacts.evaluation import Slice, SliceComparison
from vehins.data.statistics import MISSING, OTHERS
from vehins.model import metrics

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from vehins.data.schema import Column, TableSchema
    from vehins.model.metrics import Ranked

_MOST = 20


@dataclass(frozen=True)
class Cut:
    """Which customers share a value, or a range of values, of a column."""

    column: str
    label: str
    chosen: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Bounds:
    """How slices are judged."""

    least: int
    """Customers of each class that a slice needs to be judged."""
    confidence: float
    """One-sided, over all slices together."""
    margin: float
    """AUC that a slice may lose beyond what chance explains."""
    interval: float
    """Confidence of the two-sided interval around a slice's AUC."""


def cuts(rows: pl.LazyFrame, schema: TableSchema, bins: int) -> Iterator[Cut]:
    """Cut some rows by each column that the schema marks, one after the other.

    A value that the schema names has its slice even when nobody has it; of other values the 20 most frequent have
    theirs, and the rest are one.
    """
    for name, column in schema.features.items():
        if column.slice:
            values = rows.select(name).collect().to_series()
            yield from _categories(values, column) if column.is_category else _ranges(values, bins)


def _categories(values: pl.Series, column: Column) -> Iterator[Cut]:
    import polars as pl

    texts = values.cast(pl.String)
    counts = texts.drop_nulls().value_counts(name="rows").sort(["rows", texts.name], descending=[True, False])
    named = pl.Series(column.values, strict=False).cast(pl.String).to_list() if column.values else []
    shown = named or counts[texts.name].head(_MOST).to_list()
    for value in shown:
        yield Cut(texts.name, value, (texts == value).fill_null(False).to_numpy())
    others = (~texts.is_in(shown)).fill_null(False)
    if others.any():
        yield Cut(texts.name, OTHERS, others.to_numpy())
    if texts.null_count():
        yield Cut(texts.name, MISSING, texts.is_null().to_numpy())


def _ranges(values: pl.Series, bins: int) -> Iterator[Cut]:
    """Quantile bins; one that ties leave empty is none."""
    import numpy as np
    import polars as pl

    numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    known = np.isfinite(numbers)
    if known.any():
        edges = np.quantile(numbers[known], np.arange(1, bins) / bins, method="inverted_cdf")
        place = np.searchsorted(np.unique(edges), numbers)
        for number in np.unique(place[known]):
            chosen = (place == number) & known
            low, high = numbers[chosen].min(), numbers[chosen].max()
            yield Cut(values.name, f"{low:g} to {high:g}" if low < high else f"{low:g}", chosen)
    if not known.all():
        yield Cut(values.name, MISSING, ~known)


def judge(found: list[Cut], challenger: Ranked, champion: Ranked | None, bounds: Bounds) -> list[Slice]:
    """Measure each slice and, where there is a champion, compare it there; one after the other, to spare memory."""
    positive = challenger.labels()
    judged = sum(_rarer(positive, cut.chosen) >= bounds.least for cut in found)
    return [_judge(cut, challenger.among(cut.chosen), champion, bounds, judged) for cut in found]


def _rarer(positive: npt.NDArray[np.bool_], chosen: npt.NDArray[np.bool_]) -> int:
    """How many of the chosen have the rarer label."""
    positives = int((positive & chosen).sum())
    return min(positives, int(chosen.sum()) - positives)


def _judge(cut: Cut, ranked: Ranked, champion: Ranked | None, bounds: Bounds, judged: int) -> Slice:
    if ranked.rarer < bounds.least:
        return _unjudged(cut, ranked, bounds.least)
    seen = None if champion is None else _compare(ranked, champion.among(cut.chosen), bounds, judged)
    return _measured(cut, ranked, bounds, seen)


def _unjudged(cut: Cut, ranked: Ranked, least: int) -> Slice:
    is_empty = ranked.rows == 0
    few = f"It has {ranked.rarer:,} customers of the rarer class; {least:,} are needed."
    return Slice(
        column=cut.column,
        slice=cut.label,
        rows=ranked.rows,
        positives=ranked.positives,
        mean_probability=None if is_empty else float(ranked.scores.mean()),
        observed_rate=None if is_empty else ranked.positives / ranked.rows,
        reason="It has no customers." if is_empty else few,
    )


def _measured(cut: Cut, ranked: Ranked, bounds: Bounds, comparison: SliceComparison | None) -> Slice:
    area = metrics.interval(ranked, bounds.interval)
    return Slice(
        column=cut.column,
        slice=cut.label,
        rows=ranked.rows,
        positives=ranked.positives,
        mean_probability=float(ranked.scores.mean()),
        observed_rate=ranked.positives / ranked.rows,
        auc=area.auc,
        auc_low=area.low,
        auc_high=area.high,
        log_loss=float(metrics.log_losses(ranked).mean()),
        expected_calibration_error=metrics.calibration_error(ranked),
        comparison=comparison,
    )


def _compare(challenger: Ranked, champion: Ranked, bounds: Bounds, judged: int) -> SliceComparison:
    found = metrics.difference(challenger, champion, bounds.confidence)
    quantile = NormalDist().inv_cdf(1 - (1 - bounds.confidence) / judged)
    return SliceComparison(
        champion_auc=metrics.interval(champion, bounds.interval).auc,
        auc_difference=found.difference,
        standard_error=found.standard_error,
        bound=-bounds.margin - quantile * found.standard_error,
    )
