"""A client that asks all the time, over one connection that it keeps and over new ones, and counts what fails.

usage: steady_client.py PORT BODY HEAD    until its stdin ends; HEAD is one more header. On stdout, the word "asking"
                                          after the first request, and one JSON object in the end.

Standard library alone. Of a connection that the server announced to close, a new one is made; else every request that
is not answered 200 counts as failed, and none is repeated.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any

PAUSE = 0.004  # seconds between two requests of one of the four
PATIENCE = 20


class Client:
    """Counts requests and failures."""

    def __init__(self, port: int, body: bytes, more: str) -> None:
        self.port = port
        head = (
            f"POST /v1/predict HTTP/1.1\r\nHost: box\r\nContent-Length: {len(body)}\r\nContent-Type: application/json"
        )
        head += f"\r\n{more}" if more else ""
        self.request = head.encode() + b"\r\n\r\n" + body
        self.requests, self.failures, self.longest = 0, Counter[str](), 0.0
        self.versions: Counter[str] = Counter()
        self.began, self.done = asyncio.Event(), asyncio.Event()

    async def ask(self, *, keep: bool) -> None:
        streams: Any = None
        while not self.done.is_set():
            self.requests += 1
            began = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    streams = streams or await asyncio.open_connection("127.0.0.1", self.port)
                    stays = await self._exchange(*streams)
            except (OSError, ValueError, EOFError, TimeoutError) as error:
                self.failures[f"{type(error).__name__}: {error}"] += 1
                stays = False
            self.began.set()
            self.longest = max(self.longest, time.monotonic() - began)
            if streams and not (keep and stays):
                streams[1].close()
                with suppress(OSError):
                    await streams[1].wait_closed()
                streams = None
            await asyncio.sleep(PAUSE)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = head.split()[1]
        length = int(head.partition("content-length:")[2].split("\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        if status == "200":
            self.versions[str(answer["model"]["version"])] += 1
        else:
            self.failures[f"status {status}"] += 1
        return "connection: close" not in head


async def main(port: int, body: bytes, more: str) -> None:
    """Ask until stdin ends."""
    client = Client(port, body, more)
    tasks = [asyncio.create_task(client.ask(keep=number < 2)) for number in range(4)]
    await client.began.wait()
    print("asking", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    client.done.set()
    await asyncio.gather(*tasks)
    found = {
        "requests": client.requests,
        "failed": sum(client.failures.values()),
        "failures": client.failures,
        "versions": client.versions,
        "longest_ms": round(client.longest * 1000),
    }
    sys.stdout.write(json.dumps(found))


asyncio.run(main(int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3]))
