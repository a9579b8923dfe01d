"""A server that speaks SQL Server's protocol (TDS 7.4) on the loopback interface, with SQLite behind it.

It proves the plumbing between our code and the driver: logins, statements, parameters, results, errors, cancelling. It
does not prove T-SQL: what the code sends is rewritten for SQLite by a few patterns. VEHINS_TEST_MSSQL_URL names a real
server, against which the same tests run.

As a program: ``python tds_server.py PORT FOLDER``; the databases are the SQLite files in the folder.
"""

from __future__ import annotations

import re
import select
import socket
import sqlite3
import struct
import sys
import threading
import uuid
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

USER, PASSWORD = "sa", "geheim-Ms1"
_COLLATION = bytes.fromhex("0904d00034")
_PACKET = 4096
_ROWS_AT_ONCE = 500
_BATCH, _RPC, _ATTENTION, _TRANSACTION, _LOGIN, _PRELOGIN = 0x01, 0x03, 0x06, 0x0E, 0x10, 0x12
_PROCEDURES = {10: "sp_executesql", 11: "sp_prepare", 12: "sp_execute", 13: "sp_prepexec", 15: "sp_unprepare"}


class ServerError(Exception):
    """An error as SQL Server numbers it."""

    def __init__(self, number: int, text: str, severity: int = 16) -> None:
        super().__init__(text)
        self.number, self.severity = number, severity


def _short(text: str) -> bytes:
    return bytes([len(text)]) + text.encode("utf-16-le")


def _long(text: str) -> bytes:
    return struct.pack("<H", len(text)) + text.encode("utf-16-le")


def _error(error: ServerError) -> bytes:
    body = struct.pack("<iBB", error.number, 1, error.severity) + _long(str(error)) + _short("responder") + _short("")
    body += struct.pack("<i", 1)
    return b"\xaa" + struct.pack("<H", len(body)) + body


def _done(token: int = 0xFD, status: int = 0, count: int = 0) -> bytes:
    return bytes([token]) + struct.pack("<HHQ", status, 0xC1, count)


def _returned(handle: int) -> bytes:
    """The handle of a prepared statement, as an output parameter."""
    return (
        b"\xac\x00\x00" + _short("") + b"\x01" + struct.pack("<IH", 0, 0) + b"\x26\x04\x04" + struct.pack("<i", handle)
    )


def _environment(kind: int, new: str, old: str = "") -> bytes:
    body = bytes([kind]) + _short(new) + _short(old)
    return b"\xe3" + struct.pack("<H", len(body)) + body


class _Column(NamedTuple):
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
            "text": lambda: bytes([0xE7]) + struct.pack("<H", self.size) + _COLLATION,
            "max": lambda: bytes([0xE7, 0xFF, 0xFF]) + _COLLATION,
        }[self.kind]()
        return struct.pack("<IH", 0, 9) + info + _short(self.name)

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


def _column(name: str, declared: str | None, sample: Any) -> _Column:
    """A column of the type that its table declares, or that a value has."""
    declared = (declared or "").lower()
    base, _, rest = declared.partition("(")
    numbers = [int(number) for number in re.findall(r"\d+", rest)]
    if base in _INTEGERS:
        return _Column(name, "int", _INTEGERS[base])
    if base in {"bit", "date", "datetime2"}:
        return _Column(name, base)
    if base == "uniqueidentifier":
        return _Column(name, "guid")
    if base in {"decimal", "numeric"}:
        return _Column(name, "decimal", *(numbers if len(numbers) == 2 else (18, 0)))
    if base in {"nvarchar", "varchar", "nchar", "char"}:
        return _Column(name, "text", numbers[0] * 2) if numbers else _Column(name, "max")
    if base in {"float", "real"} or isinstance(sample, float):
        return _Column(name, "float")
    return _Column(name, "int", 8) if isinstance(sample, int) else _Column(name, "text", 8000)


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


_CATALOG = "(SELECT 'dbo' AS TABLE_SCHEMA, name AS TABLE_NAME FROM dbo.sqlite_master WHERE type = 'table')"
_REWRITTEN = [
    (r"\bWITH \((?:TABLOCKX|UPDLOCK|HOLDLOCK|SERIALIZABLE|[\s,])+\)", ""),
    (r"(?<![\w\[])#(\w+)", r"temp.[#\1]"),
    (r"\[#(\w+)\]", r"temp.[#\1]"),
    (r"temp\.temp\.", "temp."),
    (r" COLLATE DATABASE_DEFAULT", ""),
    (r"\bN'", "'"),
    (r"\(max\)", ""),
    (r"INFORMATION_SCHEMA\.TABLES", _CATALOG),
    (r"\bSYSUTCDATETIME\(\)", "strftime('%Y-%m-%d %H:%M:%f', 'now')"),
    (r"SELECT SUM\(rows\) FROM sys\.partitions WHERE object_id = OBJECT_ID\('(.*?)'\).*", r"SELECT count(*) FROM \1"),
    (r"SELECT snapshot_isolation_state FROM sys\.databases.*", "SELECT 1"),
    (r"COALESCE\(DB_ID\(\), 0\)", "1"),
]


