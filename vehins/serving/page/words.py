"""Names and numbers as a person reads them."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def label(name: str) -> str:
    """The name of a column as words: "Vehicle age" for ``Vehicle_Age``; abbreviations stay as they are."""
    first, *others = name.replace("_", " ").split() or [name]
    lowered = [word.lower() if word[1:].islower() else word for word in others]
    return " ".join([first[:1].upper() + first[1:], *lowered])


def percent(share: float, digits: int = 1) -> str:
    """A share in percent; what is not quite nothing or all does not look like it."""
    least = 10.0**-digits
    if 0 < share * 100 < least:
        return f"less than {least:.{digits}f}%"
    if 100 - least < share * 100 < 100:
        return f"more than {100 - least:.{digits}f}%"
    return f"{share * 100:.{digits}f}%"


def apart(one: float, other: float) -> tuple[str, str]:
    """Two shares in percent, with as many digits as it takes to tell them from each other."""
    texts = ("", "")
    for digits in (1, 2, 3, 6, 9, 12):
        texts = (percent(one, digits), percent(other, digits))
        if texts[0] != texts[1] or one == other:
            break
    return texts


def percentile(found: float) -> str:
    """A place among the customers of training, in words; rounded down, so that it does not claim too much."""
    if found <= 0:
        return "Lower than all customers that the model was trained on"
    if found >= 100:
        return "As high as the highest of the customers that the model was trained on"
    place = f"Higher than {int(found)}%" if found >= 1 else "Among the lowest 1%"
    return f"{place} of the customers that the model was trained on"


def moment(at: datetime) -> str:
    """A moment in UTC."""
    at = at.astimezone(UTC)
    return f"{at.day} {at:%B %Y}, {at:%H:%M} UTC"


def count(number: int, one: str, many: str = "") -> str:
    """A number of things: 1 row, 2,000 rows."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
