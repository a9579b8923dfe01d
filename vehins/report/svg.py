"""Charts as inline SVG: pygal computes them, the page's style sheet gives them their colours, dark or light.

What pygal adds for charts that stand alone (its own style, scripts, tooltips, comments) is left out. In come a role, a
title and a description, and numbers are rounded to what can be seen.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from typing import Any, Literal

WIDTH, HEIGHT = 400, 290
_LABEL, _TITLE = 12, 12
_KEPT = ("class", "d", "transform", "x", "y", "cx", "cy", "r", "rx", "width", "height", "text-anchor")
_DROPPED_TAGS = {"defs", "desc", "style", "script"}
_DROPPED_CLASSES = {"reactive", "tooltip-trigger"}
_NUMBER = re.compile(r"-?\d+\.\d+")
Format = Callable[[float], str]
Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Points of one kind. None between two points breaks the line."""

    name: str
    style: str
    """Class that the style sheet knows: first, second, reference, mark, interval, positive, negative."""
    points: Sequence[Point | None]
    shape: Literal["line", "dots", "area"] = "line"
    notes: Sequence[str] = ()
    """What a pointer that rests on each dot is told."""


@dataclass(frozen=True)
class Axis:
    """One axis: its title with the unit, how its numbers are written, and what it must show."""

    title: str
    write: Format
    span: tuple[float, float] | None = None
    ticks: Sequence[float] = ()
    names: Sequence[str] = ()
    """Words for the ticks, instead of their numbers."""

    def labels(self, low: float, high: float) -> list[dict[str, Any]]:
        """The ticks as pygal takes them."""
        ticks = self.ticks or round_numbers(*(self.span or (low, high)))
        words = self.names or [self.write(tick) for tick in ticks]
        return [{"value": tick, "label": text} for tick, text in zip(ticks, words, strict=True)]