def rewritten(statement: str) -> str:
    """A statement of T-SQL for SQLite."""
    for pattern, replacement in _REWRITTEN:
        statement = re.sub(pattern, replacement, statement, flags=re.I | re.S)
    top = re.match(r"\s*SELECT TOP \(?(\d+)\)?", statement, re.I)
    if top:
        statement = "SELECT" + statement[top.end() :] + f" LIMIT {top[1]}"
    statement = re.sub(r"FROM OPENJSON\((@P1)\) WITH \((.*)\)\s*$", _from_json, statement, flags=re.S)
    return re.sub(r"\[((?:[^\]]|\]\])*)\]", _in_double_quotes, statement)


def _in_double_quotes(match: re.Match[str]) -> str:
    name = match[1].replace("]]", "]").replace('"', '""')
    return f'"{name}"'


def _from_json(match: re.Match[str]) -> str:
    columns = re.findall(r"(\[(?:[^\]]|\]\])+\]) \w+(?:\([^)]*\))? '(\$\.[^']*)'", match[2])
    picked = ", ".join(f"json_extract(value, '{path}') AS {name}" for name, path in columns)
    return f"FROM (SELECT {picked} FROM json_each({match[1]}))"


def _prelogin_answer() -> bytes:
    """Version 16, no encryption, no instance, no thread, no MARS."""
    values = [bytes([16, 0, 3, 232, 0, 0]), b"\x02", b"\x00", b"", b"\x00"]
    at = 5 * len(values) + 1
    head = b""
    for number, value in enumerate(values):
        head += struct.pack(">BHH", number, at, len(value))
        at += len(value)
    return head + b"\xff" + b"".join(values)


_PRELOGIN_ANSWER = _prelogin_answer()


