"""Scores as a CSV, in the columns that `vehins predict` writes."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from vehins.serving.page.table import Divided, Sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vehins.model.reasons import Reason
    from vehins.serving.predictor import Prediction, Predictor

REASONS = 3
FAULT = "fault"
# Spreadsheets run what begins with one of these as a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
Cell = str | float | None
Told = dict[str, Cell]


class Wish(NamedTuple):
    """What the answer to a file should be like."""

    reasons: bool = False
    best_first: bool = False
    others: bool = False
    """Whether to score the good rows where others are bad."""


def told(predictor: Predictor, predictions: Sequence[Prediction], why: list[list[Reason]] | None) -> list[Told]:
    """What the model says of each row, as cells by their columns."""
    moment = f"{datetime.now(UTC).isoformat(timespec='milliseconds').removesuffix('+00:00')}+0000"
    origin: Told = {"model": predictor.name, "model_version": predictor.version, "scored_at": moment}
    rows: list[Told] = []
    for number, found in enumerate(predictions):
        texts = [] if why is None else [reason.text for reason in why[number]]
        reasons = [] if why is None else [*texts, *[None] * (REASONS - len(texts))]
        rows.append(
            {
                "probability": found.probability,
                "percentile": found.percentile,
                "contact": str(found.contact).lower(),
                **{f"reason_{rank}": text for rank, text in enumerate(reasons, 1)},
                **origin,
            }
        )
    return rows


def write(sheet: Sheet, divided: Divided, said: list[Told], wish: Wish) -> bytes:
    """The file that comes back: a row for each row that came, in its order or the best first.

    What could not be scored stands at its place, or at the end, with the reason in a last column ``fault``.
    """
    scored = dict(zip(divided.good, said, strict=True))
    ranked = sorted(scored, key=lambda place: -float(scored[place]["probability"] or 0))  # equals stay in their order
    rank = {place: number for number, place in enumerate(ranked, 1)}
    faults = {bad.place: "; ".join(f"{item.column} {item.rule}" for item in bad.wrong) for bad in divided.bad}
    places = range(len(sheet.lines))
    nothing: Told = dict.fromkeys(said[0])
    rows: list[list[tuple[str, Cell]]] = []
    for place in [*ranked, *(place for place in places if place not in scored)] if wish.best_first else places:
        key: list[tuple[str, Cell]] = [(divided.key, divided.keys[place])] if divided.key else []
        order: list[tuple[str, Cell]] = [("rank", rank.get(place))] if wish.best_first else []
        fault: list[tuple[str, Cell]] = [(FAULT, faults.get(place))] if faults else []
        rows.append([*key, *order, *scored.get(place, nothing).items(), *fault])
    return _csv(rows, sheet)


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
