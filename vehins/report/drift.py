"""How far the customers of today lie from those that the champion was trained on."""

from __future__ import annotations

from collections.abc import Mapping

from vehins.artifacts.drift import ColumnDrift, Drift
from vehins.artifacts.manifest import Evaluation, Validation
from vehins.report import words
from vehins.report.blocks import Block, Details, Figure, Figures, Key, Prose, Section, Table
from vehins.report.story import Story
from vehins.report.svg import Axis, Bars, bars

_SHOWN_COLUMNS, _SHOWN_BINS, _DETAILED = 15, 10, 3
# The rule of thumb for the population stability index: below 0.1 stable, above 0.25 another population.
STABLE, MOVED = 0.1, 0.25


def of(story: Story) -> Drift | None:
    """The drift that a run found."""
    validation, evaluation = story.manifest(Validation), story.manifest(Evaluation)
    found = validation.result.drift if validation else None
    return found or (evaluation.result.drift if evaluation else None)


def section(stories: Mapping[str, Story]) -> Section | None:
    """The stability index of each column, and the bins of those that moved most; ``stories`` by name."""
    found = {name: drift for name, story in stories.items() if (drift := of(story)) is not None}
    if not found:
        return None
    blocks: list[Block] = []
    for number, (name, drift) in enumerate(found.items()):
        blocks += _told(f"drift-{number}", name if len(stories) > 1 else "", drift)
    lead = (
        "The rows of this run against the rows that the champion was trained on, column by column (population "
        "stability index, PSI). By rule of thumb, below 0.1 nothing has moved and above 0.25 these are other customers."
    )
    return Section("drift", "Whether the customers have changed", blocks, lead)


def _told(name: str, owner: str, drift: Drift) -> list[Block]:
    if not drift.columns:
        why = drift.reason or "There was no champion to compare with."
        return [Prose([f"{owner}: {why}" if owner else why])]
    measured = [column for column in drift.columns if column.psi is not None]
    figures = [_indices(name, owner, measured)] if measured else []
    moved = [column for column in measured if column.bins and _has_moved(column)][:_DETAILED]
    figures += [_bins(f"{name}-{number}", column) for number, column in enumerate(moved)]
    return [*([Figures(figures)] if figures else []), _table(owner, drift)]


def _indices(name: str, owner: str, columns: list[ColumnDrift]) -> Figure:
    title = f"Drift of each column{f', {owner}' if owner else ''}"
    shown = columns[:_SHOWN_COLUMNS]
    furthest = shown[0]
    text = (
        f"Population stability index of each column; {furthest.column} has moved furthest, by "
        f"{words.decimal(furthest.psi, 3)}: {judged(furthest)}."
    )
    top = max(MOVED, *(column.psi or 0.0 for column in shown)) * 1.05
    axis = Axis("Stability index (PSI)", words.axis_number, (0, top))
    svg = bars(name, title, text, [c.column for c in shown], axis, [Bars("PSI", "first", [c.psi for c in shown])])
    return Figure(name, title, text, svg)


def _has_moved(column: ColumnDrift) -> bool:
    """Whether chance alone does not explain it."""
    return (column.psi or 0.0) > (column.chance or 0.0)


def judged(column: ColumnDrift) -> str:
    """How far a column has moved, in words."""
    psi = column.psi or 0.0
    if not _has_moved(column):
        return "no more than chance"
    return "hardly at all" if psi < STABLE else "noticeably" if psi < MOVED else "these are other customers"


def _bins(name: str, column: ColumnDrift) -> Figure:
    title = f"{column.column}, then and now"
    shown = sorted(column.bins, key=lambda found: -max(found.expected, found.actual))[:_SHOWN_BINS]
    kept = [found for found in column.bins if found in shown]
    moved = max(kept, key=lambda found: abs(found.actual - found.expected))
    text = (
        f"Share of customers by value of {column.column}: {moved.label} went from {words.percent(moved.expected)} to "
        f"{words.percent(moved.actual)}."
    )
    groups = [
        Bars("now", "first", [found.actual for found in kept]),
        Bars("champion's training", "second", [found.expected for found in kept]),
    ]
    axis = Axis("Customers (% of all)", words.axis_percent)
    svg = bars(name, title, text, [found.label for found in kept], axis, groups)
    return Figure(name, title, text, svg, [Key("first", "now"), Key("second", "champion's training rows")])


def _table(owner: str, drift: Drift) -> Details:
    rows = [
        (
            column.column,
            column.role,
            words.decimal(column.psi),
            words.decimal(column.chance) if column.chance is not None else "-",
            judged(column) if column.psi is not None else column.reason or words.NOT_COMPUTED,
        )
        for column in drift.columns
    ]
    against = "" if drift.reference_rows is None else f" against {words.count(drift.reference_rows)} training rows"
    caption = f"Drift{f', {owner}' if owner else ''}: {words.count(drift.rows)} rows{against}"
    columns = ("Column", "Role", "PSI", "By chance below", "In words")
    return Details("Drift as a table", [Table(caption, columns, rows, frozenset({2, 3}))])
