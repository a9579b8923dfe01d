"""A PostgreSQL server of the tests' own, and a new database in it for each test that asks for one.

VEHINS_TEST_POSTGRES_URL names a server that runs already; its user must be allowed to create databases and roles.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from server_process import HOST, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, PASSWORD = "vehins", "geheim-pg"
_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
# A cluster that is thrown away need not survive a power cut.
_CONFIG = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
full_page_writes = off
synchronous_commit = off
max_connections = 50
shared_buffers = 32MB
"""


@dataclass(frozen=True)
class Postgres:
    """A server, or a database in it: ``postgresql://user:password@127.0.0.1:PORT/database``."""

    url: str
    data: Path | None = None
    """Folder of the cluster, where the tests started it."""

    def with_database(self, name: str) -> Postgres:
        """The same server, another database."""
        return Postgres(urlunsplit(urlsplit(self.url)._replace(path=f"/{name}")), self.data)

    def with_login(self, user: str, password: str) -> str:
        """The address with another login."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}"))

    def run(self, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        import adbc_driver_postgresql.dbapi as driver

        with driver.connect(self.url, autocommit=True) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds."""
        import adbc_driver_postgresql.dbapi as driver

        with driver.connect(self.url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def value(self, query: str) -> Any:
        """The one value that a query finds."""
        return self.rows(query)[0][0]


def _binaries() -> Path:
    """The folder of initdb and pg_ctl; Debian keeps it off the PATH. The test is skipped when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("pg_ctl")
    if not found and on_path is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql, or set VEHINS_TEST_POSTGRES_URL)")
    return found[-1].parent if found else Path(on_path or "").resolve().parent


def _call(*command: str | Path) -> None:
    """Run a program of PostgreSQL, which refuses to run as root."""
    more: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if _ROOT else {}
    done = subprocess.run(
        list(map(str, command)),
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        timeout=60,
        **more,
    )
    if done.returncode:
        pytest.fail(f"{command[0]} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")


def start(folder: Path, *config: str) -> Postgres:
    """Make a cluster in a folder and start it; ``config`` are more lines of its configuration."""
    binaries, data, port = _binaries(), folder / "data", free_port()
    if _ROOT:
        shutil.chown(folder, "postgres", "postgres")
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    initdb = ("-U", USER, "--pwfile", folder / "password", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C")
    _call(binaries / "initdb", "--no-sync", "-D", data, *initdb)
    with (data / "postgresql.conf").open("a") as file:
        file.write("\n".join([_CONFIG, f"port = {port}", *config, ""]))
    _call(binaries / "pg_ctl", "start", "-w", "-t", "60", "-D", data, "-l", folder / "log")
    return Postgres(f"postgresql://{USER}:{PASSWORD}@{HOST}:{port}/postgres", data)


def stop(server: Postgres, mode: str = "immediate") -> None:
    """Stop a cluster that ``start`` made, and wait until it is gone; ``immediate`` is as sudden as a crash."""
    _call(_binaries() / "pg_ctl", "stop", "-w", "-m", mode, "-D", server.data or "")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, its database ``postgres`` and a user that may do everything."""
    pytest.importorskip("adbc_driver_postgresql")
    given = os.environ.get("VEHINS_TEST_POSTGRES_URL")
    if given:
        yield Postgres(given)
        return
    # Not pytest's own folder, which nobody but its user may enter.
    with tempfile.TemporaryDirectory(prefix="vehins-postgres-", ignore_cleanup_errors=True) as folder:
        server = start(Path(folder))
        try:
            yield server
        finally:
            stop(server)


@contextmanager
def new_database(server: Postgres) -> Iterator[Postgres]:
    """A new, empty database, dropped at the end of the block."""
    name = f"test_{uuid4().hex}"
    server.run(f"CREATE DATABASE {name}")
    yield server.with_database(name)
    server.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_database(postgres: Postgres) -> Iterator[Postgres]:
    """A new, empty database, dropped when the test ends."""
    with new_database(postgres) as database:
        yield database


class OwnCluster(Postgres):
    """A cluster for one test, which may kill it."""

    def kill(self) -> None:
        """Stop it as a crash would."""
        stop(self)


@contextmanager
def running_cluster(certificate: Path | None = None) -> Iterator[OwnCluster]:
    """A cluster until the end of the block; over TLS with ``server.crt`` and ``server.key`` of a folder, if given."""
    pytest.importorskip("adbc_driver_postgresql")
    with tempfile.TemporaryDirectory(prefix="vehins-postgres-", ignore_cleanup_errors=True) as name:
        folder, config = Path(name), list[str]()
        if certificate is not None:
            for file in ("server.crt", "server.key"):
                shutil.copy(certificate / file, folder / file)
                (folder / file).chmod(0o600)
                if _ROOT:
                    shutil.chown(folder / file, "postgres", "postgres")
            config = [
                "ssl = on",
                f"ssl_cert_file = '{folder / 'server.crt'}'",
                f"ssl_key_file = '{folder / 'server.key'}'",
            ]
        server = start(folder, *config)
        try:
            yield OwnCluster(server.url, server.data)
        finally:
            if server.data and (server.data / "postmaster.pid").exists():
                stop(server)


@pytest.fixture
def own_cluster() -> Iterator[OwnCluster]:
    """A cluster that the test may kill."""
    with running_cluster() as server:
        yield server


@pytest.fixture
def free_tcp_port() -> int:
    """A port of the loopback interface that nobody listens at."""
    return free_port()
