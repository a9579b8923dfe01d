"""What a page is made of: sections of paragraphs, tables and charts, before anything is HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Tone = Literal["good", "bad", "warn", "plain"]


@dataclass(frozen=True)
class Mark:
    """A word in a colour, with a sign, so that it does not depend on the colour."""

    text: str
    tone: Tone
    note: str = ""
    """What stands below it in plain letters."""


@dataclass(frozen=True)
class Code:
    """A name or a value that is shown as it is: a path, a digest, a setting."""

    text: str


Cell = str | Mark | Code


@dataclass(frozen=True)
class Table:
    """A table. The first column names the rows; ``numeric`` tells which columns are numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: frozenset[int] = frozenset()
    note: str = ""
    stacks: bool = False
    """Whether a row becomes a card where the page is narrow: for rows that are sentences."""


@dataclass(frozen=True)
class Key:
    """One line of a chart's legend: the style class of the series, and what it is."""

    style: str
    name: str


@dataclass(frozen=True)
class Figure:
    """A chart with all that tells the same in words."""

    name: str
    title: str
    description: str
    """What there is to see, for those who do not see it."""
    svg: str
    """Markup made by `vehins.report.svg`, with every text in it escaped."""
    legend: Sequence[Key] = ()


@dataclass(frozen=True)
class Prose:
    """Paragraphs."""

    paragraphs: Sequence[str]
    tone: Tone = "plain"


@dataclass(frozen=True)
class Fact:
    """A number that is worth a large print, and what it is."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Facts:
    """A few of them in a row."""

    facts: Sequence[Fact]


@dataclass(frozen=True)
class Figures:
    """Charts and small tables that stand beside each other where there is room."""

    items: Sequence[Figure | Table]


@dataclass(frozen=True)
class Details:
    """What only some want to see: closed on the screen, open in print."""

    summary: str
    blocks: Sequence[Block]


Block = Prose | Table | Figures | Facts | Details


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own."""

    name: str
    title: str
    blocks: Sequence[Block]
    lead: str = ""
    """What the section answers, in a sentence or two."""


@dataclass(frozen=True)
class Verdict:
    """What the page says first."""

    tone: Tone
    headline: str
    sentences: Sequence[str]
    owner: str = ""
    """Whose it is, where there are several."""


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    kicker: str
    heading: str
    """Above several verdicts; empty where there is one, which is the heading then."""
    subtitle: str
    verdicts: Sequence[Verdict]
    facts: Facts | None
    sections: Sequence[Section]
    digest: str
    footer: Sequence[str] = field(default_factory=tuple)
