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
from pathlib import Path
from typing import Any

from tds_sql import of_sqlite, rewritten
from tds_tokens import (
    COLLATION,
    PRELOGIN_ANSWER,
    Reader,
    ServerError,
    column_of,
    done_token,
    environment_token,
    error_token,
    returned_token,
    short,
)

USER, PASSWORD = "sa", "geheim-Ms1"
_PACKET = 4096
_ROWS_AT_ONCE = 500
_BATCH, _RPC, _ATTENTION, _TRANSACTION, _LOGIN, _PRELOGIN = 0x01, 0x03, 0x06, 0x0E, 0x10, 0x12
_PROCEDURES = {10: "sp_executesql", 11: "sp_prepare", 12: "sp_execute", 13: "sp_prepexec", 15: "sp_unprepare"}


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
            self.send(PRELOGIN_ANSWER)
        elif kind == _LOGIN:
            self.login(data)
        elif kind == _ATTENTION:
            self.send(done_token(status=0x20))
        elif kind == _TRANSACTION:  # how the driver ends what is open when it closes
            if self.database.in_transaction:
                self.database.rollback()
            self.send(done_token())
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
                self.send(error_token(error) + done_token(token, 2))

    def login(self, data: bytes) -> None:
        def text(at: int) -> str:
            start, length = struct.unpack("<HH", data[at : at + 4])
            return data[start : start + 2 * length].decode("utf-16-le", "replace")

        start, length = struct.unpack("<HH", data[44:48])
        hidden = bytes(byte ^ 0xA5 for byte in data[start : start + 2 * length])
        password = bytes(byte >> 4 | (byte & 15) << 4 for byte in hidden).decode("utf-16-le", "replace")
        user, name = text(40), text(68) or "master"
        if self.server.logins.get(user) != password:
            self.send(error_token(ServerError(18456, f"Login failed for user '{user}'.", 14)) + done_token(status=2))
            return
        path = self.server.folder / f"{name}.sqlite"
        if not path.exists():
            text_ = f'Cannot open database "{name}" requested by the login. The login failed.'
            self.send(error_token(ServerError(4060, text_, 11)) + done_token(status=2))
            return
        self.user, self.name = user, name
        self.database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.database.execute("ATTACH ? AS dbo", (str(path),))
        program = b"\x01\x74\x00\x00\x04" + short("Microsoft SQL Server") + bytes([16, 0, 3, 232])
        collation = b"\x07\x05" + COLLATION + b"\x00"
        self.send(
            environment_token(1, name, "master")
            + (b"\xe3" + struct.pack("<H", len(collation)) + collation)
            + (b"\xad" + struct.pack("<H", len(program)) + program)
            + environment_token(4, str(_PACKET), str(_PACKET))
            + done_token()
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
            self.send(b"\x79\x00\x00\x00\x00" + returned_token(handle) + done_token(0xFE))
            return
        elif name == "sp_execute":
            statement, arguments = self.prepared[values[0]], values[1:]
        elif name == "sp_unprepare":
            self.send(done_token(0xFE))
            return
        else:
            raise ServerError(2812, f"Could not find stored procedure '{name}'.")
        given = {f"P{number}": value for number, value in enumerate(arguments, 1)}
        self.batch(statement, given, 0xFE, returned_token(handle) if handle else b"")

    def batch(self, text: str, given: dict[str, Any], token: int, after: bytes = b"") -> None:
        """Run one statement and send what it finds."""
        statement = text.strip().rstrip(";")
        end = (b"\x79\x00\x00\x00\x00" if token == 0xFE else b"") + after
        if self.special(statement):
            self.send(end + done_token(token))
            return
        waiting = re.match(r"WAITFOR DELAY '(\d+):(\d+):([\d.]+)'", statement, re.I)
        if waiting:
            stopped = self.interrupted(int(waiting[1]) * 3600 + int(waiting[2]) * 60 + float(waiting[3]))
            self.send(done_token(status=0x20) if stopped else end + done_token(token))
            return
        self.check_rights(statement)
        try:
            cursor = self.database.execute(rewritten(statement), given)
            if cursor.description is None:
                self.send(end + done_token(token, 0x10, max(cursor.rowcount, 0)))
            elif self.results(cursor, statement):
                self.send(end + done_token(token, 0x10 if token == 0xFD else 0))
        except sqlite3.Error as error:
            raise of_sqlite(error, statement) from None

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
            column_of(entry[0], declared.get(entry[0].lower()), value)
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
                self.send(done_token(status=0x20))
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
