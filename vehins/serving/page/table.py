"""A CSV that somebody has sent: read, checked and divided into rows that can be scored and rows that cannot."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from vehins.serving.answers import ErrorAnswer, Fault
from vehins.serving.failures import RefusalError
from vehins.serving.page import cells
from vehins.serving.page.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vehins.data.schema import Scalar, TableSchema
    from vehins.serving.holder import Ready
    from vehins.serving.page.cells import Row, Wrong

_DELIMITERS = (",", ";", "\t", "|")
_HEADER_BYTES = 64 * 1024  # that are looked at to find the sign between the fields
_MOST_FIELDS = 2**17  # of a row, and eight times the columns that a spreadsheet has
_SHOWN_CHARACTERS = 60
_STRANGERS = 200  # of so many names that are not known it is worth a look what they may mean
_TWICE = "stands in another row as well, and which of them is right cannot be known"


class Line(NamedTuple):
    """One row of the file."""

    number: int
    """As a spreadsheet counts: the header is row 1."""
    texts: dict[str, str]
    """What stands in the columns of the table."""


@dataclass(frozen=True)
class BadLine:
    """A row that cannot be scored."""

    place: int
    """In the file, from 0."""
    line: Line
    key_faults: list[Wrong]
    row: Row | None
    """Its features, if something is wrong with them."""
    ready: Ready

    @property
    def number(self) -> int:
        """As a spreadsheet counts."""
        return self.line.number

    @cached_property
    def wrong(self) -> list[Wrong]:
        """What is wrong; looked for when it is asked for, as of ten thousand bad rows few are shown."""
        found = [] if self.row is None else cells.faults(self.row, self.line.texts, self.ready)
        return [*self.key_faults, *found]


@dataclass(frozen=True)
class Sheet:
    """The file as it was written."""

    delimiter: str
    has_bom: bool
    lines: list[Line]


@dataclass(frozen=True)
class Divided:
    """The rows, in their order."""

    key: str | None
    """Name of the key; None when the file has none."""
    keys: list[Scalar | None]
    """The key of every row of the file."""
    good: dict[int, Row]
    """The rows that can be scored, by their place in the file, from 0."""
    bad: list[BadLine]


def read(data: bytes, table: TableSchema, max_rows: int) -> Sheet:
    """Read a CSV in UTF-8 with a header; the sign between its fields is the one that finds the most columns.

    Raises:
        RefusalError: it is no such CSV, lacks a column or has too many rows (422).
    """
    _check_utf8(data)
    bare = data.removeprefix(codecs.BOM_UTF8)
    sign = _delimiter(bare[:_HEADER_BYTES].decode("utf-8", "ignore"), table)
    try:
        records = _records(bare, sign)
        names = _header(next(records, (0, []))[1], table)
        places = {name: place for place, name in enumerate(names) if name in table.columns}
        lines = list(_lines(records, places, len(names), max_rows))
    except csv.Error as error:
        hint = 'Close its quotes (a field with a quote in it is written `"5"" pipe"`), or save it again as CSV.'
        raise refused("The file is not well-formed CSV", f"{str(error).capitalize()}.", hint) from None
    if not lines:
        raise refused("The file has no rows", "There is a header, and nothing below it.", "Choose another file.")
    return Sheet(sign, bare != data, lines)


def divide(sheet: Sheet, ready: Ready) -> Divided:
    """Tell the rows that can be scored from those that cannot."""
    table = ready.predictor.table
    rows = [cells.row(line.texts, table) for line in sheet.lines]
    keys, wrong_keys = _keys(sheet, table)
    key = table.key if keys else None
    all_good = None if wrong_keys else cells.checked(rows, ready)
    if all_good is not None:
        return Divided(key, keys, dict(enumerate(all_good)), [])
    good, bad = dict[int, "Row"](), []
    for place, (line, row) in enumerate(zip(sheet.lines, rows, strict=True)):
        clean = cells.checked([row], ready)
        if clean and place not in wrong_keys:
            good[place] = clean[0]
        else:
            bad.append(BadLine(place, line, wrong_keys.get(place, []), None if clean else row, ready))
    return Divided(key, keys, good, bad)


def refused(headline: str, detail: str, hint: str) -> RefusalError:
    """The file as a whole cannot be used (422)."""
    return RefusalError(422, ErrorAnswer(error=Fault(headline=headline, detail=detail, hint=hint)))


def _check_utf8(data: bytes) -> None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        detail = f"Line {line:,} has bytes that are no UTF-8 text."
        raise refused("The file is not UTF-8", detail, "Save it again as “CSV UTF-8”.") from None


def _delimiter(text: str, table: TableSchema) -> str:
    header = text.lstrip("\r\n").splitlines()[:1]

    def known(sign: str) -> int:
        try:
            names = next(csv.reader(header, delimiter=sign), [])
        except csv.Error:
            return 0
        return sum(name.strip() in table.columns for name in names)

    return max(_DELIMITERS, key=known)


def _records(data: bytes, sign: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that have something in them, with their numbers."""
    signs = 0  # since the last row

    def lines() -> Iterator[str]:
        nonlocal signs
        # Decoded as it is read: as one text, a single sign of another script makes it four times as large.
        for line in io.TextIOWrapper(io.BytesIO(data), "utf-8", newline=""):
            signs += line.count(sign)
            if signs >= _MOST_FIELDS:
                detail = f"At most {_MOST_FIELDS:,} are taken."
                raise refused(
                    "A row of the file has too many fields", detail, "Leave out what the model does not need."
                )
            yield line

    for number, record in enumerate(csv.reader(lines(), delimiter=sign, strict=True), 1):
        signs = 0
        if any(record):
            yield number, record


