"""What answers for a MongoDB server where a fault must come at a certain answer: mockupdb with a script of answers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import bson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mockupdb import MockupDB, Request

    Answer = Callable[[Request], Any]

HELLO = {"isWritablePrimary": True, "maxWireVersion": 21, "minWireVersion": 0, "maxBsonObjectSize": 16 << 20}


class Script:
    """The answers to one find after the other, batch by batch; each ends in a fault or in the last batch.

    What else is asked for meanwhile is answered as by a server that has the collection.
    """

    def __init__(self, server: MockupDB, finds: list[list[list[dict[str, Any]] | Answer]]) -> None:
        self._finds = finds
        self.filters: list[dict[str, Any]] = []
        self.closed: list[int] = []
        self._others = {
            "listCollections": {"cursor": _batch("firstBatch", [{"name": "c", "type": "collection"}])},
            "hello": HELLO,
            "ismaster": HELLO,
        }
        server.autoresponds(self._answered)

    def _answered(self, request: Request) -> bool:
        name = next(iter(request.doc))
        if name == "find":
            return self._find(request)
        if name == "getMore":
            return self._answer(request, "nextBatch")
        if name == "killCursors":
            return self._close(request)
        request.ok(self._others.get(name, {}))
        return True

    def _close(self, request: Request) -> bool:
        self.closed += request["cursors"]
        request.ok(cursorsKilled=request["cursors"])
        return True

    def _find(self, request: Request) -> bool:
        if request.doc.get("limit") == 1:  # whether there is such a field
            request.ok(cursor=_batch("firstBatch", [{"_id": 1}]))
            return True
        self.filters.append(bson.decode(bson.encode(request["filter"])))
        return self._answer(request, "firstBatch")

    def _answer(self, request: Request, name: str) -> bool:
        batches = self._finds[0]
        answer = batches.pop(0)
        if not batches:
            self._finds.pop(0)
        if callable(answer):
            answer(request)
        else:
            request.ok(cursor=_batch(name, answer, 7 if batches else 0))
        return True


def _batch(name: str, documents: list[dict[str, Any]], more: int = 0) -> dict[str, Any]:
    return {"id": bson.Int64(more), "ns": "db.c", name: documents}


@contextmanager
def scripted_mongodb(finds: list[list[list[dict[str, Any]] | Answer]]) -> Iterator[tuple[str, Script]]:
    """The address of a collection, and the script that is its server."""
    from mockupdb import MockupDB

    server = MockupDB()
    server.run()
    try:
        yield f"mongodb://127.0.0.1:{server.port}/db?collection=c", Script(server, finds)
    finally:
        server.stop()
