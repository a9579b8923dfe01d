"""All that the service tells of itself, opened and closed as one."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from vehins.serving.telemetry import access
from vehins.serving.telemetry.exchange import Exchange, current
from vehins.serving.telemetry.layer import TelemetryLayer
from vehins.serving.telemetry.logs import json_logs
from vehins.serving.telemetry.metrics import OTHER, UNMATCHED, Metrics
from vehins.serving.telemetry.predictions import PredictionLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fastapi import FastAPI, Request, Response
    from starlette.types import Scope

    from vehins.data.schema import Scalar
    from vehins.serving.answers import BadCell
    from vehins.serving.holder import Holder, Ready
    from vehins.serving.observer import Observer
    from vehins.serving.predictor import Prediction
    from vehins.serving.status import SwapOutcome
    from vehins.serving.telemetry.exchange import Refusal
    from vehins.settings import Settings


class Telemetry:
    """Metrics, and where the lines of the access log go (nowhere by default); an application has one of its own."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        write: Callable[[bytes], None] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.metrics = metrics or Metrics()
        self._write = write
        self.observers: tuple[Observer, ...] = (_Noting(), self.metrics, *observers)
        """Who is to hear of predictions, refusals and swaps."""

    def install(self, app: FastAPI, holder: Holder) -> None:
        """Add ``/metrics``, and the layer around all that has been added so far."""
        _add_metrics(app, holder, self.metrics)
        app.add_middleware(TelemetryLayer, metrics=self.metrics, write=self._write)

    def refused(self, scope: Scope, refusal: Refusal, seconds: float) -> None:
        """Count and log what its connection refused before the application heard of it.

        Of ``scope``, the method and the path are None where they are not known.
        """
        self.metrics.requested(UNMATCHED, scope["method"] or OTHER, refusal.status, seconds)
        if self._write is not None:
            exchange = Exchange(refusal.request_id, _nothing, _nothing)
            exchange.refused(refusal)
            self._write(access.line(scope, exchange, refusal.status, seconds))


async def _nothing(*_: Any) -> Any:
    """Is neither received nor sent by the application."""


class _Noting:
    """Notes for the access log what was predicted."""

    def answered(
        self,
        ready: Ready,
        rows: Sequence[Mapping[str, Scalar | None]],
        predictions: Sequence[Prediction],  # noqa: ARG002
    ) -> None:
        exchange = current.get()
        if exchange is not None:
            exchange.rows, exchange.model_version = len(rows), ready.predictor.version

    def refused(self, ready: Ready, cells: Sequence[BadCell]) -> None: ...

    def swapped(self, outcome: SwapOutcome) -> None: ...


def _add_metrics(app: FastAPI, holder: Holder, metrics: Metrics) -> None:
    from fastapi import Request, Response

    def page(request: Request) -> Response:
        metrics.in_service(holder.ready)
        body, content_type = metrics.page(request.headers.get("accept", ""))
        return Response(body, media_type=content_type)

    # FastAPI reads annotations, which this module keeps as texts. Not `async`: it reads files when workers are many.
    page.__annotations__ = {"request": Request, "return": Any}
    app.add_api_route("/metrics", page, include_in_schema=False)


@contextmanager
def opened(settings: Settings) -> Iterator[Telemetry]:
    """Everything that the settings ask for, for one process that serves; written out and closed at the end.

    What is still to be written then has ``serve.drain_seconds``.

    Raises:
        StorageError: the folder of the prediction log cannot be written to.
    """
    with ExitStack() as stack:
        metrics = Metrics()
        writer = stack.enter_context(json_logs(settings.serve.drain_seconds, metrics.line_dropped))
        kept = []
        if settings.prediction_log is not None:
            kept.append(PredictionLog(settings.prediction_log, metrics))
            stack.callback(kept[0].close, settings.serve.drain_seconds)
        yield Telemetry(metrics, writer.write if settings.serve.access_log else None, kept)
