"""What goes over the wire in SQL Server's protocol (TDS 7.4): tokens, columns and their values."""

from __future__ import annotations

import re
import struct
import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

COLLATION = bytes.fromhex("0904d00034")


class ServerError(Exception):
    """An error as SQL Server numbers it."""

    def __init__(self, number: int, text: str, severity: int = 16) -> None:
        super().__init__(text)
        self.number, self.severity = number, severity


def short(text: str) -> bytes:
    return bytes([len(text)]) + text.encode("utf-16-le")


def long(text: str) -> bytes:
    return struct.pack("<H", len(text)) + text.encode("utf-16-le")


def error_token(error: ServerError) -> bytes:
    body = struct.pack("<iBB", error.number, 1, error.severity) + long(str(error)) + short("responder") + short("")
    body += struct.pack("<i", 1)
    return b"\xaa" + struct.pack("<H", len(body)) + body


def done_token(token: int = 0xFD, status: int = 0, count: int = 0) -> bytes:
    return bytes([token]) + struct.pack("<HHQ", status, 0xC1, count)


def returned_token(handle: int) -> bytes:
    """The handle of a prepared statement, as an output parameter."""
    return (
        b"\xac\x00\x00" + short("") + b"\x01" + struct.pack("<IH", 0, 0) + b"\x26\x04\x04" + struct.pack("<i", handle)
    )


def environment_token(kind: int, new: str, old: str = "") -> bytes:
    body = bytes([kind]) + short(new) + short(old)
    return b"\xe3" + struct.pack("<H", len(body)) + body


class Column(NamedTuple):
    """How a column looks on the wire."""

    name: str
    kind: str
    size: int = 0
    scale: int = 0

    def described(self) -> bytes:
        info = {
            "int": lambda: bytes([0x26, self.size]),
            "float": lambda: bytes([0x6D, 8]),
            "bit": lambda: bytes([0x68, 1]),
            "guid": lambda: bytes([0x24, 16]),
            "date": lambda: bytes([0x28]),
            "datetime2": lambda: bytes([0x2A, 7]),
            "decimal": lambda: bytes([0x6A, 17, self.size, self.scale]),
            "text": lambda: bytes([0xE7]) + struct.pack("<H", self.size) + COLLATION,
            "max": lambda: bytes([0xE7, 0xFF, 0xFF]) + COLLATION,
        }[self.kind]()
        return struct.pack("<IH", 0, 9) + info + short(self.name)

    def encoded(self, value: Any) -> bytes:  # one branch for each type of the protocol
        if value is None:
            return {"text": b"\xff\xff", "max": b"\xff" * 8}.get(self.kind, b"\x00")
        match self.kind:
            case "int":
                return bytes([self.size]) + int(value).to_bytes(self.size, "little", signed=True)
            case "float":
                return b"\x08" + struct.pack("<d", value)
            case "bit":
                return b"\x01" + bytes([bool(value)])
            case "guid":
                return b"\x10" + uuid.UUID(str(value)).bytes_le
            case "date":
                return b"\x03" + _days(date.fromisoformat(value))
            case "datetime2":
                moment = datetime.fromisoformat(value)
                seconds = (moment.hour * 60 + moment.minute) * 60 + moment.second
                ticks = (seconds * 1_000_000 + moment.microsecond) * 10
                return b"\x08" + ticks.to_bytes(5, "little") + _days(moment.date())
            case "decimal":
                whole = int(Decimal(str(value)).scaleb(self.scale))
                return b"\x11" + bytes([whole >= 0]) + abs(whole).to_bytes(16, "little")
            case "text":
                text = str(value).encode("utf-16-le")
                return struct.pack("<H", len(text)) + text
            case _:
                text = str(value).encode("utf-16-le")
                chunk = struct.pack("<I", len(text)) + text if text else b""
                return struct.pack("<Q", len(text)) + chunk + b"\x00" * 4


def _days(day: date) -> bytes:
    return (day.toordinal() - 1).to_bytes(3, "little")


_INTEGERS = {"tinyint": 1, "smallint": 2, "int": 4, "bigint": 8}


def column_of(name: str, declared: str | None, sample: Any) -> Column:
    """A column of the type that its table declares, or that a value has."""
    declared = (declared or "").lower()
    base, _, rest = declared.partition("(")
    numbers = [int(number) for number in re.findall(r"\d+", rest)]
    if base in _INTEGERS:
        return Column(name, "int", _INTEGERS[base])
    if base in {"bit", "date", "datetime2"}:
        return Column(name, base)
    if base == "uniqueidentifier":
        return Column(name, "guid")
    if base in {"decimal", "numeric"}:
        return Column(name, "decimal", *(numbers if len(numbers) == 2 else (18, 0)))
    if base in {"nvarchar", "varchar", "nchar", "char"}:
        return Column(name, "text", numbers[0] * 2) if numbers else Column(name, "max")
    if base in {"float", "real"} or isinstance(sample, float):
        return Column(name, "float")
    return Column(name, "int", 8) if isinstance(sample, int) else Column(name, "text", 8000)


class Reader:
    """Bytes that are read from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack("<" + form, self.take(struct.calcsize(form)))[0]

    def parameter(self) -> tuple[str, Any]:
        """Name and value of a parameter of a procedure."""
        name = self.take(2 * self.number("B")).decode("utf-16-le")
        self.take(1)
        return name, self.value(self.number("B"))

    def value(self, kind: int) -> Any:
        """A value with its type in front."""
        if kind in {0xE7, 0xEF, 0xA7}:
            size = self.number("H")
            self.take(5)
            raw = self.chunks() if size == 0xFFFF else self.counted()
            return None if raw is None else raw.decode("latin-1" if kind == 0xA7 else "utf-16-le")
        if kind in {0x26, 0x68, 0x6D}:
            self.take(1)
            raw = self.take(self.number("B"))
            if kind == 0x6D:
                return struct.unpack("<d", raw)[0] if raw else None
            return int.from_bytes(raw, "little", signed=kind == 0x26) if raw else None
        raise ServerError(8000, f"The responder does not know the type {kind:#x} of a parameter")

    def counted(self) -> bytes | None:
        size = self.number("H")
        return None if size == 0xFFFF else self.take(size)

    def chunks(self) -> bytes | None:
        if self.number("Q") == 2**64 - 1:
            return None
        parts = []
        while size := self.number("I"):
            parts.append(self.take(size))
        return b"".join(parts)


def _prelogin_answer() -> bytes:
    """Version 16, no encryption, no instance, no thread, no MARS."""
    values = [bytes([16, 0, 3, 232, 0, 0]), b"\x02", b"\x00", b"", b"\x00"]
    at = 5 * len(values) + 1
    head = b""
    for number, value in enumerate(values):
        head += struct.pack(">BHH", number, at, len(value))
        at += len(value)
    return head + b"\xff" + b"".join(values)


PRELOGIN_ANSWER = _prelogin_answer()
