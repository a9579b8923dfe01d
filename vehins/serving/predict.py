"""``POST /v1/predict``: rows in, predictions out, and nothing between that is not needed.

There is no ``from __future__ import annotations`` here: FastAPI reads the annotations of its endpoints when they are
defined, and the names in them are imported inside the functions, where it could not look them up by name.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from vehins.serving import failures
from vehins.serving.answers import ErrorAnswer, PredictAnswer, RefusedAnswer
from vehins.serving.holder import Holder, Ready
from vehins.serving.observer import Observer
from vehins.serving.probes import NOT_READY, name
from vehins.serving.refusals import refusal

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

# Requests larger than this are answered in a thread, so that the others and the probes need not wait.
_ASIDE_BYTES = 16 * 1024
_REFUSED: dict[int | str, dict[str, Any]] = {
    413: {"model": ErrorAnswer, "description": "The request is too large"},
    422: {"model": RefusedAnswer, "description": "The request cannot be used"},
    **NOT_READY,
}


def install(app: "FastAPI", holder: Holder, observers: Sequence[Observer]) -> None:
    """Add the endpoint; the observers hear of every request that is answered or refused."""
    from fastapi import Request
    from starlette.concurrency import run_in_threadpool

    @app.post("/v1/predict", tags=["model"], summary="Predict some customers", responses=_REFUSED)
    async def predict(request: Request) -> PredictAnswer:
        ready = failures.current(holder)
        body = await _body(request, ready.max_bytes, holder.max_rows)
        if len(body) > _ASIDE_BYTES:
            return await run_in_threadpool(_answer, ready, body, holder.max_rows, observers)
        return _answer(ready, body, holder.max_rows, observers)


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


def _answer(ready: Ready, body: bytes, max_rows: int, observers: Sequence[Observer]) -> PredictAnswer:
    # Read as JSON in one go with the checks: quicker than by way of Python's own parser, and stricter about numbers.
    try:
        rows = ready.request.model_validate_json(body).mappings()
    except ValidationError:
        answer = refusal(body, ready.request, ready.predictor.table, max_rows)
        for observer in observers:
            observer.refused(ready, answer.rows)
        raise failures.RefusalError(422, answer) from None
    predictions = ready.predictor.predict(rows)
    for observer in observers:
        observer.answered(ready, rows, predictions)
    return PredictAnswer(model=name(ready.predictor), predictions=predictions)
