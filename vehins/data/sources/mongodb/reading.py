"""The documents of a query in raw batches; a read that breaks off goes on behind the last document that came."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vehins.data.sources.mongodb import decoding, documents, query
from vehins.remote.mongodb import passes
from vehins.remote.retry import retried

if TYPE_CHECKING:
    from vehins.settings import RemoteSettings

FETCHED = 10_000


class Reading:
    """One pass over the documents that a filter finds, sorted by ``_id``.

    Going on needs ids that are unique, as they are in a collection, but not in a view: ``resumes`` says so. Documents
    that others put in front of the last one meanwhile are not seen, as no cursor would have promised either.
    """

    def __init__(
        self,
        collection: Any,
        chosen: dict[str, Any],
        fields: list[str],
        remote: RemoteSettings,
        *,
        resumes: bool,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._collection, self._filter, self._remote = collection, chosen, remote
        self._projection = {"_id": 1} | dict.fromkeys(fields, 1)
        self._resumes, self._say = resumes, say
        self._cursor: Any = None
        self._last = b""

    def batches(self) -> Iterator[bytes]:
        """Yield documents of BSON, one behind the other, some thousand at a time.

        Each batch may be tried `remote.attempts` times: a read that gets on is not given up, one that does not is.
        """
        try:
            while (raw := retried(self._next, self._remote, self._can_go_on)) is not None:
                if raw:
                    yield raw
        finally:
            self._close()

    def _next(self) -> bytes | None:
        """The next batch, or None behind the last; it may be called again after a fault."""
        if self._cursor is None:
            self._cursor = self._open()
        try:
            raw: bytes | None = next(self._cursor, None)
        except BaseException:
            self._close()
            raise
        self._last = raw or self._last
        return raw

    def _open(self) -> Any:
        chosen = self._filter
        last = _last_id(self._last) if self._last else None
        if last is not None:
            chosen = query.both(chosen, query.behind(last[0]))
        order = [("_id", 1)]
        return self._collection.find_raw_batches(chosen, self._projection, sort=order, batch_size=FETCHED)

    def _close(self) -> None:
        if self._cursor is not None:
            with suppress(Exception):  # it may be the server that is gone
                self._cursor.close()
            self._cursor = None

    def _can_go_on(self, error: Exception) -> bool:
        if not passes(error) or (self._last and (not self._resumes or _last_id(self._last) is None)):
            return False
        self._say("the connection broke off; going on from the last document")
        return True


def _last_id(raw: bytes) -> tuple[Any] | None:
    """The ``_id`` of the last document of a batch, which may be null; None where it is not known to the last bit."""
    import bson

    last = raw[decoding.starts(raw)[-1] :]
    value = bson.decode(last, documents.codec()).get("_id")
    with suppress(Exception):
        if bson.encode({"_id": value})[4:-1] in last:
            return (value,)
    return None
