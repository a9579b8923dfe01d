"""Clients at full speed, in processes of their own, that check every answer against what was predicted offline.

A raw protocol on asyncio, as every microsecond that a client takes is one in which the service has nothing to do. Run
by `test_swap_under_load` with a plan on stdin (pickled), and on stdout a line when it has begun and a report (JSON).
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Body:
    """A request, and what each version answers to it."""

    kind: str
    rows: list[dict[str, Any]]
    answers: dict[int, list[dict[str, Any]]]
    """By version; of a version whose table has other columns, nothing."""
    refused: str
    """How the rule begins that a version with other columns names in its refusal."""


@dataclass(frozen=True)
class Plan:
    """What a driver does."""

    host: str
    port: int
    connections: int
    requests: int
    """At least so many; more until the file ``stop`` is there."""
    stop: str
    bodies: list[Body]
    ordered: list[int]
    """The versions in the order in which they may answer on one connection."""
    pause: float
    """Seconds between an answer and the next request of a connection; 0 is full load."""


@dataclass
class Report:
    """What came of it."""

    requests: int = 0
    versions: dict[int, int] = field(default_factory=dict)
    refusals: list[tuple[str, float, float]] = field(default_factory=list)
    """Kind of the body, when it was sent, and when the refusal came."""
    faults: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Driver:
    """All connections of a process."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.report = plan, Report()
        self.requests = [_request(plan.host, body) for body in plan.bodies]
        self.next = 0
        self.is_over = False

    def take(self) -> int | None:
        """Which body to send next; None at the end."""
        if self.is_over:
            return None
        self.next += 1
        return self.next % len(self.requests)

    async def run(self) -> Report:
        """Ask until the end; says so on a line of stdout when all connections are at it."""
        loop = asyncio.get_running_loop()
        clients = [Client(self, loop.create_future()) for _ in range(self.plan.connections)]
        for client in clients:
            await loop.create_connection(lambda client=client: client, self.plan.host, self.plan.port)
        stop = Path(self.plan.stop)
        while self.report.requests < 2 * len(clients) and not all(client.done.done() for client in clients):
            await asyncio.sleep(0.01)
        print("begun", flush=True)
        while not self.is_over:
            await asyncio.sleep(0.05)
            enough = self.report.requests >= self.plan.requests and stop.exists()
            self.is_over = enough or all(client.done.done() for client in clients)
        await asyncio.gather(*(client.done for client in clients))
        return self.report


class Client(asyncio.Protocol):
    """One connection that is kept alive: the next request goes out when an answer is in."""

    def __init__(self, driver: Driver, done: asyncio.Future[None]) -> None:
        self.driver, self.done = driver, done
        self.data = b""
        self.length: int | None = None
        self.status = 0
        self.body = 0
        self.sent = 0.0
        self.place = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        taken = self.driver.take()
        if taken is None:
            self.end()
            return
        self.body, self.data, self.length, self.sent = taken, b"", None, time.time()
        self.transport.write(self.driver.requests[taken])

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.driver.report.faults.append(f"connection lost in the middle of a request: {error}")
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.length is None:
            head, mark, rest = self.data.partition(b"\r\n\r\n")
            if not mark:
                return
            lines = head.lower().split(b"\r\n")
            self.status = int(lines[0].split(b" ")[1])
            lengths = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
            self.length, self.data = lengths[0], rest
        if len(self.data) < self.length:
            return
        report = self.driver.report
        report.requests += 1
        report.seconds.append(time.time() - self.sent)
        try:
            self.check(self.driver.plan.bodies[self.body], json.loads(self.data))
        except Exception as error:
            report.faults.append(f"{type(error).__name__}: {error}: {self.status} {self.data[:300]!r}")
        if self.driver.plan.pause:
            asyncio.get_running_loop().call_later(self.driver.plan.pause, self.send)
        else:
            self.send()

    def check(self, body: Body, answer: dict[str, Any]) -> None:
        report = self.driver.report
        if self.status == 422:
            rules = [cell["rule"] for cell in answer["rows"]]
            if not rules or not all(rule.startswith(body.refused) for rule in rules):
                raise ValueError("refused for no reason")
            report.refusals.append((body.kind, self.sent, time.time()))
            return
        if self.status != 200:
            raise ValueError("failed")
        version = answer["model"]["version"]
        if answer["predictions"] != body.answers.get(version):
            raise ValueError(f"not what version {version} predicts")
        report.versions[version] = report.versions.get(version, 0) + 1
        order = self.driver.plan.ordered
        if version not in order[self.place :]:
            raise ValueError(f"version {version} answers after version {order[self.place]}")
        self.place = order.index(version, self.place)


def _request(host: str, body: Body) -> bytes:
    content = json.dumps({"rows": body.rows}).encode()
    head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + content


def main() -> None:
    import uvloop

    plan = pickle.load(sys.stdin.buffer)
    report = uvloop.run(Driver(plan).run())
    json.dump(vars(report), sys.stdout)


if __name__ == "__main__":
    sys.modules["load_driver"] = sys.modules["__main__"]  # by that name the plan was pickled
    main()
