"""Stores that misbehave on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vehins.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vehins.registry.objects import ObjectStore, Stored


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
