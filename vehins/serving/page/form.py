"""The fields of the form, from the schema; what stands in them at the start, from the rows of training."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from vehins.errors import VehinsError
from vehins.model import bundle as bundles
from vehins.model.wording import amount_text
from vehins.serving.page.words import label
from vehins.serving.requests import bounds, example_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vehins.data.schema import Column, Scalar
    from vehins.data.statistics import ColumnBins, NumberBins
    from vehins.serving.page.cells import Wrong
    from vehins.serving.predictor import Predictor

_MAX_SUGGESTIONS = 500
_FLAG = re.compile(r"1 (?=when |if )")


@dataclass(frozen=True)
class Choice:
    """One value that can be chosen."""

    value: str
    label: str


@dataclass(frozen=True)
class Field:
    """One column in the form."""

    id: str
    name: str
    label: str
    hint: str
    value: str
    required: bool
    choices: list[Choice] = field(default_factory=list)
    """All that can be chosen; none for a field that is written in."""
    suggestions: list[str] = field(default_factory=list)
    keyboard: str = "text"
    """Which keys a phone shows."""
    fault: str = ""

    @property
    def described_by(self) -> str:
        """The ids of the texts about it."""
        return " ".join(
            filter(None, (f"{self.id}-fault" if self.fault else "", f"{self.id}-hint" if self.hint else ""))
        )


def fields(predictor: Predictor) -> list[Field]:
    """The form as it is at the start. Reads the bundle's folder."""
    table = predictor.table
    start = _start(predictor)
    seen = {f.name: f.vocabulary for f in predictor.bundle.encoder.features if f.kind == "category"}
    return [
        _field(number, name, column, start[name], seen.get(name, []))
        for number, (name, column) in enumerate(table.features.items())
    ]


def filled(blank: list[Field], texts: Mapping[str, str], wrong: list[Wrong]) -> list[Field]:
    """The form as somebody has sent it, with what is wrong beside the field that it is about."""
    faults = {item.column: item.rule for item in wrong}
    return [replace(item, value=texts.get(item.name, ""), fault=faults.get(item.name, "")) for item in blank]


def _field(number: int, name: str, column: Column, start: str, seen: list[str]) -> Field:
    choices = _choices(column)
    suggestions = [] if choices or len(seen) > _MAX_SUGGESTIONS else sorted(seen, key=_order)
    return Field(
        id=f"f{number}",
        name=name,
        label=label(name),
        hint=_hint(column, len(suggestions)),
        value=start,
        required=not column.nullable,
        choices=choices,
        suggestions=suggestions,
        keyboard=_keyboard(column),
    )


def _is_flag(column: Column) -> bool:
    return column.dtype == "int" and column.is_category and sorted(map(str, column.values or [])) == ["0", "1"]


def _choices(column: Column) -> list[Choice]:
    if column.dtype == "bool":
        found = [Choice("true", "Yes"), Choice("false", "No")]
    elif _is_flag(column):
        found = [Choice("1", "Yes"), Choice("0", "No")]
    else:
        found = [Choice(_text(value), _text(value)) for value in column.values or []]
    return [Choice("", "Not known"), *found] if found and column.nullable else found


def _hint(column: Column, suggestions: int) -> str:
    about = _FLAG.sub("Yes ", column.description) if _is_flag(column) else column.description
    unit = f"in {column.unit}" if column.unit else ""
    seen = f"{suggestions} are known from training" if suggestions else ""
    empty = "may be left empty" if column.nullable and column.values is None and column.dtype != "bool" else ""
    return "; ".join(filter(None, (", ".join(filter(None, (about, unit, _limits(column)))), seen, empty)))


def _limits(column: Column) -> str:
    low, high = (None if edge is None else amount_text(float(edge)) for edge in (column.minimum, column.maximum))
    if column.values is not None or (low is None and high is None):
        return ""
    return f"{low} or more" if high is None else f"at most {high}" if low is None else f"{low} to {high}"


def _keyboard(column: Column) -> str:
    """A phone's keys for digits have no sign, so that they are only for what is never below zero."""
    low, _ = bounds(column)
    if column.dtype not in {"int", "float"} or low is None or low < 0:
        return "text"
    return "numeric" if column.dtype == "int" else "decimal"


def _order(text: str) -> tuple[float, str]:
    return (float(text) if text.isdecimal() else 0.0, text)


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return amount_text(value) or "" if isinstance(value, float) else str(value)


def _start(predictor: Predictor) -> dict[str, str]:
    """Median or most frequent value of the rows of training; of a bundle that does not tell, the row of the docs."""
    texts = {name: _text(value) for name, value in example_row(predictor.table).items()}
    try:
        statistics = bundles.statistics(predictor.bundle.folder)
    except (VehinsError, OSError):  # its folder is gone or changed since it was loaded: the model itself is in memory
        statistics = None
    for bins in statistics.columns if statistics else []:
        column = predictor.table.features.get(bins.column)
        usual = None if column is None else _usual(bins, column)
        if usual is not None:
            texts[bins.column] = usual
    return texts


def _usual(bins: ColumnBins, column: Column) -> str | None:
    if bins.kind == "number":
        return _median(bins, column)
    return next(iter(bins.counts), None)


def _median(bins: NumberBins, column: Column) -> str | None:
    """The edge below which half of the rows lie."""
    if not bins.edges:
        return None
    below = accumulate(bins.counts)
    edge = next(
        (edge for edge, rows in zip(bins.edges, below, strict=False) if 2 * rows >= sum(bins.counts)), bins.edges[-1]
    )
    low, high = bounds(column)
    edge = min(max(edge, low if low is not None else edge), high if high is not None else edge)
    return amount_text(float(round(edge)) if column.dtype == "int" else float(f"{edge:.7g}"))
