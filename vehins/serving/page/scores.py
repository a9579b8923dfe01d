"""Scores as a CSV, in the columns that `vehins predict` writes."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from vehins.serving import explain
from vehins.serving.page.table import Divided, Sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vehins.serving.holder import Ready
    from vehins.serving.predictor import Prediction

REASONS = 3
FAULT = "fault"
SCORES, ORIGIN = ("probability", "percentile", "contact"), ("model", "model_version", "scored_at")
# Spreadsheets run what begins with one of these as a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
Cell = str | float | None


class Wish(NamedTuple):
    """What the answer to a file should be like."""

    reasons: bool = False
    best_first: bool = False
    others: bool = False
    """Whether to score the good rows where others are bad."""


def write(sheet: Sheet, divided: Divided, predictions: Sequence[Prediction], ready: Ready, wish: Wish) -> bytes:
    """The file that comes back: a row for each row that came, in its order or the best first.

    What could not be scored stands at its place, or at the end, with the reason in a last column ``fault``.
    """
    scored = dict(zip(divided.good, predictions, strict=True))
    ranked = sorted(scored, key=lambda place: -scored[place].probability)  # of equals, the first comes first
    rank = {place: number for number, place in enumerate(ranked, 1)}
    faults = {bad.place: "; ".join(f"{item.column} {item.rule}" for item in bad.wrong) for bad in divided.bad}
    rest = [place for place in range(len(sheet.lines)) if place not in scored]
    order = [*ranked, *rest] if wish.best_first else range(len(sheet.lines))
    moment = f"{datetime.now(UTC).isoformat(timespec='milliseconds').removesuffix('+00:00')}+0000"
    rows: list[list[tuple[str, Cell]]] = []
    for place in order:
        head: dict[str, Cell] = {"rank": rank.get(place)} if wish.best_first else {}
        made = _scored(scored.get(place), ready, moment, wish.reasons)
        fault = {FAULT: faults.get(place)} if faults else {}
        key = _key(divided, place, ready)
        rows.append([*key.items(), *head.items(), *made.items(), *fault.items()])
    return _csv(rows, sheet)


def _key(divided: Divided, place: int, ready: Ready) -> dict[str, Cell]:
    name = ready.predictor.table.key
    return {name: divided.keys[place]} if divided.keys and name is not None else {}


def _scored(found: Prediction | None, ready: Ready, moment: str, with_reasons: bool) -> dict[str, Cell]:
    """What the model says of one row; nothing of one that it has not seen."""
    texts = [reason.text for reason in getattr(found, "reasons", [])]
    reasons: list[Cell] = [*texts, *[None] * (REASONS - len(texts))] if with_reasons else []
    names = [*SCORES, *(f"reason_{number}" for number in range(1, len(reasons) + 1)), *ORIGIN]
    if found is None:
        return dict.fromkeys(names)
    origin = (ready.predictor.name, ready.predictor.version, moment)
    cells = [found.probability, found.percentile, str(found.contact).lower(), *reasons, *origin]
    return dict(zip(names, cells, strict=True))


def _csv(rows: list[list[tuple[str, Cell]]], sheet: Sheet) -> bytes:
    """A CSV as the one that came: with its delimiter, and with a mark of UTF-8 where that had one."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=sheet.delimiter, lineterminator="\n")
    writer.writerow(harmless(name) for name, _ in rows[0])
    writer.writerows([harmless(cell) for _, cell in row] for row in rows)
    return out.getvalue().encode("utf-8-sig" if sheet.has_bom else "utf-8")


def harmless(cell: Cell) -> Cell:
    """A cell that no spreadsheet takes for a formula; numbers stay what they are."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def predictions(divided: Divided, ready: Ready, wish: Wish) -> Sequence[Prediction]:
    """Answers for the rows that can be scored, in their order.

    Raises:
        RefusalError: there are too many rows to give reasons for (422).
    """
    rows = list(divided.good.values())
    if wish.reasons:
        explain.check_rows(len(rows))
    found = ready.predictor.predict(rows)
    return explain.explained(ready, rows, found, REASONS) if wish.reasons else found
