"""The HTTP application, and the server that runs it.

There is no ``from __future__ import annotations`` here: FastAPI reads the annotations of its endpoints when they are
defined, and the names in them are imported inside the functions, where it could not look them up by name.
"""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from vehins import __version__
from vehins.serving import failures, listener
from vehins.serving.answers import (
    AliveAnswer,
    ColumnAnswer,
    ErrorAnswer,
    ModelAnswer,
    ModelName,
    PredictAnswer,
    ReadyAnswer,
    RefusedAnswer,
)
from vehins.serving.holder import Holder, Ready
from vehins.serving.predictor import Predictor, load
from vehins.serving.refusals import refusal
from vehins.serving.requests import expected
from vehins.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from uvicorn import Server

# Requests larger than this are answered in a thread, so that the others and the probes need not wait.
_ASIDE_BYTES = 16 * 1024
_SHUTDOWN_SECONDS = 10
_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": ErrorAnswer, "description": "No model is loaded"}}
_REFUSED: dict[int | str, dict[str, Any]] = {
    413: {"model": ErrorAnswer, "description": "The request is too large"},
    422: {"model": RefusedAnswer, "description": "The request cannot be used"},
    **_NOT_READY,
}


def create_app(predictor: Predictor | None, max_rows: int) -> "FastAPI":
    """Make the application. ``app.state.holder.put(...)`` replaces its model between two requests."""
    from fastapi import FastAPI

    holder = Holder(max_rows)
    holder.put(predictor)
    app = FastAPI(
        title="vehins",
        version=__version__,
        description="Which customers would take the offer, by a model that has earned its place.",
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.holder = holder
    failures.install(app)
    _add_probes(app, holder)
    _add_model(app, holder)
    _describe(app, holder)
    return app


def _add_probes(app: "FastAPI", holder: Holder) -> None:
    @app.get("/healthz", tags=["probes"], summary="Whether the process is alive")
    async def healthz() -> AliveAnswer:
        return AliveAnswer()

    @app.get("/readyz", tags=["probes"], summary="Whether a verified model is loaded", responses=_NOT_READY)
    async def readyz() -> ReadyAnswer:
        return ReadyAnswer(model=_name(_current(holder).predictor))


def _add_model(app: "FastAPI", holder: Holder) -> None:
    from fastapi import Request
    from starlette.concurrency import run_in_threadpool

    @app.post("/v1/predict", tags=["model"], summary="Predict some customers", responses=_REFUSED)
    async def predict(request: Request) -> PredictAnswer:
        ready = _current(holder)
        body = await _body(request, ready.max_bytes, holder.max_rows)
        if len(body) > _ASIDE_BYTES:
            return await run_in_threadpool(_answer, ready, body, holder.max_rows)
        return _answer(ready, body, holder.max_rows)

    @app.get("/v1/model", tags=["model"], summary="What the model is and what it takes", responses=_NOT_READY)
    async def model() -> ModelAnswer:
        return _model(_current(holder).predictor)


def _current(holder: Holder) -> Ready:
    ready = holder.ready
    if ready is None:
        raise failures.not_ready()
    return ready


async def _body(request: "Request", max_bytes: int, max_rows: int) -> bytes:
    """The body, unless it is too large: that is refused when it is announced, or else as soon as it shows."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise failures.too_large(max_bytes, max_rows)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise failures.too_large(max_bytes, max_rows)
    return bytes(body)


def _answer(ready: Ready, body: bytes, max_rows: int) -> PredictAnswer:
    # Read as JSON in one go with the checks: quicker than by way of Python's own parser, and stricter about numbers.
    try:
        rows = ready.request.model_validate_json(body).mappings()
    except ValidationError:
        answer = refusal(body, ready.request, ready.predictor.table, max_rows)
        raise failures.RefusalError(422, answer) from None
    return PredictAnswer(model=_name(ready.predictor), predictions=ready.predictor.predict(rows))


def _name(predictor: Predictor) -> ModelName:
    return ModelName(name=predictor.name, version=predictor.version)


def _model(predictor: Predictor) -> ModelAnswer:
    return ModelAnswer(
        name=predictor.name,
        version=predictor.version,
        bundle=predictor.bundle.digest,
        registered_at=predictor.created_at,
        cutoff=predictor.cutoff,
        columns=[
            ColumnAnswer(
                name=name,
                required=not column.nullable,
                category=column.is_category,
                expected=expected(column),
                **column.model_dump(include={"dtype", "values", "minimum", "maximum", "unit", "description"}),
            )
            for name, column in predictor.table.features.items()
        ],
        metrics=predictor.metrics,
    )


def _describe(app: "FastAPI", holder: Holder) -> None:
    """Let the OpenAPI document have the columns of the model that is in service when it is asked for."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        ready = holder.ready
        if ready is None:
            return document
        request = ready.request.model_json_schema(ref_template="#/components/schemas/{model}")
        parts = {**request.pop("$defs"), "PredictRequest": request}
        content = {"application/json": {"schema": {"$ref": "#/components/schemas/PredictRequest"}}}
        operation = {**document["paths"]["/v1/predict"]["post"], "requestBody": {"required": True, "content": content}}
        components = document["components"]
        return {
            **document,
            "paths": {**document["paths"], "/v1/predict": {"post": operation}},
            "components": {**components, "schemas": {**components["schemas"], **parts}},
        }

    app.openapi = openapi  # type: ignore[method-assign] # the way that FastAPI's manual tells to extend it


def run(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Load the model that the alias points to and serve it until SIGINT or SIGTERM; then answer what is under way.

    ``on_ready`` is called with the address once requests are answered there.

    Raises:
        UnreachableError: the registry does not answer, has no such version, or the port is in use.
        ConfigurationError: the host or the port cannot be.
        DataError: the bundle is damaged, or fails its golden rows.
    """
    app = create_app(load(settings), settings.serve.max_rows)
    found = listener.listen(settings.serve.host, settings.serve.port)
    faults: list[Exception] = []

    def announce() -> None:
        try:
            on_ready(listener.url(found))
        except Exception as error:  # the loop would not close with a listener open: shut down well, then raise
            faults.append(error)
            server.should_exit = True

    try:
        server = _server(app, announce)
        with _stopped_by_signals(server):
            server.run(sockets=[found])
    finally:
        listener.close(found)
    if faults:
        raise faults[0]


def _server(app: "FastAPI", announce: Callable[[], None]) -> "Server":
    import uvicorn

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            announce()

    return Announcing(
        uvicorn.Config(
            app,
            access_log=False,
            server_header=False,
            log_config=None,  # logs are for the caller to set up; a stack still finds its way to stderr
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
    )


@contextmanager
def _stopped_by_signals(server: "Server") -> Iterator[None]:
    """Let SIGINT and SIGTERM end the server and nothing else.

    uvicorn raises them once more after it has stopped, which would kill the process that has just shut down well.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_: int, __: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
