"""A server of the tests' own that speaks MongoDB's protocol, and a new collection for each test that asks for one.

VEHINS_TEST_MONGODB_URL names a server that runs already; its user must be allowed to create and drop databases.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from server_process import HOST, free_port, program, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import Popen


@dataclass(frozen=True)
class Mongo:
    """A server: ``mongodb://127.0.0.1:PORT``."""

    url: str
    process: Popen[bytes] | None = None
    """The server, where the tests started it."""

    def kill(self) -> None:
        """Stop it as a crash would, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A client of the server, closed at the end of the block."""
        import pymongo

        found: Any = pymongo.MongoClient(self.url, serverSelectionTimeoutMS=30_000)
        with found as client:
            yield client


def _answers(url: str) -> bool:
    """Whether a server answers, be it that it wants a login or TLS first."""
    import pymongo
    from pymongo.errors import ConnectionFailure, PyMongoError

    client: Any = pymongo.MongoClient(url, serverSelectionTimeoutMS=200, connectTimeoutMS=200, socketTimeoutMS=2_000)
    with client:
        try:
            client.admin.command("ping")
        except ConnectionFailure:
            return False
        except PyMongoError:
            return True
    return True


@contextmanager
def running_mongodb(*options: str, url_options: str = "", port: int | None = None) -> Iterator[Mongo]:
    """A server until the end of the block; ``options`` are more of its command line.

    ``port`` is that of another one that has gone, whose storage this one has.
    ``url_options`` stand behind the address with which to see whether it is ready (``/?tls=true&...``).
    """
    port = port or free_port()
    url = f"mongodb://{HOST}:{port}"
    storage = ("--storage-path", ":memory:", "--standalone")
    command = [program("secantusd-py"), "--host", HOST, "--port", str(port), *storage, *options]
    with tempfile.TemporaryDirectory(prefix="vehins-mongodb-") as folder:
        log = Path(folder) / "log"
        with running(command, log, lambda: _answers(url + url_options)) as process:
            yield Mongo(url, process)


@pytest.fixture(scope="session")
def mongodb() -> Iterator[Mongo]:
    """A server without logins."""
    given = os.environ.get("VEHINS_TEST_MONGODB_URL")
    if given:
        yield Mongo(given)
        return
    with running_mongodb() as server:
        yield server


@pytest.fixture
def own_mongodb() -> Iterator[Mongo]:
    """A server that the test may kill."""
    with running_mongodb() as server:
        yield server


@pytest.fixture
def collection(mongodb: Mongo) -> Iterator[Any]:
    """A new, empty pymongo Collection in a database of its own, dropped when the test ends."""
    name = f"test_{uuid4().hex}"
    with mongodb.client() as client:
        yield client[name]["customers"]
        client.drop_database(name)