class Session(threading.Thread):
    """One connection."""

    def __init__(self, connection: socket.socket, server: Server) -> None:
        super().__init__(daemon=True)
        self.socket, self.server = connection, server
        self.user = ""
        self.pending = b""
        self.prepared: dict[int, str] = {}

    def run(self) -> None:
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (message := self.receive()) is not None:
                self.answer(*message)
        except OSError:
            pass
        finally:
            self.socket.close()
            if hasattr(self, "database"):
                self.database.close()

    def receive(self) -> tuple[int, bytes] | None:
        parts = []
        while True:
            header = self.exactly(8)
            if header is None:
                return None
            kind, status, size = struct.unpack(">BBH", header[:4])
            parts.append(self.exactly(size - 8) or b"")
            if status & 1:
                return kind, b"".join(parts)

    def exactly(self, count: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < count:
            piece = self.socket.recv(count - len(parts))
            if not piece:
                return None
            parts += piece
        return bytes(parts)

    def send(self, data: bytes, last: bool = True) -> None:
        """Send whole packets; what is left over waits for the next call unless it is the last."""
        data = self.pending + data
        room = _PACKET - 8
        whole = max(0, (len(data) - 1) // room)
        out = bytearray()
        for number in range(whole):
            out += self.framed(data[number * room : (number + 1) * room], last=False)
        rest = data[whole * room :]
        self.pending = b"" if last else rest
        if last:
            out += self.framed(rest, last=True)
        self.socket.sendall(bytes(out))

    @staticmethod
    def framed(data: bytes, *, last: bool) -> bytes:
        return struct.pack(">BBHHBB", 4, int(last), len(data) + 8, 51, 1, 0) + data

    def interrupted(self, seconds: float = 0) -> bool:
        """Whether the client asks within some seconds to stop."""
        if not select.select([self.socket], [], [], seconds)[0]:
            return False
        message = self.receive()
        if message is None:
            raise ConnectionResetError
        return message[0] == _ATTENTION

    def answer(self, kind: int, data: bytes) -> None:
        if kind == _PRELOGIN:
            self.send(_PRELOGIN_ANSWER)
        elif kind == _LOGIN:
            self.login(data)
        elif kind == _ATTENTION:
            self.send(_done(status=0x20))
        elif kind == _TRANSACTION:  # how the driver ends what is open when it closes
            if self.database.in_transaction:
                self.database.rollback()
            self.send(_done())
        else:
            reader = Reader(data)
            reader.take(struct.unpack("<I", data[:4])[0])
            token = 0xFE if kind == _RPC else 0xFD
            try:
                if kind == _RPC:
                    self.call(reader)
                else:
                    self.batch(reader.data[reader.at :].decode("utf-16-le"), {}, 0xFD)
            except ServerError as error:
                if self.database.in_transaction and error.severity > 10:
                    self.database.rollback()  # as XACT_ABORT has it
                self.send(_error(error) + _done(token, 2))

    def login(self, data: bytes) -> None:
        def text(at: int) -> str:
            start, length = struct.unpack("<HH", data[at : at + 4])
            return data[start : start + 2 * length].decode("utf-16-le", "replace")

        start, length = struct.unpack("<HH", data[44:48])
        hidden = bytes(byte ^ 0xA5 for byte in data[start : start + 2 * length])
        password = bytes(byte >> 4 | (byte & 15) << 4 for byte in hidden).decode("utf-16-le", "replace")
        user, name = text(40), text(68) or "master"
        if self.server.logins.get(user) != password:
            self.send(_error(ServerError(18456, f"Login failed for user '{user}'.", 14)) + _done(status=2))
            return
        path = self.server.folder / f"{name}.sqlite"
        if not path.exists():
            text_ = f'Cannot open database "{name}" requested by the login. The login failed.'
            self.send(_error(ServerError(4060, text_, 11)) + _done(status=2))
            return
        self.user, self.name = user, name
        self.database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.database.execute("ATTACH ? AS dbo", (str(path),))
        program = b"\x01\x74\x00\x00\x04" + _short("Microsoft SQL Server") + bytes([16, 0, 3, 232])
        collation = b"\x07\x05" + _COLLATION + b"\x00"
        self.send(
            _environment(1, name, "master")
            + (b"\xe3" + struct.pack("<H", len(collation)) + collation)
            + (b"\xad" + struct.pack("<H", len(program)) + program)
            + _environment(4, str(_PACKET), str(_PACKET))
            + _done()
        )

    def call(self, reader: Reader) -> None:
        """A procedure: those by which drivers run statements with parameters."""
        size = reader.number("H")
        name = (
            _PROCEDURES.get(reader.number("H"), "")
            if size == 0xFFFF
            else reader.take(2 * size).decode("utf-16-le").lower()
        )
        reader.take(2)
        found = []
        while reader.at < len(reader.data):
            found.append(reader.parameter())
        values = [value for _, value in found]
        handle = 0
        if name == "sp_executesql":
            statement, arguments = values[0], values[2:]
        elif name == "sp_prepexec":
            handle, statement, arguments = len(self.prepared) + 1, values[2], values[3:]
            self.prepared[handle] = statement
        elif name == "sp_prepare":
            handle = len(self.prepared) + 1
            self.prepared[handle] = values[2]
            self.send(b"\x79\x00\x00\x00\x00" + _returned(handle) + _done(0xFE))
            return
        elif name == "sp_execute":
            statement, arguments = self.prepared[values[0]], values[1:]
        elif name == "sp_unprepare":
            self.send(_done(0xFE))
            return
        else:
            raise ServerError(2812, f"Could not find stored procedure '{name}'.")
        given = {f"P{number}": value for number, value in enumerate(arguments, 1)}
        self.batch(statement, given, 0xFE, _returned(handle) if handle else b"")

    def batch(self, text: str, given: dict[str, Any], token: int, after: bytes = b"") -> None:
        """Run one statement and send what it finds."""
        statement = text.strip().rstrip(";")
        end = (b"\x79\x00\x00\x00\x00" if token == 0xFE else b"") + after
        if self.special(statement):
            self.send(end + _done(token))
            return
        waiting = re.match(r"WAITFOR DELAY '(\d+):(\d+):([\d.]+)'", statement, re.I)
        if waiting:
            stopped = self.interrupted(int(waiting[1]) * 3600 + int(waiting[2]) * 60 + float(waiting[3]))
            self.send(_done(status=0x20) if stopped else end + _done(token))
            return
        self.check_rights(statement)
        try:
            cursor = self.database.execute(rewritten(statement), given)
            if cursor.description is None:
                self.send(end + _done(token, 0x10, max(cursor.rowcount, 0)))
            elif self.results(cursor, statement):
                self.send(end + _done(token, 0x10 if token == 0xFD else 0))
        except sqlite3.Error as error:
            raise _of_sqlite(error, statement) from None

    def special(self, statement: str) -> bool:
        """Statements that SQLite has no word for."""
        if re.match(r"SET |USE ", statement, re.I) and not re.match(r"SET \[", statement):
            return True
        if made := re.match(r"CREATE DATABASE \[?(\w+)", statement, re.I):
            sqlite3.connect(self.server.folder / f"{made[1]}.sqlite").execute(
                "PRAGMA user_version = 1"
            ).connection.close()
            return True
        if gone := re.match(r"DROP DATABASE \[?(\w+)", statement, re.I):
            (self.server.folder / f"{gone[1]}.sqlite").unlink(missing_ok=True)
            return True
        if login := re.match(r"CREATE LOGIN \[?(\w+)\]? WITH PASSWORD = '(.*?)'", statement, re.I):
            self.server.logins[login[1]] = login[2]
            return True
        if grant := re.match(r"GRANT (\w+) ON (\S+) TO \[?(\w+)", statement, re.I):
            self.server.rights.add((grant[3], grant[1].upper(), _bare(grant[2])))
            return True
        if re.match(r"IF @@TRANCOUNT > 0 ROLLBACK", statement, re.I):
            if self.database.in_transaction:
                self.database.rollback()
            return True
        return bool(re.match(r"(CREATE USER|DROP LOGIN|ALTER DATABASE) ", statement, re.I))

    def check_rights(self, statement: str) -> None:
        if self.user == USER:
            return
        tables = {name for (name,) in self.database.execute("SELECT lower(name) FROM dbo.sqlite_master")}
        used = {_bare(name) for name in re.findall(r"(?:FROM|INTO|UPDATE)\s+([\[\]\w.#]+)", statement, re.I)} & tables
        right = statement.split(maxsplit=1)[0].upper()
        if right == "CREATE" and "#" not in statement:
            raise ServerError(262, f"CREATE TABLE permission denied in database '{self.name}'.", 14)
        for table in used:
            if (self.user, right, table) not in self.server.rights:
                text = (
                    f"The {right} permission was denied on the object '{table}', database '{self.name}', schema 'dbo'."
                )
                raise ServerError(229, text, 14)

    def results(self, cursor: sqlite3.Cursor, statement: str) -> bool:
        """Send the rows of a result; whether the client wanted them to the end."""
        rows = cursor.fetchmany(_ROWS_AT_ONCE)
        declared = self.declared(statement)
        sample = rows[0] if rows else [None] * len(cursor.description)
        columns = [
            _column(entry[0], declared.get(entry[0].lower()), value)
            for entry, value in zip(cursor.description, sample, strict=True)
        ]
        head = b"\x81" + struct.pack("<H", len(columns)) + b"".join(column.described() for column in columns)
        self.send(head, last=False)
        while rows:
            out = bytearray()
            for row in rows:
                out += b"\xd1"
                for column, value in zip(columns, row, strict=True):
                    out += column.encoded(value)
            self.send(bytes(out), last=False)
            if self.interrupted():
                self.send(_done(status=0x20))
                return False
            rows = cursor.fetchmany(_ROWS_AT_ONCE)
        return True

    def declared(self, statement: str) -> dict[str, str]:
        """Types of the columns of the tables that a statement names."""
        found: dict[str, str] = {}
        for (table,) in self.database.execute("SELECT name FROM dbo.sqlite_master WHERE type = 'table'").fetchall():
            if re.search(rf"\b{re.escape(table)}\b", statement, re.I):
                quoted = table.replace("]", "]]")
                columns = self.database.execute(f"PRAGMA dbo.table_info([{quoted}])")
                found |= {column[1].lower(): column[2] for column in columns}
        return found


def _bare(name: str) -> str:
    return name.rpartition(".")[2].strip("[]").lower()


def _of_sqlite(error: sqlite3.Error, statement: str) -> ServerError:
    text = str(error)
    if absent := re.match(r"no such table: (?:dbo\.)?(.*)", text):
        return ServerError(208, f"Invalid object name '{absent[1]}'.")
    if absent := re.match(r"no such column: (.*)", text):
        return ServerError(207, f"Invalid column name '{absent[1]}'.")
    if "UNIQUE" in text:
        return ServerError(2627, f"Violation of PRIMARY KEY constraint. ({text})", 14)
    if "CHECK" in text:
        return ServerError(547, f"The statement conflicted with the CHECK constraint. ({text})")
    return ServerError(102, f"Incorrect syntax: {text} in {statement[:200]}", 15)


class Server:
    """The listening socket, and what all connections share."""

    def __init__(self, port: int, folder: Path) -> None:
        self.folder = folder
        self.logins = {USER: PASSWORD}
        self.rights: set[tuple[str, str, str]] = set()
        sqlite3.connect(folder / "master.sqlite").execute("PRAGMA user_version = 1").connection.close()
        self.listener = socket.create_server(("127.0.0.1", port))

    def serve(self) -> None:
        while True:
            Session(self.listener.accept()[0], self).start()


if __name__ == "__main__":
    Server(int(sys.argv[1]), Path(sys.argv[2])).serve()
