"""What the model looks at, and in which direction each feature moves a customer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vehins.artifacts.manifest import TrainedModel
from vehins.model.drivers import Drivers
from vehins.model.reasons import Influence
from vehins.report import words
from vehins.report.blocks import Block, Details, Figure, Figures, Key, Section, Table
from vehins.report.judged import FIRST, SECOND
from vehins.report.story import Story
from vehins.report.svg import Axis, Bars, bars

_SHOWN_FEATURES, _SHOWN_EFFECTS = 15, 6
_STYLES = (FIRST, SECOND)
Shares = Mapping[str, Mapping[str, float]]
"""A number for each feature, for each model by its name."""


def section(stories: Mapping[str, Story]) -> Section | None:
    """Contributions, importance, and what the strongest features do; ``stories`` by the name of their model."""
    trained = {name: story.manifest(TrainedModel) for name, story in stories.items()}
    gains = {name: found.result.importance for name, found in trained.items() if found}
    driven = {name: story.drivers for name, story in stories.items() if story.drivers}
    figures = [*_contributions(driven), *_importance(gains)]
    if not figures:
        return None
    blocks: list[Block] = [Figures(figures)]
    for number, (name, found) in enumerate(driven.items()):
        shown = Figures([_effects(one, f"effect-{number}-{rank}") for rank, one in enumerate(_strongest(found))])
        blocks.append(shown if len(driven) == 1 else Details(f"What each value does in {name}", [shown]))
        blocks.append(_table(found, name if len(driven) > 1 else ""))
    lead = (
        "Contributions add up to the score of a customer: the model's own account of each answer (TreeSHAP), here "
        "averaged. They say what the model uses, not what makes somebody buy."
    )
    return Section("drivers", "What the model looks at", blocks, lead)


def _strongest(found: Drivers) -> list[Influence]:
    return [influence for influence in found.influences[:_SHOWN_EFFECTS] if influence.effects]


def _contributions(driven: Mapping[str, Drivers]) -> list[Figure]:
    if not driven:
        return []
    sizes = {name: {one.feature: one.mean_absolute for one in found.influences} for name, found in driven.items()}
    title = "Mean size of each contribution"
    rows = next(iter(driven.values())).rows
    text = f"How far each feature moves the score of a customer, on average over {rows:,} customers of the test side"
    axis = Axis("Mean size (log-odds)", words.axis_number)
    return [_compared("contributions", title, text, axis, sizes, words.contribution)]


def _importance(gains: Shares) -> list[Figure]:
    if not gains:
        return []
    title = "Importance in training"
    text = "Share of the total gain, over all splits of all trees"
    axis = Axis("Share of the gain (%)", words.axis_percent)
    return [_compared("importance", title, text, axis, gains, words.percent)]


def _compared(name: str, title: str, text: str, axis: Axis, tables: Shares, write: Callable[[float], str]) -> Figure:
    """Bars of the strongest features, one for each model."""
    labels = _union(tables)
    groups = [Bars(model, style, [table.get(label) for label in labels]) for model, style, table in _styled(tables)]
    told = f"{text}. The strongest: {_told(tables, labels, write)}."
    svg = bars(name, title, told, labels, axis, groups)
    legend = [Key(style, model) for model, style, _ in _styled(tables)] if len(tables) > 1 else []
    return Figure(name, title, told, svg, legend)


def _styled(tables: Shares) -> list[tuple[str, str, Mapping[str, float]]]:
    return [(model, style, table) for (model, table), style in zip(tables.items(), _STYLES, strict=False)]


def _union(tables: Shares) -> list[str]:
    """The strongest features of all models, the strongest first."""
    best: dict[str, float] = {}
    for table in tables.values():
        for name, number in table.items():
            best[name] = max(number, best.get(name, 0.0))
    return sorted(best, key=lambda name: -best[name])[:_SHOWN_FEATURES]


def _told(tables: Shares, labels: list[str], write: Callable[[float], str]) -> str:
    table = next(iter(tables.values()))
    return ", ".join(f"{label} {write(table[label])}" for label in labels[:5] if label in table)


def _effects(found: Influence, name: str) -> Figure:
    """What the values of one feature do."""
    title = f"Effect of {found.feature}"
    labels = [effect.value for effect in found.effects]
    notes = [f"{e.value}: {e.mean:+.3f} log-odds, {e.rows:,} customers" for e in found.effects]
    values = "value" if found.unit is None else f"value, in {found.unit}"
    text = f"Mean contribution of {found.feature} by its {values}. {found.sentence}"
    axis = Axis("Mean contribution (log-odds)", words.axis_number)
    group = Bars(found.feature, "effect", [effect.mean for effect in found.effects], notes)
    svg = bars(name, title, text, labels, axis, [group])
    return Figure(name, title, text, svg, [Key("above", "towards a sale"), Key("below", "away from it")])


def _table(found: Drivers, name: str) -> Details:
    rows = [
        (one.feature, words.decimal(one.mean_absolute, 3), one.sentence, one.description) for one in found.influences
    ]
    whose = f" of {name}" if name else ""
    caption = f"Contributions{whose}, in log-odds, over {found.rows:,} customers"
    columns = ("Feature", "Mean size", "Direction", "What it is")
    return Details(f"Contributions{whose} as a table", [Table(caption, columns, rows, frozenset({1}), stacks=True)])
