"""What a request may cost: number, time, size; and what browsers are told about the answers."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import hostile
import httpx
import pytest
from service_process import Service, serving
from serving_models import GOOD, app_of, ask, guarded
from test_http import error_of

from vehins.serving.failures import RefusalError
from vehins.serving.limits import Limits
from vehins.settings import ServeSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

IS_LONG = os.environ.get("VEHINS_TEST_SLOW") == "1"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key, content-type"}


# --- number and time --------------------------------------------------------------------------------------------------


def held(settings: ServeSettings, gate: asyncio.Event) -> Any:
    """A layer around an application that reads a body and answers once the gate opens."""

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
        except RefusalError as error:
            await error.prepared()(send)
            return
        if scope["path"] == "/held":
            await gate.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return Limits(inner, settings)


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vehins.test")


def test_more_than_can_be_under_way() -> None:
    async def run() -> None:
        gate = asyncio.Event()
        app = held(ServeSettings(max_concurrent=2), gate)
        async with client_of(app) as client:
            waiting = [asyncio.create_task(client.get("/held")) for _ in range(2)]
            while len(app._under_way) < 2:
                await asyncio.sleep(0)
            refused = await client.get("/other")
            assert error_of(refused, 503)["headline"] == "The service is busy"
            assert refused.headers["retry-after"] == "1"
            assert (await client.get("/healthz")).status_code == 204
            assert (await client.get("/readyz")).status_code == 204
            gate.set()
            assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [204, 204]
            assert (await client.get("/other")).status_code == 204
        assert not app._under_way

    asyncio.run(run())


def test_an_answer_that_takes_too_long() -> None:
    async def run() -> None:
        app = held(ServeSettings(request_timeout=1), asyncio.Event())  # an answer that can be given must not take it
        async with client_of(app) as client:
            late = await client.post("/held", content=b"{}")
            assert error_of(late, 503)["headline"] == "The answer took too long"
            assert (await client.get("/other")).status_code == 204
        assert not app._under_way

    asyncio.run(run())


def test_a_body_that_comes_too_slowly() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(3_600)

    async def run() -> None:
        app = held(ServeSettings(request_timeout=0.05), asyncio.Event())
        async with client_of(app) as client:
            slow = await client.post("/other", content=body())
        assert error_of(slow, 408)["headline"] == "The request came too slowly"
        assert slow.headers["connection"] == "close"

    asyncio.run(run())


def test_a_request_that_is_given_up_by_the_server_is_no_timeout() -> None:
    async def run() -> None:
        app = held(ServeSettings(), asyncio.Event())
        async with client_of(app) as client:
            asked = asyncio.create_task(client.get("/held"))
            while not app._under_way:
                await asyncio.sleep(0)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
        assert not app._under_way

    asyncio.run(run())


def test_the_sweep_ends_when_nothing_is_under_way() -> None:
    async def run() -> None:
        app = held(ServeSettings(request_timeout=0.04), asyncio.Event())
        async with client_of(app) as client:
            await client.get("/other")
            while app._loop is not None:
                await asyncio.sleep(0.01)
            late = await client.get("/held")  # and begins again
        assert late.status_code == 503

    asyncio.run(run())


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/predict", "/", "/nothing"])
def test_a_body_that_is_announced_too_large(predictor: Predictor, path: str) -> None:
    app = guarded(predictor, max_body_bytes=2_048)
    response = ask(app, "POST", path, content=b" " * 2_049)
    assert "2,048 bytes" in error_of(response, 413)["detail"]
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize("length", ["9" * 15, "9" * 16, "9" * 5_000])
def test_a_length_that_nobody_can_mean(predictor: Predictor, length: str) -> None:
    response = ask(app_of(predictor, 10), "POST", "/v1/predict", content=b"{}", headers={"Content-Length": length})
    assert response.status_code == 413


def test_a_body_in_chunks_is_counted_as_it_comes(predictor: Predictor) -> None:
    app = guarded(predictor, max_body_bytes=2_048)
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1_000
            yield b" " * 1_000

    response = ask(app, "POST", "/v1/predict", content=chunks())
    assert "2,048 bytes" in error_of(response, 413)["detail"]
    assert read == 3_000


def test_a_body_of_just_the_size(predictor: Predictor) -> None:
    body = json.dumps({"rows": [GOOD]}).encode()
    app = guarded(predictor, max_body_bytes=2_048)
    assert ask(app, "POST", "/v1/predict", content=body + b" " * (2_048 - len(body))).status_code == 200


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 415), ("br", 415), ("identity", 200), ("gzip, gzip", 415)])
def test_compressed_bodies(predictor: Predictor, encoding: str, status: int) -> None:
    headers = {"Content-Encoding": encoding}
    response = ask(app_of(predictor, 10), "POST", "/v1/predict", json={"rows": [GOOD]}, headers=headers)
    assert response.status_code == status
    if status == 415:
        assert error_of(response, 415)["headline"] == "The body is compressed"


# --- all bodies together ----------------------------------------------------------------------------------------------


def test_there_is_room_for_so_many_large_bodies() -> None:
    """Announced or not; small ones need none, and who is refused leaves none occupied."""

    async def slowly(size: int) -> AsyncIterator[bytes]:
        yield b" " * size

    async def run() -> None:
        gate = asyncio.Event()
        app = held(ServeSettings(max_body_bytes=100_000), gate)
        async with client_of(app) as client:
            for _ in range(2):
                large = [asyncio.create_task(client.post("/held", content=b" " * 99_000)) for _ in range(8)]
                while app._room != 8_000:
                    await asyncio.sleep(0)
                for content in (b" " * 99_000, slowly(99_000)):
                    refused = await client.post("/other", content=content)
                    assert error_of(refused, 503)["headline"] == "The service is busy"
                    assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
                for content in (b" " * 60_000, slowly(60_000)):
                    assert (await client.post("/other", content=content)).status_code == 204
                assert app._room == 8_000
                gate.set()
                assert {(await answer).status_code for answer in large} == {204}
                gate.clear()
                assert app._room == 800_000

    asyncio.run(run())


def test_memory_is_bounded_however_many_send_large_bodies(served: Settings) -> None:
    """Who asks for one row is answered all the time."""
    count = 200 if IS_LONG else 60
    size, piece = 7_900_000, b" " * 131_072

    async def send(port: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = asyncio.create_task(reader.read())
        try:
            writer.write(hostile.post(b"", length=size))
            for _ in range(size // len(piece)):
                if answer.done():
                    break
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)
            return hostile.statuses(await asyncio.wait_for(answer, 5))[0]
        except (OSError, TimeoutError):
            return 0
        finally:
            answer.cancel()
            writer.transport.abort()

    async def run(service: Service) -> tuple[list[int], list[int], int]:
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=60) as client:
            await client.post("/v1/predict", content=hostile.BODY)
            before, most, honest = service.rss, 0, []
            senders = [asyncio.create_task(send(service.port)) for _ in range(count)]
            while not all(sender.done() for sender in senders):
                honest.append((await client.post("/v1/predict", content=hostile.BODY)).status_code)
                most = max(most, service.rss - before)
                await asyncio.sleep(0.02)
            return [sender.result() for sender in senders], honest, most

    with serving(served) as service:
        refused, honest, most = asyncio.run(run(service))
    assert set(refused) <= {503, 0}  # those that there is room for are not at their end yet
    assert refused.count(503) > count / 2
    assert set(honest) == {200}
    print(most, len(honest), refused.count(503), refused.count(0))
    assert most < 300 * 2**20


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/v1/predict", 422), ("GET", "/v1/model", 200), ("GET", "/healthz", 200), ("GET", "/nothing", 404)],
)
def test_data_is_data_and_kept_by_nobody(app: FastAPI, method: str, path: str, status: int) -> None:
    response = ask(app, method, path)
    assert response.status_code == status
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "access-control-allow-origin" not in response.headers


def test_refusals_of_the_layers_have_the_headers_too(predictor: Predictor) -> None:
    response = ask(guarded(predictor, ["k" * 20]), "GET", "/v1/model")
    assert response.status_code == 401
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_page_may_load_nothing_from_elsewhere(app: FastAPI) -> None:
    response = ask(app, "GET", "/docs")
    policy = dict(rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["referrer-policy"] == "same-origin"
    assert response.headers["cross-origin-opener-policy"] == "same-origin"
    assert "geolocation=()" in response.headers["permissions-policy"]
    for outside in ("http://", "https://", "<script", "style=", "onclick"):
        assert outside not in response.text


def test_a_style_sheet_may_be_kept(app: FastAPI) -> None:
    response = ask(app, "GET", "/docs/style.css")
    assert response.headers["content-type"].startswith("text/css")
    assert "max-age" in response.headers["cache-control"]


# --- other origins ----------------------------------------------------------------------------------------------------


def test_other_origins_are_kept_out_unless_they_are_named(app: FastAPI) -> None:
    response = ask(app, "OPTIONS", "/v1/predict", headers={"Origin": "https://crm.example", **PREFLIGHT})
    assert response.status_code == 405
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_a_named_origin_may_ask(predictor: Predictor) -> None:
    app = guarded(predictor, ["k" * 20], cors_origins="https://crm.example")
    headers = {"Origin": "https://crm.example"}
    before = ask(app, "OPTIONS", "/v1/predict", headers=headers | PREFLIGHT)
    assert before.status_code == 200
    assert before.headers["access-control-allow-origin"] == "https://crm.example"
    answer = ask(app, "POST", "/v1/predict", json={"rows": [GOOD]}, headers=headers | {"X-API-Key": "k" * 20})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://crm.example"
    assert "access-control-allow-credentials" not in answer.headers
    refused = ask(app, "POST", "/v1/predict", json={"rows": [GOOD]}, headers=headers)  # its page can read why
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://crm.example")


def test_an_origin_that_is_not_named_may_not(predictor: Predictor) -> None:
    app = guarded(predictor, cors_origins="https://crm.example")
    response = ask(app, "OPTIONS", "/v1/predict", headers={"Origin": "https://evil.example", **PREFLIGHT})
    assert error_of(response, 400)["headline"] == "Pages of this origin may not ask"
    assert "access-control-allow-origin" not in response.headers
