"""Connections of a real service: what it says to what is no request, and where it stops to listen."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import hostile
import httpx
import psutil
import pytest
from server_process import wait_until
from service_process import Service, command, environment, serving
from serving_models import GOOD

from vehins.serving import closing, connections
from vehins.serving.access import NO_KEY
from vehins.serving.telemetry.access import FIELDS
from vehins.serving.telemetry.exchange import Refusal
from vehins.serving.telemetry.layer import TelemetryLayer
from vehins.serving.telemetry.telemetry import Telemetry
from vehins.settings import ServeSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from vehins.settings import Settings

KEY = "0123456789abcdef" * 2
AUTHORIZED = f"Authorization: Bearer {KEY}".encode()
GOOD_REQUEST = hostile.post(hostile.BODY, AUTHORIZED)
KEPT = GOOD_REQUEST.replace(b"Connection: close", b"Connection: keep-alive")


@pytest.fixture(scope="module")
def service(served: Settings) -> Iterator[Service]:
    with serving(served, env={"VEHINS_API_KEYS": KEY}) as found:
        yield found


def heard(service: Service, request: bytes) -> bytes:
    """Send bytes on a connection of their own: all that comes back until the service closes it."""

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        try:
            writer.write(request)
            async with asyncio.timeout(hostile.ANSWER_SECONDS):
                return await reader.read()
        finally:
            writer.transport.abort()

    return asyncio.run(ask())


def raw(service: Service, request: bytes) -> list[tuple[int, Any]]:
    """Send bytes on a connection of their own: status and body of each answer until the service closes it."""
    answers = heard(service, request).split(b"HTTP/1.1 ")[1:]
    parts = [answer.partition(b"\r\n\r\n") for answer in answers]
    return [(int(head[:3]), json.loads(body)) for head, _, body in parts if not head.startswith(b"1")]


def check_error(answer: tuple[int, Any], status: int, headline: str) -> None:
    assert answer[0] == status
    assert list(answer[1]) == ["error"]
    assert list(answer[1]["error"]) == ["headline", "detail", "hint"]
    assert answer[1]["error"]["headline"] == headline


@pytest.mark.parametrize("text", [b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_no_http_gets_the_one_shape(service: Service, text: bytes) -> None:
    [answer] = raw(service, text)
    check_error(answer, 400, "The request is not valid HTTP")


@pytest.mark.parametrize(
    "lines",
    [[b"X-%d: y" % number for number in range(101)], [b"X: " + b"y" * 400_000]],
    ids=["many", "long"],
)
def test_a_head_that_is_too_large(service: Service, lines: list[bytes]) -> None:
    [answer] = raw(service, hostile.post(hostile.BODY, AUTHORIZED, *lines))
    check_error(answer, 431, "The head of the request is too large")


def test_an_address_that_is_too_long(service: Service) -> None:
    [answer] = raw(service, b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    check_error(answer, 431, "The head of the request is too large")


def test_what_came_before_nonsense_is_answered_first(service: Service) -> None:
    answers = raw(service, KEPT * 3 + b"nonsense\r\n\r\n")
    assert [status for status, _ in answers] == [200] * 3
    assert answers[0][1]["predictions"]


def test_more_than_wait_for_their_turn(service: Service) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    answers = raw(service, request * 5_000)
    assert {status for status, _ in answers} == {200}
    assert len(answers) == connections._PIPELINED + 1


def test_trailers_are_no_headers(service: Service) -> None:
    """Nor are they kept, however many there are; and a key among them comes too late."""
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    body = b"%x\r\n%b\r\n0\r\n" % (len(hostile.BODY), hostile.BODY)
    trailers = b"X-Trailer: y\r\n" * 1_000
    assert [status for status, _ in raw(service, head + AUTHORIZED + b"\r\n\r\n" + body + trailers + b"\r\n")] == [200]
    assert [status for status, _ in raw(service, head + b"\r\n" + body + AUTHORIZED + b"\r\n\r\n")] == [401]


@pytest.mark.parametrize("framing", [b"zz\r\n", b"-1\r\n", b"ffffffffffffffffffff\r\n"])
def test_a_body_whose_framing_is_broken(service: Service, framing: bytes) -> None:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + AUTHORIZED + b"\r\n\r\n"
    [answer] = raw(service, head + framing)
    check_error(answer, 400, "The request is not valid HTTP")


def test_two_lengths_are_none(service: Service) -> None:
    [answer] = raw(service, hostile.post(hostile.BODY, AUTHORIZED, b"Transfer-Encoding: chunked"))
    check_error(answer, 400, "The request is not valid HTTP")


def test_a_change_of_protocol(service: Service) -> None:
    """As Java's client offers it: with a body the offer cannot be passed over, without one it is."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB"
    [answer] = raw(service, GOOD_REQUEST.replace(b"Connection: close", offer))
    check_error(answer, 400, "A change of protocol is not offered")
    [answer] = raw(service, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + offer + b"\r\n\r\n")
    assert answer == (200, {"status": "alive"})


