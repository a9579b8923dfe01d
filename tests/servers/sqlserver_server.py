"""A server that speaks SQL Server's protocol, and a new database in it for each test that asks for one.

VEHINS_TEST_MSSQL_URL names a real SQL Server; else it is the responder of `tds_server`, which proves less.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit
from uuid import uuid4

import pytest
import tds_server
from filelock import FileLock
from server_process import HOST, answers, free_port, running

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator


@dataclass(frozen=True)
class SqlServer:
    """A server, or a database in it: ``mssql://user:password@host:port/database?encrypt=...``."""

    url: str
    process: subprocess.Popen[bytes] | None = None
    """The responder, where it is one."""

    stack: ExitStack | None = None
    """What stops it."""

    @property
    def is_real(self) -> bool:
        return self.process is None

    def restarted(self) -> SqlServer:
        """The same databases, behind a new responder."""
        assert self.process is not None
        assert self.stack is not None
        return responder(self.stack, Path(list(self.process.args)[-1]))  # type: ignore[call-overload]

    def with_database(self, name: str) -> SqlServer:
        """The same server, another database."""
        return SqlServer(urlunsplit(urlsplit(self.url)._replace(path=f"/{name}")), self.process)

    def with_login(self, user: str, password: str) -> SqlServer:
        """The same database, another login."""
        parts = urlsplit(self.url)
        netloc = f"{user}:{password}@{parts.hostname}:{parts.port}"
        return SqlServer(urlunsplit(parts._replace(netloc=netloc)), self.process)

    def of_table(self, table: str) -> str:
        """Address of a table."""
        return f"{self.url}&table={table}"

    def connect(self) -> Any:
        """A connection of the driver's own."""
        import mssql_python

        parts = urlsplit(self.url)
        options = parse_qs(parts.query)
        text = (
            f"Server={parts.hostname},{parts.port};Database={parts.path[1:]};UID={parts.username};"
            f"PWD={{{unquote(parts.password or '')}}};Encrypt={options.get('encrypt', ['yes'])[0]};"
            f"TrustServerCertificate={options.get('trust_server_certificate', ['no'])[0]}"
        )
        return mssql_python.connect(text, autocommit=True, timeout=30)

    def run(self, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        connection = self.connect()
        try:
            for statement in statements:
                connection.cursor().execute(statement)
        finally:
            connection.close()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds."""
        connection = self.connect()
        try:
            cursor = connection.cursor()
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]
        finally:
            connection.close()


def driver_or_skip() -> None:
    """Skip the test where the driver is not there or cannot start."""
    mssql_python = pytest.importorskip("mssql_python", exc_type=ImportError)
    mssql_python.pooling(enabled=False)
    try:
        mssql_python.connect(f"Server={HOST},{free_port()};Encrypt=no", timeout=1)
    except mssql_python.Error:
        pass  # nobody listens there: the driver did start
    except Exception as error:  # its native part is loaded by the first connection
        pytest.skip(f"SQL Server's driver cannot start (apt-get install libltdl7 libkrb5-3 libgssapi-krb5-2): {error}")


def responder(stack: ExitStack, folder: Path) -> SqlServer:
    """Start the responder, until the stack is closed."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    command = [sys.executable, str(Path(tds_server.__file__)), str(port), str(folder)]
    process = stack.enter_context(running(command, folder / "log", lambda: answers(port)))
    user, password = tds_server.USER, tds_server.PASSWORD
    return SqlServer(f"mssql://{user}:{password}@{HOST}:{port}/master?encrypt=no", process, stack)


@pytest.fixture(scope="session")
def sqlserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlServer]:
    """A server, its database ``master`` and a user that may do everything."""
    driver_or_skip()
    given = os.environ.get("VEHINS_TEST_MSSQL_URL")
    if given:
        yield SqlServer(given if "?" in given else given + "?encrypt=yes")
        return
    with ExitStack() as stack:
        yield responder(stack, tmp_path_factory.mktemp("tds"))


@pytest.fixture
def sqlserver_database(sqlserver: SqlServer) -> Iterator[SqlServer]:
    """A new, empty database, dropped when the test ends."""
    name = f"test_{uuid4().hex}"
    # It copies its `model` for each, one at a time, and refuses who asks meanwhile; tests may run side by side.
    with FileLock(Path(tempfile.gettempdir()) / "vehins-test-sqlserver.lock"):
        sqlserver.run(f"CREATE DATABASE {name}", f"ALTER DATABASE {name} SET ALLOW_SNAPSHOT_ISOLATION ON")
    yield sqlserver.with_database(name)
    if sqlserver.is_real:
        sqlserver.run(f"ALTER DATABASE {name} SET SINGLE_USER WITH ROLLBACK IMMEDIATE")
    sqlserver.run(f"DROP DATABASE {name}")


@pytest.fixture
def own_responder(tmp_path: Path) -> Iterator[SqlServer]:
    """A responder that the test may kill."""
    driver_or_skip()
    with ExitStack() as stack:
        yield responder(stack, tmp_path / "tds")
