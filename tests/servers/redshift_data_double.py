"""A double of Redshift's Data API: it speaks the protocol and really writes Parquet to S3, but knows no SQL.

It proves that statements are sent once, waited for, cancelled and cleaned up after, and that what UNLOAD leaves is read
as it should be. Of SQL it reads just enough to know which columns of which table are meant, so it proves nothing about
Redshift's own grammar, rights or types.
"""

from __future__ import annotations

import io
import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

_UNLOAD = re.compile(
    r"UNLOAD \('(?P<select>(?:[^']|'')*)'\) TO 's3://(?P<bucket>[^/]+)/(?P<prefix>[^']*)' "
    r"IAM_ROLE (?P<role>default|'arn:[^']+') FORMAT AS PARQUET MANIFEST VERBOSE"
)
_SELECT = re.compile(
    r"SELECT (?P<columns>.+?) FROM .*?\"?(?P<table>\w+)\"?(?:\s*\) AS vehins)?(?: LIMIT 1)?", re.DOTALL
)
_PARTS = 3


@dataclass
class Statement:
    """One statement and how it goes."""

    sql: str
    started: float = field(default_factory=time.monotonic)
    status: str = ""
    error: str = ""
    rows: int = 0


@dataclass
class RedshiftData:
    """The double; a test says how it should go wrong."""

    s3: Any
    tables: dict[str, pl.DataFrame]
    url: str = ""
    error: str = ""
    """What a statement fails with, after it has written."""
    aborts: bool = False
    seconds: float = 0.05
    """How long a statement takes."""
    refusals: list[tuple[int, str, str]] = field(default_factory=list)
    """Answers (status, type, message) to the next requests to execute."""
    loses_reply: bool = False
    """The reply to the first request to execute is lost, after the statement has begun."""
    statements: dict[str, Statement] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def execute(self, given: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(given)
        self.statements.setdefault(given["ClientToken"], Statement(given["Sql"]))
        return {"Id": given["ClientToken"]}

    def describe(self, given: dict[str, Any]) -> dict[str, Any]:
        statement = self.statements[given["Id"]]
        passed = time.monotonic() - statement.started
        if not statement.status and passed >= self.seconds:
            self._finish(statement)
        status = statement.status or ("SUBMITTED" if passed < self.seconds / 2 else "STARTED")
        return {"Id": given["Id"], "Status": status, "Error": statement.error, "ResultRows": statement.rows}

    def cancel(self, given: dict[str, Any]) -> dict[str, Any]:
        self.cancelled.append(given["Id"])
        self.statements[given["Id"]].status = "ABORTED"
        return {"Status": True}

    def columns(self, given: dict[str, Any]) -> dict[str, Any]:
        frame = self.tables.get(given["Table"])
        names = [] if frame is None else [name.lower() for name in frame.columns]
        start = int(given.get("NextToken", 0))  # two at a time: there is always more than one page
        more = {"NextToken": str(start + 2)} if start + 2 < len(names) else {}
        return {"TableName": given["Table"], "ColumnList": [{"name": n} for n in names[start : start + 2]], **more}

    def _finish(self, statement: Statement) -> None:
        try:
            statement.rows = self._answer(statement.sql)
        except LookupError as error:
            statement.status, statement.error = "FAILED", str(error.args[0])
            return
        statement.status = "ABORTED" if self.aborts else "FAILED" if self.error else "FINISHED"
        statement.error = self.error

    def _answer(self, sql: str) -> int:
        unload = _UNLOAD.fullmatch(sql)
        frame = self._selected(unload["select"].replace("''", "'") if unload else sql)
        if unload:
            self._write(frame, unload["bucket"], unload["prefix"])
        return frame.height if unload else min(frame.height, 1)

    def _selected(self, select: str) -> pl.DataFrame:
        found = _SELECT.fullmatch(select)
        if found is None:
            raise LookupError('ERROR: syntax error at or near "FORM"')
        if found["table"] not in self.tables:
            raise LookupError(f'ERROR: relation "{found["table"]}" does not exist')
        frame = self.tables[found["table"]].rename(str.lower)
        names = re.findall(r'"((?:[^"]|"")+)"', found["columns"])
        return frame.select(names) if names else frame

    def _write(self, frame: pl.DataFrame, bucket: str, prefix: str) -> None:
        size, entries = -(-frame.height // _PARTS) or 1, []
        for number, part in enumerate(frame.iter_slices(size)):
            held = io.BytesIO()
            part.write_parquet(held)
            key = f"{prefix}{number:04}_part_00.parquet"
            self.s3.put_object(Bucket=bucket, Key=key, Body=held.getvalue())
            meta = {"content_length": held.tell(), "record_count": part.height}
            entries.append({"url": f"s3://{bucket}/{key}", "meta": meta})
        self.s3.put_object(Bucket=bucket, Key=prefix + "manifest", Body=json.dumps({"entries": entries}).encode())


class _Handler(BaseHTTPRequestHandler):
    double: RedshiftData

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = self.headers["X-Amz-Target"].removeprefix("RedshiftData.")
        assert "AWS4-HMAC-SHA256" in self.headers["Authorization"]
        double = self.double
        if call == "ExecuteStatement" and double.refusals:
            status, kind, message = double.refusals.pop(0)
            self._reply(status, {"__type": kind, "message": message})
            return
        calls = {
            "ExecuteStatement": double.execute,
            "DescribeStatement": double.describe,
            "CancelStatement": double.cancel,
            "DescribeTable": double.columns,
        }
        answer = calls[call](given)
        if call == "ExecuteStatement" and double.loses_reply:
            double.loses_reply = False
            self.close_connection = True
            return
        self._reply(200, answer)

    def _reply(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(s3: Any, tables: dict[str, pl.DataFrame]) -> Iterator[RedshiftData]:
    """Answer until the end of the block."""
    double = RedshiftData(s3, tables)
    handler = type("Handler", (_Handler,), {"double": double})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        double.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield double
        finally:
            server.shutdown()
            thread.join()
