"""Object stores: named bytes with conditional writes, the only thing that the registry asks of a folder or of S3."""

from __future__ import annotations

import errno
import secrets
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from uuid import uuid4

from vehins.errors import (
    ConfigurationError,
    ConflictError,
    NotFoundError,
    StorageError,
    UnreachableError,
    storage_error,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRIES = 12


class Stored(NamedTuple):
    """The bytes of an object, and the tag that changes whenever they do."""

    data: bytes
    etag: str


class ObjectStore(Protocol):
    """Named bytes. Every store keeps these promises; ``tests/registry/test_store_contract.py`` holds it to them.

    An object is whole or absent, never partial, even when its writer is killed. A reader sees what was written before
    it asked. An object that is not there is a `NotFoundError`; a store that cannot tell is an `UnreachableError` of
    another kind, so that "does not answer" never looks like "has nothing". A bad key is a `ConfigurationError`.
    """

    @property
    def url(self) -> str:
        """Where the store is, without secrets."""
        ...

    def get(self, key: str) -> Stored:
        """Read an object; `NotFoundError` when there is none."""
        ...

    def get_if_changed(self, key: str, etag: str) -> Stored | None:
        """Read an object unless its etag is still ``etag``: then None, and little is sent; else as `get`."""
        ...

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write an object and return its etag.

        With ``if_absent`` only when there is none yet, with ``if_match`` only when its etag is still that one; else
        `ConflictError`. After one, read again and decide again: it may be that neither of two writers has won.
        """
        ...

    def put_file(self, key: str, path: Path, *, if_absent: bool = False) -> str:
        """Write a local file's bytes as an object, in constant memory, and return its etag; else as `put`."""
        ...

    def get_file(self, key: str, path: Path) -> None:
        """Write an object's bytes to a local file, in constant memory; `NotFoundError` when there is no such object.

        Folders above ``path`` are made. ``path`` holds the whole object or what it held before.
        """
        ...

    def keys(self, prefix: str) -> list[str]:
        """List the objects whose key starts with ``prefix``, sorted; unfinished writes are never among them."""
        ...


def check_key(key: str) -> None:
    """Refuse a key that could leave its store, or that not every store can hold.

    Names that start with a dot are the stores' own (temporaries, locks) or those of a file manager.
    """
    parts = key.split("/")
    if any(not part or part.startswith(".") for part in parts) or not key.isprintable() or "\\" in key or ":" in key:
        raise ConfigurationError(
            "A name cannot be stored in the registry",
            detail=f"The name is {key!r}.",
            hint="Rename the file: no part of its path may be empty, start with a dot or hold a colon or a backslash.",
        )


@contextmanager
def translated(headline: str, where: str) -> Iterator[None]:
    """Turn an operating-system error into a `StorageError` or, under ``headline``, into an `UnreachableError`."""
    try:
        yield
    except OSError as error:
        detail = f"{error.filename or where}: {error.strerror or error}."
        hint = "Check that it is mounted and that you may read and write it, or name another place with `--registry`."
        found = storage_error(error)
        if found is None:
            raise UnreachableError(headline, detail=detail, hint=hint) from error
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StorageError(found.headline, detail=detail, hint=found.hint if full else hint) from error


def conflict(store: ObjectStore, key: str) -> ConflictError:
    """The error for a condition that did not hold."""
    return ConflictError(
        f"Somebody else has written {key} first",
        detail=f"In {store.url}.",
        hint="Run the command again: it starts from what is there now.",
    )


def missing(store: ObjectStore, key: str) -> NotFoundError:
    """The error for an object that is not there."""
    return NotFoundError(
        f"{key} is not in the registry", detail=f"In {store.url}.", hint="`vehins models list` shows what is there."
    )


def temporary_beside(target: Path) -> Path:
    """A new name beside ``target``, so that the two are on the same disk."""
    return target.with_name(f".tmp-{uuid4().hex}")


def pause(attempt: int) -> None:
    """Wait a random moment, longer after many attempts, so that writers who met do not meet again."""
    time.sleep(secrets.randbelow(2 + attempt) / 200)


def put_once(store: ObjectStore, key: str, data: bytes) -> bytes:
    """Create an object unless it is there, and return the bytes that stand there now: ``data``, or somebody else's.

    A reply that was lost on its way is no failure: the object is read back. Raises `ConflictError` when writers keep
    disturbing each other, and what the store raises.
    """
    for attempt in range(_TRIES):
        try:
            store.put(key, data, if_absent=True)
        except UnreachableError as error:
            standing = _standing(store, key, error)
            if standing == data or (standing is not None and isinstance(error, ConflictError)):
                return standing
            if not isinstance(error, ConflictError):
                raise
        else:
            return data
        pause(attempt)
    raise conflict(store, key)


def put_file_once(store: ObjectStore, key: str, path: Path) -> None:
    """Create an object from a file unless it is there already, whatever it holds; errors as `put_once`."""
    for attempt in range(_TRIES):
        try:
            store.put_file(key, path, if_absent=True)
        except UnreachableError as error:
            if not _is_there(store, key, error):
                if not isinstance(error, ConflictError):
                    raise
                pause(attempt)
                continue
        return
    raise conflict(store, key)


def _standing(store: ObjectStore, key: str, error: UnreachableError) -> bytes | None:
    """What an object holds after a write that failed with ``error``; None when it is not there."""
    try:
        return store.get(key).data
    except NotFoundError:
        return None
    except UnreachableError:
        raise error from None


def _is_there(store: ObjectStore, key: str, error: UnreachableError) -> bool:
    """Whether an object is there after a write that failed with ``error``."""
    try:
        return key in store.keys(key)
    except UnreachableError:
        raise error from None
