"""A real service under requests that nobody honest sends: it refuses them, does not grow, and answers the others."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import hostile
import pytest
from service_process import Service, serving
from serving_models import GOOD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

IS_LONG = os.environ.get("VEHINS_TEST_SLOW") == "1"
COUNT = 20_000 if IS_LONG else 1_500
WARM_UP = 2_000 if IS_LONG else 1_000
PARTS = 4
PATIENCE_SECONDS = 5
"""Of the service: less, and a busy machine would be late with an answer, which is no 4xx."""
GROWTH = 16 * 2**20
"""What the allocator may keep; a leak of a single kilobyte for each request would be more in the long form."""


@pytest.fixture(scope="module")
def service(served: Settings) -> Iterator[Service]:
    patience = f"serve.request_timeout={PATIENCE_SECONDS}"
    with serving(served, "--set", patience, "--set", "serve.access_log=false") as found:
        yield found


def check_honest(service: Service, predictor: Predictor) -> None:
    assert service.predict(GOOD).json()["predictions"][0]["probability"] == predictor.predict([GOOD])[0].probability


@pytest.mark.timeout(1_800 if IS_LONG else 600)
def test_hostile_requests(service: Service, predictor: Predictor) -> None:
    asyncio.run(hostile.send_all(service.port, hostile.requests(WARM_UP, seed=1)))
    check_honest(service, predictor)
    before, started = service.rss, time.monotonic()
    found: dict[str, Counter[int | None]] = {}
    for part in range(PARTS):
        requests = hostile.requests(COUNT // PARTS, seed=2 + part)
        for kind, counter in asyncio.run(hostile.send_all(service.port, requests)).items():
            found.setdefault(kind, Counter()).update(counter)
        check_honest(service, predictor)
    seconds, growth = time.monotonic() - started, service.rss - before
    total = sum(found.values(), Counter())
    print(f"\n{COUNT / seconds:.0f} requests/s, {before / 2**20:.1f} MiB {growth / 2**20:+.1f} MiB", dict(total))
    for kind, counter in found.items():
        print(kind, dict(counter))
    assert found.keys() == {kind.__name__ for kind in hostile.KINDS}
    assert all(status is None or 200 <= status < 500 for status in total), found
    assert growth < GROWTH
    assert "Traceback" not in service.err


def test_slow_senders_are_sent_away(service: Service, predictor: Predictor) -> None:
    cases = {
        "head": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1_000,
        "blank lines": b"\r\n" * 1_000,
    }

    async def ask() -> list[list[int]]:
        slow = [hostile.trickle(service.port, text, 0.05) for text in cases.values() for _ in range(10)]
        return await asyncio.gather(*slow, *(_slow_body(service.port) for _ in range(10)))

    answers = asyncio.run(ask())
    assert answers == [[408]] * 10 + [[]] * 10 + [[408]] * 10
    check_honest(service, predictor)


async def _slow_body(port: int) -> list[int]:
    """The head at once, then a byte of the body now and then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(hostile.post(b"", length=1_000))
    return await _drip(reader, writer)


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[int]:
    async def drip() -> None:
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    try:
        async with asyncio.timeout(hostile.ANSWER_SECONDS):
            return hostile.statuses(await reader.read())
    finally:
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.transport.abort()


def test_a_connection_that_says_nothing_is_closed(service: Service) -> None:
    async def wait() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        try:
            async with asyncio.timeout(hostile.ANSWER_SECONDS):
                return await reader.read()
        finally:
            writer.transport.abort()

    assert asyncio.run(wait()) == b""


def test_all_kinds_are_made() -> None:
    rng = random.Random(0)
    assert all(isinstance(kind(rng), bytes) for kind in hostile.KINDS for _ in range(20))