def test_a_body_that_is_only_sent_when_it_is_wanted(service: Service) -> None:
    expecting = hostile.post(hostile.BODY, AUTHORIZED, b"Expect: 100-continue")
    assert [status for status, _ in raw(service, expecting)] == [200]
    too_large = hostile.post(b"", AUTHORIZED, b"Expect: 100-continue", length=9_000_000)
    assert [status for status, _ in raw(service, too_large)] == [413]


@pytest.mark.parametrize(
    ("size", "headers", "status"),
    [
        (50_000_000, [AUTHORIZED], 413),
        (8_000_000, [b"Authorization: Bearer wrong"], 401),
        (8_000_000, [AUTHORIZED, b"Content-Encoding: gzip"], 415),
    ],
)
def test_who_is_still_sending_reads_the_refusal(service: Service, size: int, headers: list[bytes], status: int) -> None:
    """As a proxy would, which takes a connection that is reset for a service that is down."""
    request = hostile.post(b" " * size, *headers)

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        try:
            async with asyncio.timeout(hostile.ANSWER_SECONDS):
                began = asyncio.get_running_loop().time()
                for start in range(0, 2_000_000, 10_000):
                    writer.write(request[start : start + 10_000])
                    await writer.drain()
                    await asyncio.sleep(0.001)
                    if asyncio.get_running_loop().time() - began > closing._LONGEST_LINGER / 2:
                        break  # a slow machine must not come to the end of the service's patience
                return await reader.read()
        finally:
            writer.transport.abort()

    assert hostile.statuses(asyncio.run(ask())) == [status]


def test_a_kept_connection_serves_on_after_a_refusal(service: Service) -> None:
    with httpx.Client(base_url=service.url, trust_env=False, timeout=60, headers={"X-API-Key": KEY}) as client:
        statuses = [
            client.post("/v1/predict", content=body).status_code for body in (b"{", hostile.BODY, b"", hostile.BODY)
        ]
        assert statuses == [422, 200, 422, 200]


def test_nothing_of_a_key_is_in_what_the_service_says(service: Service) -> None:
    for key in (KEY, "wrong" + KEY):
        service.get("/v1/model", headers={"X-API-Key": key, "X-Request-ID": f"with-{len(key)}"})
    wait_until(lambda: all(f"with-{length}" in service.err for length in (len(KEY), len(KEY) + 5)))
    assert KEY not in service.err


# --- what is told of refusals -----------------------------------------------------------------------------------------

CHUNKED = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + AUTHORIZED + b"\r\n"


def counted(service: Service, *labels: str) -> int:
    """How many requests the service has counted with such labels."""
    text = service.get("/metrics", headers={"X-API-Key": KEY}).text
    sample = 'vehins_http_requests_total{{method="{1}",route="{0}",status="{2}"}} '.format(*labels)
    return sum(int(float(line.removeprefix(sample))) for line in text.splitlines() if line.startswith(sample))


