"""The model on some of the customers: where it is weaker, and where there are too few to tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vehins.artifacts.evaluation import EvaluationResult, Slice
from vehins.report import words
from vehins.report.blocks import Block, Cell, Details, Figure, Figures, Key, Mark, Section, Table
from vehins.report.judged import FIRST, SECOND
from vehins.report.svg import Axis, Point, Series, plot, shortened

_STYLES = (FIRST, SECOND)
_ROW_HEIGHT = 22


def section(results: Mapping[str, EvaluationResult]) -> Section | None:
    """AUC by slice with intervals, a chart and a table for each column; ``results`` by the name of their model."""
    columns = list(dict.fromkeys(found.column for result in results.values() for found in result.slices))
    if not columns:
        return None
    figures = [_figure(f"slice-{number}", column, results) for number, column in enumerate(columns)]
    tables = [_table(name, result, len(results) > 1) for name, result in results.items() if result.slices]
    blocks: list[Block] = [Figures([figure for figure in figures if figure]), *tables]
    lead = (
        "The same measures on groups of customers. A wide interval means few buyers in the group: no reason to read "
        "much into it."
    )
    return Section("slices", "Groups of customers", blocks, lead)


def _figure(name: str, column: str, results: Mapping[str, EvaluationResult]) -> Figure | None:
    """Dots with intervals, a row for each slice of a column, and the AUC of everybody as a line."""
    mine = {model: _measured(column, result) for model, result in results.items()}
    labels = list(dict.fromkeys(found.slice for slices in mine.values() for found in slices))
    if not labels:
        return None
    title = f"AUC by {column}"
    overall = next(iter(results.values())).metrics.auc
    series = [Series("all customers", "reference", [(overall, 0.4), (overall, len(labels) + 0.6)])]
    for place, (model, slices) in enumerate(mine.items()):
        series += _dots(model, _STYLES[place], slices, labels, 0.0 if len(mine) == 1 else 0.18 - 0.36 * place)
    ends = [point[0] for one in series for point in one.points if point]
    x = Axis("AUC", words.axis_number, (min(ends), max(ends)))
    ticks = [float(len(labels) - row) for row in range(len(labels))]
    y = Axis("", words.axis_number, (0.4, len(labels) + 0.6), ticks, [shortened(label) for label in labels])
    text = f"{_told(column, next(iter(results.values())))} All customers together: {words.decimal(overall, 3)}."
    svg = plot(name, title, text, x, y, series, height=70 + _ROW_HEIGHT * len(labels))
    legend = [Key(_STYLES[place], model) for place, model in enumerate(mine)] if len(mine) > 1 else []
    return Figure(name, title, text, svg, [*legend, Key("reference", "all customers")])


def _measured(column: str, result: EvaluationResult) -> list[Slice]:
    return [found for found in result.slices if found.column == column and found.auc is not None]


def _dots(model: str, style: str, slices: Sequence[Slice], labels: Sequence[str], shift: float) -> list[Series]:
    dots: list[Point | None] = []
    ends: list[Point | None] = []
    for found in slices:
        row = len(labels) - labels.index(found.slice) + shift
        dots.append((found.auc or 0.0, row))
        if found.auc_low is not None and found.auc_high is not None:
            ends += [(found.auc_low, row), (found.auc_high, row), None]
    notes = [f"{found.slice}: {_auc(found)}, {found.rows:,} customers" for found in slices]
    return [
        Series(f"intervals of {model}", f"{style} interval", ends),
        Series(model, style, dots, "dots", notes),
    ]


def _auc(found: Slice) -> str:
    interval = words.between(found.auc_low, found.auc_high, 3)
    return f"{words.decimal(found.auc, 3)}{f' ({interval})' if interval else ''}"


def _told(column: str, result: EvaluationResult) -> str:
    """The best and the worst group, and how many say nothing."""
    slices = _measured(column, result)
    few = sum(found.column == column for found in result.slices) - len(slices)
    unknown = f" {words.plural(few, 'group has', 'groups have')} too few customers of a class to tell." if few else ""
    if len(slices) < 2:
        return f"AUC within each group of {column}.{unknown}"
    best, worst = (choose(slices, key=lambda found: found.auc or 0.0) for choose in (max, min))
    ends = f"{words.decimal(worst.auc, 3)} ({worst.slice}) to {words.decimal(best.auc, 3)} ({best.slice})"
    return f"AUC within each group of {column}, from {ends}.{unknown}"


def _table(name: str, result: EvaluationResult, named: bool) -> Details:
    against = any(found.comparison for found in result.slices)
    columns = [
        "Group",
        "Customers",
        "Buyers",
        "Predicted",
        "Observed",
        "AUC",
        *(["Than the champion"] if against else []),
    ]
    rows = [_row(found, against) for found in result.slices]
    caption = f"Groups of customers{f', {name}' if named else ''}"
    return Details(f"{caption}, as a table", [Table(caption, columns, rows, frozenset({1, 2, 3, 4}))])


def _row(found: Slice, against: bool) -> list[Cell]:
    row: list[Cell] = [
        f"{found.column}: {found.slice}",
        words.count(found.rows),
        words.count(found.positives),
        words.percent(found.mean_probability),
        words.percent(found.observed_rate),
        _auc(found) if found.auc is not None else found.reason or words.NOT_COMPUTED,
    ]
    return [*row, _than_champion(found)] if against else row


def _than_champion(found: Slice) -> Cell:
    if found.comparison is None:
        return "-"
    difference, bound = found.comparison.auc_difference, found.comparison.bound
    return Mark(f"{difference:+.4f} (bound {bound:+.4f})", "good" if difference >= bound else "bad")
