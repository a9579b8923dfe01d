"""Requests that nobody honest sends, and a client that sends them: raw bytes on raw connections."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import zlib
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from serving_models import GOOD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ANSWER_SECONDS = 60
"""After so long a connection has been forgotten by the service, which must answer it or close it much earlier."""
PAUSE_SECONDS = 0.2
BODY = json.dumps({"rows": [GOOD]}).encode()


def post(body: bytes, *headers: bytes, path: bytes = b"/v1/predict", length: int | None = None) -> bytes:
    """A request with a body, after which the connection ends."""
    size = len(body) if length is None else length
    fields = [b"Host: localhost", b"Connection: close", b"Content-Length: %d" % size, *headers]
    return b"POST " + path + b" HTTP/1.1\r\n" + b"\r\n".join(fields) + b"\r\n\r\n" + body


def _value(rng: random.Random, depth: int = 0) -> Any:
    plain = [
        *(
            None,
            True,
            False,
            "",
            "x" * rng.randrange(2_000),
            "\x00",
            "\u202e",
            -1,
            2**63,
            -(2**64),
            10**400,
            1e308,
            -0.0,
        ),
        *(
            float("nan"),
            float("inf"),
            float("-inf"),
            rng.random(),
            rng.randrange(-9, 200),
            "NaN",
            "44",
            "'; --",
            "\U0001d54f",
        ),
    ]
    if depth < 3 and rng.random() < 0.3:
        inner = [_value(rng, depth + 1) for _ in range(rng.randrange(4))]
        return inner if rng.random() < 0.5 else {str(number): item for number, item in enumerate(inner)}
    return rng.choice(plain)


def wrong_types(rng: random.Random) -> bytes:
    rows: list[Any] = []
    for _ in range(rng.randrange(1, 30)):
        row = {**GOOD, **{name: _value(rng) for name in rng.sample(list(GOOD), rng.randrange(1, 4))}}
        rows.append(row if rng.random() < 0.9 else _value(rng))
    return post(
        json.dumps(rng.choice([{"rows": rows}, rows, {"rows": rows, "more": rows}, {"rows": {"0": rows}}])).encode()
    )


def huge_numbers(rng: random.Random) -> bytes:
    number = rng.choice([b"NaN", b"-Infinity", b"1e999", b"-1e-999", b"9" * rng.choice([20, 400, 5_000, 100_000])])
    name = rng.choice([b'"Age": 44', b'"Vintage": 217', b'"Annual_Premium": 40454.0', b'"Region_Code": 28'])
    assert name in BODY
    return post(BODY.replace(name, name.partition(b" ")[0] + b" " + number))


def deep(rng: random.Random) -> bytes:
    depth = rng.choice([50, 199, 201, 1_000, 100_000])
    left, right = rng.choice([(b"[", b"]"), (b'{"rows":', b"}"), (b'{"rows":[', b"]}"), (b"[[{}],", b"]")])
    nested = left * depth + (right * depth if rng.random() < 0.5 else b"")
    return post(rng.choice([nested, BODY.replace(b"44", nested)]))


def no_text(rng: random.Random) -> bytes:
    text = rng.choice([b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\xf4\x90\x80\x80", b"\x80"])
    bodies = [
        BODY.replace(b"Male", text),
        BODY.replace(b"Gender", text),
        b"\xef\xbb\xbf" + BODY,
        BODY.decode().encode("utf-16"),
    ]
    return post(rng.choice(bodies))


def truncated(rng: random.Random) -> bytes:
    return post(BODY[: rng.randrange(len(BODY))])


def too_short(rng: random.Random) -> bytes:
    """Announces more than it sends; the rest never comes."""
    return post(BODY, length=len(BODY) + rng.choice([1, 1_000, 8_000_000]))


@cache
def _bomb(kind: str) -> bytes:
    zeros = b" " * (64 * 2**20)
    return gzip.compress(zeros, 9) if kind == "gzip" else zlib.compress(zeros, 9)


def bomb(rng: random.Random) -> bytes:
    kind = rng.choice(["gzip", "deflate"])
    encoding = rng.choice([kind, "br", "zstd", f"{kind}, {kind}", "identity"])
    headers = [f"Content-Encoding: {encoding}".encode()] if rng.random() < 0.8 else []
    return post(_bomb(kind), *headers)


def wrong_kind(rng: random.Random) -> bytes:
    kinds = [
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "application/xml",
        "\xff",
        "a/b; q=",
        "",
    ]
    bodies = [BODY, b"rows=1", b"<rows/>", b"--x\r\n\r\n\r\n--x--", b""]
    return post(rng.choice(bodies), b"Content-Type: " + rng.choice(kinds).encode("latin-1"))


def headers(rng: random.Random) -> bytes:
    many = [b"X-%d: y" % number for number in range(rng.choice([50, 150, 5_000]))]
    long = [b"X-Long: " + b"y" * rng.choice([1_000, 70_000, 500_000])]
    odd = [b"Host: ", b"X-Forwarded-For: " + b"1.2.3.4, " * 2_000, b"Cookie: \xff\xfe", b"Authorization: Basic ==="]
    false = [b"Authorization: Bearer " + b"k" * 5_000, b"X-Request-ID: ../../etc/passwd", b"Expect: 100-continue"]
    return post(BODY, *rng.choice([many, long, odd, false]))


def address(rng: random.Random) -> bytes:
    paths = [
        b"/../../etc/passwd",
        b"/%00",
        b"/%ff%fe",
        b"//v1/predict",
        b"/" + b"a" * 9_000,
        b"*",
        b"http://else/",
        b"/v1/model?" + b"a=b&" * 1_000,
    ]
    path = rng.choice([*paths, b"/" + bytes(rng.randrange(33, 127) for _ in range(20)), b"/docs", b"/openapi.json"])
    method = rng.choice(
        [b"GET", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"HEAD", b"PATCH", b"CONNECT", b"PROPFIND", b"X"]
    )
    return method + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def pipelined(rng: random.Random) -> bytes:
    good = BODY
    first = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(good) + good
    ends = [
        rng.randbytes(200),
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        post(b""),
        b"GET /healthz HTTP/1.1\r\n\r\n" * 500 + b"\x00",
    ]
    return first * rng.randrange(1, 5) + rng.choice(ends) + b"\x00\r\n\r\n"


def chunks(rng: random.Random) -> bytes:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    good = b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n"
    bodies = [
        *(
            good + b"\r\n",
            good + b"X-Trailer: y\r\n" * 2_000 + b"\r\n",
            b"ffffffffffffffffff\r\n",
            b"-1\r\n\r\n",
            b"zz\r\n",
        ),
        *(b"1\r\n{\r\n" * 500 + b"0\r\n\r\n", b"1;" + b"x" * 50_000 + b"\r\n{\r\n0\r\n\r\n", b"5\r\n{}\r\n0\r\n\r\n"),
    ]
    both = b"Content-Length: 5\r\n" if rng.random() < 0.2 else b""
    return head + both + b"\r\n" + rng.choice(bodies)


def many(rng: random.Random) -> bytes:
    row = json.dumps(GOOD)
    bodies = [
        '{"rows": [' + ",".join([row.replace("44", "0")] * 500) + "]}",
        json.dumps({"rows": [{**GOOD, **{f"x{number}": 1 for number in range(rng.choice([10, 5_000]))}}]}),
        '{"rows": [' + ",".join(["{}"] * 20_000) + "]}",
        json.dumps({"rows": [{**GOOD, "Gender": "x" * 200_000}]}),
        '{"rows": [{' + '"Age": 17, ' * 1_000 + row[1:] + "]}",
        '{"rows": [' + row[:-1] + ', "Age": 17}]}',
        '{"rows": [' + row.replace("44", "17") + '], "rows": [' + row + "]}",
        '{"rows": [' + row + '], "rows": [' + row.replace("44", "17") + "]}",
    ]
    return post(rng.choice(bodies).encode())


def noise(rng: random.Random) -> bytes:
    return rng.choice([rng.randbytes(rng.randrange(1, 4_000)), post(rng.randbytes(rng.randrange(1, 4_000)))])


def flipped(rng: random.Random) -> bytes:
    request = bytearray(post(BODY))
    for _ in range(rng.randrange(1, 6)):
        request[rng.randrange(len(request))] = rng.randrange(256)
    return bytes(request)


KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    *(wrong_types, huge_numbers, deep, no_text, truncated, too_short, bomb, wrong_kind, headers, address),
    *(pipelined, chunks, many, noise, flipped),
)
# They hold a connection until the service loses patience, so that there are fewer of them.
SLOW = frozenset({too_short})


def requests(count: int, seed: int) -> Iterable[tuple[str, bytes]]:
    """Some requests of all kinds, with the name of the kind."""
    rng = random.Random(seed)
    weights = [1 if kind in SLOW else 20 for kind in KINDS]
    for kind in rng.choices(KINDS, weights, k=count):
        yield kind.__name__, kind(rng)


async def send(port: int, request: bytes) -> list[int]:
    """Send bytes and return the statuses of all answers, once the service closes the connection or has done with it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = b""
    try:
        writer.write(request)
        while chunk := await _read(reader, PAUSE_SECONDS if is_kept(answers) else ANSWER_SECONDS):
            answers += chunk
    except TimeoutError:
        assert is_kept(answers), f"neither answered nor closed: {request[:500]!r}"
    except (ConnectionResetError, BrokenPipeError):
        pass  # closed while there was still something to send
    finally:
        writer.transport.abort()
    return statuses(answers)