@pytest.mark.parametrize(
    ("request_", "status", "method", "path", "route"),
    [
        (b"nonsense\r\n\r\n", 400, None, None, "unmatched"),
        (b"GET /a?key=hunter2 HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431, "GET", "/a", "unmatched"),
        (b"HEAD / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431, "HEAD", "/", "unmatched"),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nX: y\r\n\r\n", 431, "GET", "/" + "a" * 199, "unmatched"),
        (CHUNKED + b"\r\nzz\r\n", 400, "POST", "/v1/predict", "/v1/predict"),
        (CHUNKED + b"X-Request-ID: mine-1\r\n\r\nzz\r\n", 400, "POST", "/v1/predict", "/v1/predict"),
    ],
    ids=["nonsense", "headers", "headers of HEAD", "address", "framing", "framing with an id"],
)
def test_a_refusal_of_the_connection_is_counted_and_logged(
    service: Service, request_: bytes, status: int, method: str | None, path: str | None, route: str
) -> None:
    labels = (route, method or "other", str(status))
    before, said = counted(service, *labels), len(service.said)
    head, _, body = heard(service, request_).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert (body == b"") == (method == "HEAD")
    [found] = [line for line in head.split(b"\r\n") if line.startswith(b"x-request-id: ")]
    request_id = found.partition(b" ")[2].decode()
    assert request_id == "mine-1" or b"mine-1" not in request_
    wait_until(lambda: any(request_id in line for line in service.said[said:]))
    assert counted(service, *labels) == before + 1
    lines = [json.loads(line) for line in service.said[said:] if "vehins.access" in line]
    [line] = [line for line in lines if line["path"] != "/metrics"]
    assert list(line) == list(FIELDS)
    assert (line["request_id"], line["status"]) == (request_id, status)
    assert line["client"] == "127.0.0.1" or line["client"].startswith("key-")
    assert (line["method"], line["path"], line["bytes_out"]) == (method, path, len(body))
    assert (line["rows"], line["model_version"]) == (None, None)
    assert 0 <= line["milliseconds"] < 60_000


def test_what_the_client_has_read_is_what_counts() -> None:
    """Though the application, which hears of the refusal too late, means to have answered as well."""
    written: list[bytes] = []
    told = Telemetry(write=written.append)

    async def run() -> None:
        async def refusing(scope: Any, receive: Any, send: Any) -> None:
            await NO_KEY(send)

        layer = TelemetryLayer(refusing, told.metrics, written.append)
        async with small(app=layer, tell=told.refused) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(CHUNKED + b"\r\nzz\r\n")
            assert hostile.statuses(await reader.read()) == [400]
            writer.transport.abort()

    in_loop(run())
    [line] = map(json.loads, written)
    assert line["status"] == 400


def test_who_comes_too_slowly_or_is_too_many_is_told_of() -> None:
    told: list[tuple[Any, Refusal, float]] = []

    async def run() -> None:
        async with small(tell=lambda *refused: told.append(refused), head_seconds=2, most=1) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /slow HTTP/1.1\r\nX-Request-ID: slow-1\r\nX: ")
            while not is_taken(port):
                await asyncio.sleep(0.01)
            other, second = await asyncio.open_connection("127.0.0.1", port)
            assert hostile.statuses(await other.read()) == [503]
            assert hostile.statuses(await reader.read()) == [408]
            for one in (writer, second):
                one.transport.abort()

    in_loop(run())
    found = [(refusal.status, scope["method"], scope["path"]) for scope, refusal, _ in told]
    assert found == [(503, None, None), (408, "GET", "/slow")]
    assert told[1][1].request_id == "slow-1"
    assert 1.9 < told[1][2] < 60  # the loop's clock has whole milliseconds, and their sums are rounded


# --- clients of all kinds ---------------------------------------------------------------------------------------------

MANY_ROWS = json.dumps({"rows": [GOOD] * 500}).encode()  # answered in a thread
MANY = hostile.post(MANY_ROWS, AUTHORIZED).replace(b"Connection: close", b"Connection: keep-alive")
EXPECTING = CHUNKED + b"Expect: 100-continue\r\n\r\nzz\r\n"
PAGE = b"GET / HTTP/1.1\r\nHost: x\r\n" + AUTHORIZED + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "statuses"),
    [
        (b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 5 80\r\n" + GOOD_REQUEST, [400]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
        (b"\r\n\r\n" + GOOD_REQUEST, [200]),
        (EXPECTING, [400]),
        (MANY + CHUNKED + b"\r\nzz\r\n", [200, 400]),
        (MANY + EXPECTING, [200, 400]),
        (KEPT + MANY + b"GET http://x HTTP/1.1\r\n\r\n", [200, 200]),
        (MANY * 2 + GOOD_REQUEST + KEPT, [200, 200, 200]),
        (GOOD_REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"), [200]),
        (MANY.replace(b"HTTP/1.1", b"HTTP/1.0"), [200]),
        (GOOD_REQUEST.replace(b"close", b"Upgrade\r\nUpgrade: h2c").replace(hostile.BODY, b""), [400]),
    ],
)
def test_nothing_is_cut_and_nothing_fails(service: Service, request_: bytes, statuses: list[int]) -> None:
    said = len(service.said)
    assert [status for status, _ in raw(service, request_)] == statuses
    assert service.get("/healthz", headers={"X-Request-ID": "then"}).status_code == 200
    wait_until(lambda: any('"then"' in line for line in service.said[said:]))
    assert not [line for line in service.said[said:] if '"level":"error"' in line]


def half_closed(service: Service, request: bytes) -> list[int]:
    """The statuses of the answers to a client that says at once that it will send no more."""
    with socket.create_connection(("127.0.0.1", service.port), hostile.ANSWER_SECONDS) as found:
        found.sendall(request)
        found.shutdown(socket.SHUT_WR)
        return hostile.statuses(b"".join(iter(lambda: found.recv(65_536), b"")))


@pytest.mark.parametrize(
    ("request_", "statuses"),
    [
        (PAGE, [200]),
        (PAGE + MANY + KEPT, [200, 200, 200]),
        (PAGE + KEPT[:40], [200]),
        (KEPT[:40], []),
        (MANY[:-5], []),
        (b"", []),
    ],
)
def test_who_sends_no_more_is_answered(service: Service, request_: bytes, statuses: list[int]) -> None:
    assert half_closed(service, request_) == statuses


def test_a_head_that_becomes_too_large_waits_for_the_answer_before_it() -> None:
    async def run() -> None:
        gate = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await gate.wait()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

        async with small(app=app) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nX: ")
            for _ in range(20):
                writer.write(b"y" * 10_000)
                await writer.drain()
                await asyncio.sleep(0.01)
            gate.set()
            async with asyncio.timeout(hostile.ANSWER_SECONDS):
                assert hostile.statuses(await reader.read()) == [200]
            writer.transport.abort()

    in_loop(run())


def test_each_request_hears_that_its_client_has_left() -> None:
    """Also the one that is being answered while others wait."""

    async def run() -> None:
        left = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            left.set()

        async with small(app=app) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n" * 3)
            while not is_taken(port):
                await asyncio.sleep(0.01)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            async with asyncio.timeout(hostile.ANSWER_SECONDS):
                await left.wait()

    in_loop(run())


def test_who_goes_on_sending_has_time_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has been answered early is closed once its client is silent, and not amid what it sends."""
    silent: list[bool] = []
    plain = closing.Closing._look_whether_silent

    def look(self: Any, *given: Any) -> None:
        silent.append(not self._is_heard)
        plain(self, *given)

    monkeypatch.setattr(closing, "_LINGER_SECONDS", 2.0)  # longer than this process is ever held up
    monkeypatch.setattr(closing, "_LONGEST_LINGER", 60.0)
    monkeypatch.setattr(closing.Closing, "_look_whether_silent", look)

    async def run() -> None:
        async with small(idle=60) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 100000000\r\n\r\n")
            async with asyncio.timeout(hostile.ANSWER_SECONDS):
                while len(silent) < 2:
                    writer.write(b"y" * 1_000)
                    await writer.drain()
                    await asyncio.sleep(0.01)
                assert silent == [False, False]
                assert hostile.statuses(await reader.read()) == [200]
                while is_taken(port):
                    await asyncio.sleep(0.05)
            writer.transport.abort()

    in_loop(run())
    assert silent.count(True) == 1


# --- bounds -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def small(app: Any = None, tell: Any = None, idle: int = 1, **bounds: float) -> AsyncIterator[int]:
    """A server of uvicorn's own, in this process, whose connections have other bounds; the port of it.

    Its application answers with nothing, unless there is another.
    """
    import uvicorn

    async def answering(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    protocol: Any = connections.protocol(ServeSettings(), *([tell] if tell else []))
    for name, value in bounds.items():
        setattr(protocol, name, value)
    config = uvicorn.Config(
        app or answering, port=0, http=protocol, lifespan="off", log_config=None, timeout_keep_alive=idle
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await task


def in_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run it in the loop that the service runs in."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def is_taken(port: int) -> bool:
    """Whether this process has a connection on its port."""
    found = psutil.Process().net_connections("tcp")
    return any(one.laddr.port == port and one.status != psutil.CONN_LISTEN for one in found)


def test_an_idle_connection_is_closed() -> None:
    async def run() -> None:
        async with small() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(hostile.ANSWER_SECONDS):
                assert b"200 OK" in await reader.read()
            writer.transport.abort()

    in_loop(run())


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 5,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /",
    ],
    ids=["kept", "closing", "pipelined", "amid the next"],
)
def test_a_client_that_does_not_read_is_given_up(request_: bytes) -> None:
    async def run() -> None:
        answered = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            size = 50_000_000
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
            answered.set()
            await send({"type": "http.response.body", "body": bytes(size)})

        async with small(app=app, read_seconds=0.2) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
            writer.write(request_)
            async with asyncio.timeout(hostile.ANSWER_SECONDS):
                await answered.wait()
                while is_taken(port):
                    await asyncio.sleep(0.05)
            assert not reader.at_eof()
            writer.transport.abort()

    in_loop(run())


def test_more_connections_than_there_may_be() -> None:
    async def run() -> None:
        async with small(most=2) as port:
            kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert b"The service is busy" in await reader.read()
            for one in (writer, *(writer for _, writer in kept)):
                one.transport.abort()

    in_loop(run())


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "headline"),
    [({}, "The service needs an API key here"), ({"VEHINS_API_KEYS": "too-short"}, "An API key is too short")],
)
def test_it_does_not_start_open_to_the_world(served: Settings, variables: dict[str, str], headline: str) -> None:
    words, env = command("--host", "0.0.0.0", "--json"), environment(served, **variables)
    ended = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    error = json.loads(ended.stdout)["error"]
    assert error["headline"] == headline
    assert "too-short" not in ended.stdout + ended.stderr


def test_it_starts_open_to_the_world_when_it_is_told_to(served: Settings) -> None:
    with serving(served, "--host", "0.0.0.0", "--allow-anonymous") as service:
        assert service.predict(GOOD).status_code == 200
