"""Whether a probability means what it says, and how the customers' scores are spread."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from vehins.artifacts.evaluation import CalibrationBin, Histogram
from vehins.report import words
from vehins.report.blocks import Block, Details, Figure, Figures, Key, Section, Table
from vehins.report.judged import Judged
from vehins.report.svg import Axis, Point, Series, plot


def section(models: Sequence[Judged], scored: Sequence[Judged]) -> Section:
    """Calibration of all models, and the score distributions of those in ``scored``."""
    figures = [_calibration(models)] if any(model.calibration for model in models) else []
    figures += [_scores(model, len(scored) > 1) for model in scored if model.curves is not None]
    blocks: list[Block] = [Figures(figures)] if figures else []
    tables = [_calibration_table(model) for model in models if model.calibration]
    blocks += [Details("Calibration as a table", tables)] if tables else []
    lead = "Of the customers who are given 30%, do 30 of 100 buy? And how many customers are given which probability?"
    return Section("probabilities", "What a probability means", blocks, lead)


def _calibration(models: Sequence[Judged]) -> Figure:
    title = "Calibration: predicted and observed"
    shown = [model for model in models if model.calibration]
    bins = [found for model in shown for found in model.calibration]
    top = max(max(found.mean_probability, found.high) for found in bins)
    errors = "; ".join(_error(model) for model in shown)
    text = (
        "Share of buyers against predicted probability, in bins of equally many customers. "
        f"{words.sentence(errors)} Dots on the diagonal mean what they say; bars are intervals."
    )
    x = Axis("Predicted probability (%)", words.axis_percent, (0, top))
    y = Axis("Customers who bought (%)", words.axis_percent, (0, top))
    series = [Series("perfect", "reference", [(0, 0), (top, top)])]
    for model in reversed(shown):
        series.append(Series(f"interval of {model.name}", f"{model.style} interval", _intervals(model.calibration)))
        dots: list[Point | None] = [(found.mean_probability, found.observed_rate) for found in model.calibration]
        series.append(Series(model.name, model.style, dots, "dots", [_bin_note(found) for found in model.calibration]))
    svg = plot("calibration", title, text, x, y, series)
    legend = [*(Key(model.style, model.name) for model in shown), Key("reference", "perfect")]
    return Figure("calibration", title, text, svg, legend)


def _error(model: Judged) -> str:
    error, chance = model.metrics.expected_calibration_error, model.metrics.calibration_chance
    if error is None:
        return f"{model.name}: the error was not computed"
    said = f"{model.name} is off by {100 * error:.2f} percentage points on average"
    return said if chance is None else f"{said} (chance alone stays below {100 * chance:.2f})"


def _intervals(bins: Sequence[CalibrationBin]) -> list[Point | None]:
    ends: list[Point | None] = []
    for found in bins:
        ends += [(found.mean_probability, found.low), (found.mean_probability, found.high), None]
    return ends[:-1]


def _bin_note(found: CalibrationBin) -> str:
    return (
        f"predicted {words.percent(found.mean_probability)}, observed {words.percent(found.observed_rate)} "
        f"({found.positives:,} of {found.rows:,})"
    )


def _calibration_table(model: Judged) -> Table:
    columns = ("Bin", "Customers", "Bought", "Predicted", "Observed", "Interval")
    rows = [
        (
            str(number),
            words.count(found.rows),
            words.count(found.positives),
            words.percent(found.mean_probability, 2),
            words.percent(found.observed_rate, 2),
            f"{words.percent(found.low, 2)} to {words.percent(found.high, 2)}",
        )
        for number, found in enumerate(model.calibration, 1)
    ]
    return Table(f"Calibration of {model.name}", columns, rows, frozenset(range(1, 6)))


def _scores(model: Judged, named: bool) -> Figure:
    assert model.curves is not None  # noqa: S101 - narrows the type
    found = model.curves.histogram
    title = f"Scores of {model.name}" if named else "Distribution of the scores"
    name = f"scores-{model.style}"
    top = max((*_shares(found.negatives), *_shares(found.positives)), default=0.0)
    shown = _last_filled(found)
    text = (
        "Share of buyers and of non-buyers who are given each probability. The further the two lie apart, the better "
        f"the model tells them from each other. {_median(found)}"
    )
    x = Axis("Predicted probability (%)", words.axis_percent, (0, found.edges[shown]))
    y = Axis("Customers of the class (%)", words.axis_percent, (0, top))
    series = [
        Series("non-buyers", "negative", _steps(found.edges, found.negatives, shown), "area"),
        Series("buyers", "positive", _steps(found.edges, found.positives, shown), "area"),
    ]
    legend = [Key("positive", "buyers"), Key("negative", "non-buyers")]
    if model.profit is not None and model.profit.cutoff <= found.edges[shown]:
        series.append(Series("cutoff", "mark", [(model.profit.cutoff, 0), (model.profit.cutoff, top)]))
        legend.append(Key("mark", f"cutoff {words.percent(model.profit.cutoff)}"))
    return Figure(name, title, text, plot(name, title, text, x, y, series), legend)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [number / total if total else 0.0 for number in counts]


def _last_filled(found: Histogram) -> int:
    """The edge beyond which hardly anybody is: empty space says nothing."""
    filled = [i for i, (a, b) in enumerate(zip(found.negatives, found.positives, strict=True)) if a or b]
    return (filled[-1] if filled else len(found.negatives) - 1) + 1


def _steps(edges: Sequence[float], counts: Sequence[int], shown: int) -> list[Point | None]:
    """The outline of a histogram, as shares of all its rows."""
    outline: list[Point | None] = []
    for left, right, share in zip(edges[:shown], edges[1 : shown + 1], _shares(counts)[:shown], strict=True):
        outline += [(left, share), (right, share)]
    return outline


def _median(found: Histogram) -> str:
    """Where the middle buyer and the middle non-buyer are."""
    buyers, others = found.edges[_middle(found.positives)], found.edges[_middle(found.negatives) + 1]
    return (
        f"Half of the buyers are given more than about {words.percent(buyers, 0)}, half of the others less than about "
        f"{words.percent(others, 0)}."
    )


def _middle(counts: Sequence[int]) -> int:
    """The range that holds the middle one of them."""
    totals = list(accumulate(counts))
    return bisect_left(totals, sum(counts) / 2)
