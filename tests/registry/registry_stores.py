"""Stores wherever the tests put them, and stores that misbehave on purpose. Nothing here imports pytest."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from s3_client import S3Server

from vehins.errors import UnreachableError
from vehins.registry.s3 import S3Store
from vehins.registry.stores import open_store
from vehins.settings import RemoteSettings, S3Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3_client import Bucket

    from vehins.registry.objects import ObjectStore, Stored

REMOTE = RemoteSettings(connect_timeout=5, read_timeout=30, attempts=4)


def opened(place: str, remote: RemoteSettings = REMOTE, **s3: Any) -> ObjectStore:
    """Open a store at the address of a folder, or at what `place_in` gives."""
    url, _, server = place.partition("|")
    if not server:
        return open_store(url, S3Settings(), remote)
    found = S3Server.of(server)
    os.environ.update(found.variables)  # for processes of their own; in that of the tests they are mostly set already
    store = open_store(url, S3Settings(endpoint_url=found.endpoint, **{"path_style": True, **s3}), remote)
    assert isinstance(store, S3Store)
    assert store.client  # made now, while the login is this one
    return store


def is_s3(place: str) -> bool:
    """Whether a round of processes takes long there: each has a client to make, and nothing is as quick as a disk."""
    return "|" in place


def place_in(bucket: Bucket, prefix: str = "team/registry", server: S3Server | None = None) -> str:
    """A registry in a bucket as one text, for any process; ``server`` is what to reach the bucket by."""
    server = server or bucket.server
    parts = urlsplit(server.endpoint)
    return f"{bucket.url}/{prefix}|{parts.scheme}://{quote(server.user)}:{quote(server.password)}@{parts.netloc}"


class Watched:
    """A store that counts its writes, and calls ``before`` and ``after`` each of them with its key."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.written: list[str] = []
        self.before: Callable[[str], None] = lambda key: None
        self.after: Callable[[str], None] = lambda key: None
        self.listed: Callable[[list[str]], list[str]] = lambda keys: keys

    @property
    def url(self) -> str:
        return self.store.url

    def get(self, key: str) -> Stored:
        return self.store.get(key)

    def get_if_changed(self, key: str, etag: str) -> Stored | None:
        return self.store.get_if_changed(key, etag)

    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        self.before(key)
        etag = self.store.put(key, data, **conditions)
        self.written.append(key)
        self.after(key)
        return etag

    def put_file(self, key: str, path: Path, **conditions: Any) -> str:
        self.before(key)
        etag = self.store.put_file(key, path, **conditions)
        self.written.append(key)
        self.after(key)
        return etag

    def get_file(self, key: str, path: Path) -> None:
        self.store.get_file(key, path)

    def keys(self, prefix: str) -> list[str]:
        return self.listed(self.store.keys(prefix))


def fail_once(part: str, error: Exception | None = None) -> Callable[[str], None]:
    """A hook that raises at the first write whose key holds ``part``."""
    left = [error or UnreachableError("The reply was lost")]

    def hook(key: str) -> None:
        if part in key and left:
            raise left.pop()

    return hook
