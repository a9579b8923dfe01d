"""Request ids, the access log and the logs of the serving process: what stands in them, and what never does."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import threading
import time
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from service_process import serving
from serving_models import GOOD, ask

from vehins.masking import remember
from vehins.serving.app import create_app
from vehins.serving.holder import Holder
from vehins.serving.keys import Keys
from vehins.serving.telemetry import access, logs
from vehins.serving.telemetry.lines import LineWriter
from vehins.serving.telemetry.telemetry import Telemetry
from vehins.settings.sections import ServeSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings


class Logged:
    """An application whose access log is a list."""

    def __init__(self, predictor: Predictor) -> None:
        self.lines: list[bytes] = []
        holder = Holder(1_000)
        holder.put(predictor)
        self.app: FastAPI = create_app(holder, ServeSettings(), telemetry=Telemetry(write=self.lines.append))

    def ask(self, *given: Any, **more: Any) -> httpx.Response:
        return ask(self.app, *given, **more)

    @property
    def last(self) -> dict[str, Any]:
        found = json.loads(self.lines[-1])
        assert list(found) == list(access.FIELDS)
        return found


@pytest.fixture
def logged(predictor: Predictor) -> Logged:
    return Logged(predictor)


# --- request ids ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", ["a", "5f1c9a", "Root=1-67891233-abcdef012345678912345678", "a" * 128, "x/y:z+0@h._-"]
)
def test_a_well_formed_id_is_kept(logged: Logged, given: str) -> None:
    response = logged.ask("GET", "/healthz", headers={"X-Request-ID": given})
    assert response.headers["x-request-id"] == logged.last["request_id"] == given


@pytest.mark.parametrize("given", ["", " ", "a" * 129, 'a"b', "a b", "a\\b", "{}", "é", "a\tb", "<script>"])
def test_any_other_is_not(logged: Logged, given: str) -> None:
    response = logged.ask("GET", "/healthz", headers={b"X-Request-ID": given.encode()})
    made = response.headers["x-request-id"]
    assert made == logged.last["request_id"] != given
    assert len(made) == 16


def test_each_request_has_an_id_of_its_own(logged: Logged) -> None:
    found = {logged.ask("GET", path).headers["x-request-id"] for path in ["/healthz", "/nowhere", "/v1/model"] * 5}
    assert len(found) == 15


# --- the access log ---------------------------------------------------------------------------------------------------


def test_a_line_of_the_access_log(logged: Logged) -> None:
    body = json.dumps({"rows": [GOOD, GOOD]})
    before = datetime.now(UTC)
    response = logged.ask("POST", "/v1/predict?key=hunter2", content=body, headers={"authorization": "Bearer hunter2"})
    found = logged.last
    assert before <= datetime.fromisoformat(found.pop("time")) <= datetime.now(UTC)
    assert 0 < found.pop("milliseconds") < 60_000
    assert found == {
        "level": "info",
        "logger": "vehins.access",
        "request_id": response.headers["x-request-id"],
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/v1/predict",
        "status": 200,
        "rows": 2,
        "model_version": 1,
        "bytes_in": len(body),
        "bytes_out": len(response.content),
    }
    assert b"hunter2" not in logged.lines[-1]
    assert b"Male" not in logged.lines[-1]


def test_rows_that_are_answered_aside_are_logged_as_well(logged: Logged) -> None:
    logged.ask("POST", "/v1/predict", json={"rows": [GOOD] * 500})
    assert (logged.last["rows"], logged.last["model_version"]) == (500, 1)
    logged.ask("POST", "/v1/predict", json={"rows": [{}]})
    assert (logged.last["rows"], logged.last["model_version"], logged.last["status"]) == (None, None, 422)


def test_a_body_of_unknown_size_is_counted(logged: Logged) -> None:
    async def chunks() -> Any:
        for piece in (b'{"rows": ', json.dumps([GOOD]).encode(), b"}"):
            yield piece

    logged.ask("POST", "/v1/predict", content=chunks())
    assert logged.last["status"] == 200
    assert logged.last["bytes_in"] == len(json.dumps({"rows": [GOOD]}))


@pytest.mark.parametrize("path", ['/"}\n{"status":200', "/\x00\x1b[31m", "/é€\U0001f600", "/" + "x" * 5_000])
def test_no_path_breaks_a_line(logged: Logged, path: str) -> None:
    logged.ask("GET", quote(path))
    assert b"\n" not in logged.lines[-1]
    assert logged.last["path"] == path[:200]


def test_a_name_for_the_client_takes_the_place_of_its_address(predictor: Predictor) -> None:
    lines: list[bytes] = []
    key = "a key that opens the service".replace(" ", "-")
    telemetry = Telemetry(write=lines.append)
    app = create_app(Holder(10), ServeSettings(), keys=Keys([key]), telemetry=telemetry)
    for headers in ({}, {"X-API-Key": key}):
        ask(app, "GET", "/v1/model", headers=headers)
    clients = [json.loads(line)["client"] for line in lines]
    assert clients == ["127.0.0.1", f"key-{hashlib.sha256(key.encode()).hexdigest()[:8]}"]


def test_a_client_who_leaves_before_the_answer(logged: Logged) -> None:
    async def leave() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.sleep(3600)
            return {}

        async def send(message: Any) -> None: ...

        scope = {"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "headers": []}
        task = asyncio.ensure_future(logged.app(scope, receive, send))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert (logged.last["status"], logged.last["bytes_out"]) == (499, 0)
    assert "vehins_http_requests_in_progress 1.0" in logged.ask("GET", "/metrics").text


# --- what nobody caught -----------------------------------------------------------------------------------------------


def failing(predictor: Predictor) -> FastAPI:
    """An application that fails before its answer at one address, and in the middle of it at another."""

    async def fail() -> None:
        raise RuntimeError("the password is hunter2hunter2")

    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await fail()

    app = Logged(predictor).app
    app.add_api_route("/fail", fail)
    app.mount("/half", half)
    return app


def test_what_nobody_caught_is_answered_by_its_id_and_logged_with_its_stack(
    predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    remember("hunter2hunter2")
    response = ask(failing(predictor), "GET", "/fail", headers={"x-request-id": "abc-1"})
    assert response.status_code == 500
    assert response.headers["x-request-id"] == "abc-1"
    assert list(response.json()["error"]) == ["headline", "detail", "hint"]
    assert "request abc-1" in response.json()["error"]["detail"]
    assert "Runtime" not in response.text
    [record] = caplog.records
    found = json.loads(logs.line(record))
    assert set(found) <= set(logs.FIELDS)
    assert (found["level"], found["logger"]) == ("error", "vehins.serving")
    assert "RuntimeError: the password is ***" in found["stack"]
    assert "hunter2" not in json.dumps(found)


def test_an_answer_that_has_begun_is_cut_off(predictor: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Any] = []

    async def call() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/half/", "query_string": b"", "headers": []}
        await failing(predictor)(scope, receive, send)

    asyncio.run(call())
    assert [message.get("body") for message in sent] == [None, b"half"]
    assert len(caplog.records) == 1


# --- lines to stderr --------------------------------------------------------------------------------------------------


def told(count: int) -> bytes:
    return b"missing %d" % count


def test_lines_come_out_whole_and_in_their_order() -> None:
    reader, writer = os.pipe()
    lines = LineWriter(told, descriptor=writer)
    wanted = [b"%d %s" % (number, b"x" * (number % 5_000)) for number in range(2_000)]
    got = bytearray()
    thread = threading.Thread(target=lambda: got.extend(read_all(reader)))
    thread.start()
    for line in wanted:
        lines.write(line)
    lines.close(30)
    os.close(writer)
    thread.join(30)
    assert bytes(got).splitlines() == wanted


def read_all(reader: int) -> bytes:
    with os.fdopen(reader, "rb") as file:
        return file.read()


@pytest.mark.parametrize("waits", [True, False], ids=["blocking", "non-blocking"])
def test_a_reader_that_has_stopped_stops_nobody_and_is_told_what_it_missed(waits: bool) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, waits)
    dropped: list[int] = []
    lines = LineWriter(told, lambda: dropped.append(1), descriptor=writer, bound=100)
    for number in range(20_000):  # far more than a pipe holds
        lines.write(b"%06d %s" % (number, b"x" * 93))
        if number % 100 == 0:
            time.sleep(0.001)
    assert len(dropped) > 15_000
    got = bytearray()
    thread = threading.Thread(target=lambda: got.extend(read_all(reader)))
    thread.start()
    lines.close(30)
    os.close(writer)
    thread.join(30)
    found = bytes(got).splitlines()
    missing = sum(int(line.split()[1]) for line in found if line.startswith(b"missing"))
    assert missing == len(dropped)
    assert len(found) - sum(line.startswith(b"missing") for line in found) == 20_000 - missing


def test_the_end_does_not_wait_for_ever_for_a_reader_that_has_stopped() -> None:
    reader, writer = os.pipe()
    lines = LineWriter(told, descriptor=writer)
    for _ in range(5_000):
        lines.write(b"x" * 100)
    began = time.monotonic()
    lines.close(0.2)
    assert time.monotonic() - began < 20
    os.close(reader)  # lets the thread end: nobody reads any more
    lines._thread.join(30)
    assert not lines._thread.is_alive()
    os.close(writer)


# --- the logs of a process --------------------------------------------------------------------------------------------


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """Lines that `json_logs` has written in this process."""
    found: list[bytes] = []

    class Kept:
        def __init__(self, *_: Any) -> None: ...

        def write(self, line: bytes) -> None:
            found.append(line)

        def close(self, seconds: float) -> None: ...

    monkeypatch.setattr(logs, "LineWriter", Kept)
    return lambda: [json.loads(line) for line in found]


def test_every_record_is_an_object(captured: Callable[[], list[dict[str, Any]]]) -> None:
    remember("hunter2hunter2")
    with logs.json_logs(1.0):
        logging.getLogger("vehins.serving").info("swapped to %d", 3)
        logging.getLogger("uvicorn.error").error("reached mongodb://me:secret1@host with hunter2hunter2")
        logging.getLogger("lightgbm").info("chatter")
        logging.getLogger("vehins.serving").error("%d", "not a number")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(True)
            warnings.warn("old", UserWarning, stacklevel=1)

        def fail() -> None:
            raise ValueError("of a thread")

        thread = threading.Thread(target=fail, name="watcher")
        thread.start()
        thread.join()
    lines = captured()
    assert [line.get("message", "")[:18] for line in lines] == [
        "swapped to 3",
        "reached mongodb://",
        "Not a log record: ",
        lines[3]["message"][:18],
        "The thread watcher",
    ]
    assert "secret1" not in str(lines)
    assert "hunter2" not in str(lines)
    assert lines[3]["logger"] == "py.warnings"
    assert lines[4]["stack"].endswith("ValueError: of a thread\n")
    assert all(set(line) <= set(logs.FIELDS) for line in lines)


def test_logging_is_afterwards_as_it_was(captured: Callable[[], list[dict[str, Any]]]) -> None:
    root, hook = logging.getLogger(), threading.excepthook
    before = (list(root.handlers), root.level, logging.getLogger("vehins").level)
    with logs.json_logs(1.0):
        assert len(root.handlers) == 1
    assert (list(root.handlers), root.level, logging.getLogger("vehins").level) == before
    assert threading.excepthook is hook


def test_the_access_log_can_be_switched_off(served: Settings) -> None:
    quiet = served.model_copy(update={"serve": served.serve.model_copy(update={"access_log": False})})
    with serving(quiet) as found:
        assert found.predict(GOOD).status_code == 200
        found.stop()
    assert [line["logger"] for line in found.log] == ["vehins.serving.watcher"]


def test_a_service_answers_while_nobody_reads_its_log(served: Settings) -> None:
    with serving(served) as found:
        long = {"x-request-id": "r" * 128}
        for _ in range(600):  # three times what a pipe holds
            assert found.get("/healthz", headers=long).status_code == 200
        assert "vehins_log_dropped_lines_total 0.0" in found.get("/metrics").text
        assert found.predict(GOOD).status_code == 200
        found.stop()
    assert len(found.requests) == 602
