"""A reason in words: what a row has in a feature, and what that does to its score.

Plain Python, value by value, for one row as for a million: the service and `predict` say the same of the same customer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vehins.data.schema import Column, Scalar
from vehins.model.features import UNKNOWN

if TYPE_CHECKING:
    from vehins.model.features import Feature

MISSING = "missing"
_UNSEEN = " (never seen in training)"
_LEAST = 0.005  # what is less rounds to nothing
_EXACT = 2**53  # from here on a float no longer tells one integer from the next


def value(feature: Feature, column: Column, row: Mapping[str, Scalar | None], code: float) -> str:
    """What a row has in a feature, with its unit; ``code`` is what the encoder makes of it."""
    text = _raw(feature, column, row, code)
    if text is None:
        return MISSING
    unit = f" {column.unit}" if column.unit else ""
    return text + unit + (_UNSEEN if feature.is_category and code == UNKNOWN else "")


def sentence(name: str, description: str, found: str, amount: float) -> str | None:
    """What the value ``found`` adds to the score (log-odds), in words; None when it adds nothing."""
    if not amount:
        return None
    size, about = abs(amount), f" ({_lowered(description)})" if description else ""
    by = "less than 0.01" if size < _LEAST else f"{size:.2f}"
    return f"{name} = {found} {'raises' if amount > 0 else 'lowers'} the score by {by}{about}"


def amount_text(number: float) -> str | None:
    """A number as a person writes it: 18, not 18.0, and at most six significant digits; None for NaN."""
    if math.isnan(number):
        return None
    return str(int(number)) if number.is_integer() and abs(number) < _EXACT else f"{number:.6g}"


def _raw(feature: Feature, column: Column, row: Mapping[str, Scalar | None], code: float) -> str | None:
    """The value in the table; of a cross both of them, and of what is computed the number that the model sees."""
    if feature.kind == "cross":
        first, second = (_text(row.get(name)) for name in feature.columns)
        return None if first is None or second is None else f"{first} and {second}"
    if feature.kind in {"product", "ratio"}:
        return amount_text(code)
    found = row.get(feature.name)
    return _text(float(found) if column.dtype == "float" and found is not None else found)


def _text(found: Scalar | None) -> str | None:
    if isinstance(found, float):
        return amount_text(found)
    return str(found).lower() if isinstance(found, bool) else None if found is None else str(found)


def _lowered(description: str) -> str:
    """A description as it stands within a sentence."""
    return description[:1].lower() + description[1:] if description[1:2].islower() else description