def round_numbers(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two others, some five of them, evenly spaced by 1, 2, 2.5 or 5 times a power of ten."""
    if not low < high:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / about))
    step = power * min((1, 2, 2.5, 5, 10), key=lambda size: abs((high - low) / (size * power) - about))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


@dataclass(frozen=True)
class Bars:
    """Horizontal bars of one series, one for each label; a note is what a pointer that rests on it is told."""

    name: str
    style: str
    values: Sequence[float | None]
    notes: Sequence[str] = field(default_factory=tuple)


def plot(name: str, title: str, description: str, x: Axis, y: Axis, series: Sequence[Series], height: int = 0) -> str:
    """Lines, areas and dots over two numeric axes, as the markup of one ``<svg>``."""
    seen = [point for one in series for point in one.points if point is not None]
    chart = _pygal().XY(
        **_options(height or HEIGHT),
        title=y.title or None,
        margin_top=13 if y.title else 4,
        x_title=x.title,
        x_labels=x.labels(*_ends([point[0] for point in seen])),
        y_labels=y.labels(*_ends([point[1] for point in seen])),
        x_value_formatter=x.write,
        value_formatter=y.write,
        xrange=x.span,
        range=y.span,
        show_x_guides=True,
    )
    for one in series:
        chart.add(
            one.name,
            _values(one),
            stroke=one.shape != "dots",
            show_dots=one.shape == "dots",
            fill=one.shape == "area",
            allow_interruptions=one.shape == "line",
            dots_size=3.2,
        )
    return _markup(chart, name, title, description, [one.style for one in series])


def bars(name: str, title: str, description: str, labels: Sequence[str], x: Axis, groups: Sequence[Bars]) -> str:
    """Horizontal bars, the first label on top; a negative value goes to the left."""
    height = 50 + len(labels) * (9 + 13 * len(groups))
    seen = [value for group in groups for value in group.values if value is not None]
    chart = _pygal().HorizontalBar(
        **_options(height),
        x_title=x.title,
        x_labels=[shortened(label) for label in reversed(labels)],
        y_labels=x.labels(*_ends([0.0, *seen])),
        value_formatter=x.write,
        range=x.span,
        show_y_guides=True,
        rounded_bars=2,
    )
    for group in groups:
        notes = group.notes or [x.write(value or 0.0) for value in group.values]
        pairs = list(zip(group.values, notes, strict=True))[::-1]
        chart.add(
            group.name,
            [
                None if value is None else {"value": value, "tooltip": note, "node": _sign(value)}
                for value, note in pairs
            ],
        )
    return _markup(chart, name, title, description, [group.style for group in groups])


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)


def _sign(value: float) -> dict[str, str]:
    return {"class": "below"} if value < 0 else {"class": "above"}


def shortened(label: str, letters: int = 20) -> str:
    """A label that leaves room for the chart; of two long ones, the ends differ."""
    return label if len(label) <= letters else f"{label[: letters // 2]}…{label[-(letters // 2 - 1) :]}"


@cache
def _pygal() -> Any:
    """Import pygal, without the finder that it leaves in the path of all imports to come.

    That serves its maps alone, and is of a kind that Python 3.11 warns of at each import. The finder of
    importlib-metadata, which comes with it, must stay: it has taken the place of Python's own.
    """
    import pygal

    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]
    return pygal


def _options(height: int) -> dict[str, Any]:
    style = _pygal().style.Style(label_font_size=_LABEL, major_label_font_size=_LABEL, title_font_size=_TITLE)
    return {
        "width": WIDTH,
        "height": height,
        "style": style,
        "js": [],
        "no_prefix": True,
        "show_legend": False,
        "spacing": 7,
        "margin": 4,
        "margin_right": 16,
        "truncate_label": -1,
        "print_values": False,
    }


def _values(series: Series) -> list[Any]:
    notes = series.notes or [""] * len(series.points)
    return [
        None if point is None else {"value": point, "tooltip": note} if note else point
        for point, note in zip(series.points, notes, strict=True)
    ]


# --- From pygal's tree to the markup of a page -----------------------------------------------------------------------


def _markup(chart: Any, name: str, title: str, description: str, styles: Sequence[str]) -> str:
    root = chart.render_tree()
    head = (
        f'<svg class="chart" viewBox="{root.get("viewBox")}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    )
    body = "".join(part for child in root if child.tag == "g" for part in _written(child, styles))
    return f"{head}{body}</svg>"


def _written(node: Any, styles: Sequence[str]) -> Iterator[str]:
    """One element and all below it; nothing for what is empty or only serves a chart that stands alone."""
    classes = (node.get("class") or "").split()
    if node.tag in _DROPPED_TAGS or "tooltip-overlay" in classes:
        return
    below = [child for child in node if not (child.tag == "title" and "guides" in classes)]
    inner = "".join(part for child in below for part in _written(child, styles)) + escape(node.text or "", quote=False)
    if node.tag == "g" and not inner:
        return
    attributes = "".join(f' {key}="{value}"' for key, value in _attributes(node, classes, styles))
    yield f"<{node.tag}{attributes}>{inner}</{node.tag}>" if inner else f"<{node.tag}{attributes}/>"


def _attributes(node: Any, classes: Sequence[str], styles: Sequence[str]) -> Iterator[tuple[str, str]]:
    for key in _KEPT:
        value = node.get(key)
        if key == "class":
            value = " ".join(_classes(classes, styles))
        elif key == "x" and "plot_title" in classes:
            value = "0"  # above its axis, and not in the middle
        elif value:
            value = _NUMBER.sub(lambda match: f"{float(match[0]):.1f}", value)
        if value:
            yield key, escape(value)


def _classes(classes: Sequence[str], styles: Sequence[str]) -> Iterator[str]:
    """pygal's classes, with the number of a series replaced by its style."""
    for word in classes:
        kind, _, number = word.partition("-")
        if kind == "serie":
            yield styles[int(number)]
        elif kind != "color" and word not in _DROPPED_CLASSES:
            yield word
