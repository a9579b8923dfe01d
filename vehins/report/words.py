"""Numbers, times and names as a reader wants them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

NOT_COMPUTED = "not computed"
_SPELLED = {"auc": "AUC", "psi": "PSI", "ks": "KS", "id": "id"}


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return NOT_COMPUTED if share is None else f"{100 * share:.{digits}f}%"


def axis_percent(share: float) -> str:
    """A share on an axis: without digits that say nothing."""
    return f"{100 * share:.3g}%"


def count(number: float | None) -> str:
    """How many."""
    return NOT_COMPUTED if number is None else f"{number:,.0f}"


def amount(number: float | None) -> str:
    """Money, in whole units from a hundred on."""
    if number is None:
        return NOT_COMPUTED
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:,.2f}"


def earns(profit: float) -> str:
    """What calls come to, as a predicate: it earns so much, or loses it."""
    return f"{'earns' if profit >= 0 else 'loses'} {amount(abs(profit))}"


def short_amount(number: float) -> str:
    """Money on an axis: 12k, 3.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def decimal(number: float | None, digits: int = 4) -> str:
    """A metric."""
    return NOT_COMPUTED if number is None else f"{number:.{digits}f}"


def significant(number: float | None) -> str:
    """A number of any size in a few digits."""
    if number is None:
        return NOT_COMPUTED
    if number == int(number) and abs(number) < 1e12:
        return f"{number:,.0f}"
    if abs(number) < 0.01:
        return f"{number:.5f}"
    return f"{number:.4g}" if abs(number) < 1e4 else f"{number:,.0f}"


def signed(number: float | None, digits: int = 4) -> str:
    """A difference."""
    return NOT_COMPUTED if number is None else f"{round(number, digits) + 0.0:+.{digits}f}"


def axis_number(number: float) -> str:
    """A plain number on an axis."""
    return f"{number:.4g}"


def contribution(number: float) -> str:
    """What a feature adds to a score, in log-odds."""
    return f"{number:.2f}"


def between(low: float | None, high: float | None, digits: int = 4) -> str:
    """An interval."""
    return "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"


def seconds(duration: float | None) -> str:
    """How long it took."""
    if duration is None:
        return "-"
    if duration < 60:
        return f"{duration:.2f} s" if duration < 10 else f"{duration:.0f} s"
    minutes, rest = divmod(round(duration), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def moment(time: datetime | None) -> str:
    """A point in time."""
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def times(number: float) -> str:
    """How many times as much."""
    return f"{number:.1f}"


def titled(name: str) -> str:
    """The name of a rule or of a field as words: `auc_floor` is AUC floor."""
    words = " ".join(_SPELLED.get(word, word) for word in name.split("_") if word)
    return words[:1].upper() + words[1:]


def sentence(text: str) -> str:
    """A text with a capital at its beginning and a full stop at its end."""
    begun = text[:1].upper() + text[1:]
    return begun if not begun or begun.endswith((".", "!", "?")) else f"{begun}."


def plural(number: float, one: str, many: str = "") -> str:
    """A count with its noun."""
    return f"{number:,.0f} {one if number == 1 else many or one + 's'}"


def value(found: Any) -> str:
    """The value of a setting or of a parameter."""
    if found is None:
        return "none"
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, float):
        return f"{found:g}" if math.isfinite(found) else str(found)
    return str(found)