def _header(found: list[str], table: TableSchema) -> list[str]:
    names = [name.strip() for name in found] if table.strip else found
    if not names:
        raise refused("The file is empty", "It has not even a header.", "Choose another file.")
    [(often, times)] = Counter(names).most_common(1)
    if times > 1:
        detail = f"`{often[:_SHOWN_CHARACTERS]}` is there {times} times, and which of them is meant cannot be known."
        raise refused("A column is there more than once", detail, "Rename or remove all but one of them.")
    known = set(names)
    missing = [name for name, column in table.features.items() if name not in known and not column.nullable]
    if missing:
        hint = "Name them in the first line of the file, just so"
        lacks = ", ".join(f"`{name}`" for name in missing)
        headline = f"The file lacks {count(len(missing), 'column')} that the model needs"
        raise refused(headline, f"{lacks}.", hint + _alike(names, missing, table))
    return names


def _alike(names: list[str], missing: list[str], table: TableSchema) -> str:
    """The end of a hint: which of the names may have been meant for those that are missing."""
    strangers = [name[:_SHOWN_CHARACTERS] for name in names if name not in table.columns][:_STRANGERS]
    near = [f"`{name}` looks like `{found}`" for name in strangers if (found := table.nearest(name)) in missing]
    return f": {', '.join(near[:3])}." if near else "."


def _lines(
    records: Iterator[tuple[int, list[str]]], places: dict[str, int], width: int, max_rows: int
) -> Iterator[Line]:
    """The rows, of which only the columns of the table are kept: a file may have any number of others."""
    for found, (number, record) in enumerate(records, 1):
        if found > max_rows:
            raise refused(
                "The file has too many rows",
                f"At most {max_rows:,} are taken; it has {found + sum(1 for _ in records):,}.",
                "Split it, or let whoever runs the service score it: `vehins predict` takes files of any size.",
            )
        if len(record) != width:
            detail = f"Row {number:,} has {count(len(record), 'field')}, the header has {width:,}."
            raise refused(
                "The file has a ragged row", detail, "Mend that row: an unquoted delimiter, or a row cut short?"
            )
        yield Line(number, {name: record[place] for name, place in places.items()})


def _keys(sheet: Sheet, table: TableSchema) -> tuple[list[Scalar | None], dict[int, list[Wrong]]]:
    """The key of each row, and what is wrong with some of them, by place; no keys where the file has none."""
    name = table.key
    if name is None or name not in sheet.lines[0].texts:
        return [], {}
    column = table.columns[name]
    written = [line.texts[name] for line in sheet.lines]
    keys = [cells.value(text, column, table) for text in written]
    seen, wrong = dict[object, int](), dict[int, list[cells.Wrong]]()
    for place, (text, key) in enumerate(zip(written, keys, strict=True)):
        rules = cells.key_rules(key, column)
        first = None if rules else seen.setdefault(key, place)
        if first is not None and first != place:
            rules = [_TWICE]
            wrong.setdefault(first, [cells.Wrong(name, written[first], _TWICE)])
        if rules:
            wrong[place] = [cells.Wrong(name, text, rule) for rule in rules]
    return keys, wrong
