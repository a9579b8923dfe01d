"""How well a model puts customers in order: whom to call first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vehins.artifacts.evaluation import Curve, ModelCurves
from vehins.report import words
from vehins.report.blocks import Block, Figure, Figures, Key, Section, Table
from vehins.report.judged import Judged, keys
from vehins.report.svg import Axis, Point, Series, plot

_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_CALLED = Axis("Customers called, best first (% of all)", words.axis_percent, (0, 1), _SHARES)


def section(models: Sequence[Judged]) -> Section:
    """Gains, lift, ROC and precision-recall."""
    drawn = [model for model in models if model.curves is not None]
    blocks: list[Block] = []
    if drawn:
        blocks.append(Figures([_gains(drawn), _lift(drawn), _roc(drawn), _precision_recall(drawn)]))
    tables = [_gains_table(model) for model in models if model.gains]
    blocks += [Figures(tables)] if len(tables) > 1 else tables
    blocks.append(_metrics_table(models))
    lead = (
        "If only some customers can be called, call those with the highest probability: `vehins predict SOURCE "
        "call-list.csv --top N` writes that list. This is how good its order is, on customers the model never saw."
    )
    return Section("ranking", "Whom to call first", blocks, lead)


def _points(curve: Curve) -> list[Point | None]:
    return list(zip(curve.x, curve.y, strict=True))


def _lines(models: Sequence[Judged], curve: Callable[[ModelCurves], Curve]) -> list[Series]:
    """A line for each model; the first is drawn last, on top."""
    return [Series(m.name, m.style, _points(curve(m.curves))) for m in reversed(models) if m.curves is not None]


def _gain_notes(models: Sequence[Judged]) -> str:
    """The list of 20% in words, or the first that there is."""
    found = []
    for model in models:
        gain = min(model.gains, key=lambda g: abs(g.share - 0.2), default=None)
        if gain is not None:
            found.append(
                f"{model.name}: the best {words.percent(gain.share, 0)} of customers hold {words.percent(gain.recall)} "
                f"of all buyers"
            )
    return words.sentence("; ".join(found)) if found else ""


def _gains(models: Sequence[Judged]) -> Figure:
    title = "Gains: buyers reached"
    text = (
        f"Share of all buyers reached against the share of customers called. {_gain_notes(models)} A random order "
        "would follow the diagonal."
    )
    series = [Series("random order", "reference", [(0, 0), (1, 1)]), *_lines(models, lambda curves: curves.gains)]
    y = Axis("Buyers reached (% of all)", words.axis_percent, (0, 1), _SHARES)
    svg = plot("gains", title, text, _CALLED, y, series)
    return Figure("gains", title, text, svg, [*_named(models), Key("reference", "random order")])


def _named(models: Sequence[Judged]) -> list[Key]:
    return keys(models) or [Key(model.style, model.name) for model in models]


def lift_points(curve: Curve) -> list[Point | None]:
    """Lift along a gains curve: buyers reached over customers called; the first percent is too few to tell."""
    return [(x, y / x) for x, y in zip(curve.x, curve.y, strict=True) if x >= 0.01]


def _lifts(model: Judged) -> str:
    """The first two, in words."""
    return ", ".join(f"{one.lift:.1f} times at {words.percent(one.share, 0)}" for one in model.gains[:2])


def _lift(models: Sequence[Judged]) -> Figure:
    title = "Lift: buyers per call"
    lines = [Series(m.name, m.style, lift_points(m.curves.gains)) for m in reversed(models) if m.curves]
    top = max((point[1] for line in lines for point in line.points if point), default=1.0)
    found = [f"{m.name}: {_lifts(m)}" for m in models if m.gains]
    text = (
        "How many times more buyers a call reaches than a call at random. "
        f"{words.sentence('; '.join(found))} At 100% it is 1."
    )
    y = Axis("Lift (times a random call)", words.axis_number, (0, top))
    series = [Series("random order", "reference", [(0, 1), (1, 1)]), *lines]
    svg = plot("lift", title, text, _CALLED, y, series)
    return Figure("lift", title, text, svg, [*_named(models), Key("reference", "random order")])


def _roc(models: Sequence[Judged]) -> Figure:
    title = "ROC curve"
    found = "; ".join(f"{m.name}: area {words.decimal(m.metrics.auc)}" for m in models)
    text = (
        "Share of buyers found against share of non-buyers disturbed, over all cutoffs. "
        f"{words.sentence(found)} Chance has an area of 0.5."
    )
    x = Axis("False positive rate (% of non-buyers)", words.axis_percent, (0, 1), _SHARES)
    y = Axis("True positive rate (% of buyers)", words.axis_percent, (0, 1), _SHARES)
    series = [Series("chance", "reference", [(0, 0), (1, 1)]), *_lines(models, lambda curves: curves.roc)]
    svg = plot("roc", title, text, x, y, series)
    return Figure("roc", title, text, svg, [*_named(models), Key("reference", "chance")])


def _precision_recall(models: Sequence[Judged]) -> Figure:
    title = "Precision and recall"
    metrics = models[0].metrics
    rate = metrics.positives / metrics.rows if metrics.rows else 0.0
    found = "; ".join(f"{m.name}: average precision {words.decimal(m.metrics.average_precision)}" for m in models)
    text = (
        "Share of the called who buy against share of all buyers reached. "
        f"{words.sentence(found)} Calling at random, {words.percent(rate)} buy."
    )
    x = Axis("Recall (% of buyers reached)", words.axis_percent, (0, 1), _SHARES)
    lines = _lines(models, lambda curves: curves.precision_recall)
    top = max((point[1] for line in lines for point in line.points if point), default=1.0)
    y = Axis("Precision (% of called who buy)", words.axis_percent, (0, max(top, rate)))
    series = [Series("base rate", "reference", [(0, rate), (1, rate)]), *lines]
    svg = plot("precision-recall", title, text, x, y, series)
    return Figure("precision-recall", title, text, svg, [*_named(models), Key("reference", "base rate")])


def _gains_table(model: Judged) -> Table:
    columns = ("Best", "Calls", "Buyers", "Of all buyers", "Of those called", "Lift")
    rows = [
        (
            words.percent(gain.share, 0),
            words.count(gain.customers),
            words.count(gain.positives),
            words.percent(gain.recall),
            words.percent(gain.precision),
            f"{gain.lift:.2f}",
        )
        for gain in model.gains
    ]
    return Table(f"Gains and lift of {model.name}", columns, rows, frozenset(range(1, 6)))


_MEASURES = (
    ("Area under the ROC curve (AUC)", "auc", "higher is better; 0.5 is chance"),
    ("Average precision", "average_precision", "higher is better; chance has the base rate"),
    ("Log loss", "log_loss", "lower is better"),
    ("Brier score", "brier", "lower is better"),
    ("Kolmogorov-Smirnov (KS)", "ks", "higher is better"),
    ("Expected calibration error", "expected_calibration_error", "lower is better"),
)


def _metrics_table(models: Sequence[Judged]) -> Table:
    """Every metric with its interval, a column for each model."""
    rows = [(title, *(_measured(model, field) for model in models), note) for title, field, note in _MEASURES]
    rows += [("Customers", *(words.count(model.metrics.rows) for model in models), "on the test side")]
    rows += [("Buyers", *(words.count(model.metrics.positives) for model in models), "among them")]
    columns = ("Measure", *(model.name for model in models), "How to read it")
    return Table(
        "Measures on the test side, with intervals", columns, rows, frozenset(range(1, 1 + len(models))), stacks=True
    )


def _measured(model: Judged, field: str) -> str:
    found = getattr(model.metrics, field)
    low, high = (getattr(model.metrics, f"{field}_{end}", None) for end in ("low", "high"))
    interval = words.between(low, high)
    return f"{words.decimal(found)} ({interval})" if interval else words.decimal(found)