async def _read(reader: asyncio.StreamReader, seconds: float) -> bytes:
    async with asyncio.timeout(seconds):
        return await reader.read(2**16)


def is_kept(answers: bytes) -> bool:
    """Whether the last answer is whole and leaves the connection open, which a good request may ask for."""
    head, end, body = answers[answers.rfind(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    length = head.partition(b"\r\ncontent-length: ")[2].partition(b"\r")[0]
    return bool(end) and b"\r\nconnection: close" not in head and length == b"%d" % len(body)


def statuses(answers: bytes) -> list[int]:
    """The status of each of some answers, but for those that only say to go on; no body has what begins an answer."""
    found = [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]
    return [status for status in found if status >= 200]


async def send_all(port: int, cases: Iterable[tuple[str, bytes]], at_once: int = 16) -> dict[str, Counter[int | None]]:
    """Send many requests, some at a time; how often which status came, by kind. None is a close without an answer."""
    found: dict[str, Counter[int | None]] = {}
    waiting = iter(cases)

    async def work() -> None:
        for kind, request in waiting:
            counter = found.setdefault(kind, Counter())
            counter.update(await send(port, request) or [None])

    await asyncio.gather(*(work() for _ in range(at_once)))
    return found


async def trickle(port: int, request: bytes, pause: float) -> list[int]:
    """Send a request byte by byte, until the service has had enough."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def drip() -> None:
        for byte in request:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(pause)

    dripping = asyncio.create_task(drip())
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return statuses(await reader.read())
    except ConnectionResetError:
        return []
    finally:
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.transport.abort()
