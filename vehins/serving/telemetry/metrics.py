"""The metrics of the service, in Prometheus' names and units."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from vehins.serving.telemetry import processes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vehins.data.schema import Scalar
    from vehins.serving.answers import BadCell
    from vehins.serving.holder import Ready
    from vehins.serving.predictor import Prediction
    from vehins.serving.status import SwapOutcome

OTHER = "other"
"""Stands for columns and methods that are not known: whoever asks must not be able to make up time series."""
UNMATCHED = "unmatched"
"""Stands for addresses that lead nowhere."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
LATENCY_SECONDS = (
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
SCORES = (0.01, 0.02, 0.05, *(step / 10 for step in range(1, 11)))


class Metrics:
    """Counts what the service does; an observer of its endpoints, and what the outermost layer counts requests by.

    All methods may be called on any thread, return at once and do not raise.
    """

    def __init__(self) -> None:
        import prometheus_client as prometheus

        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = prometheus.CollectorRegistry()
        made = _Made(self.registry)
        self._requests = made.counter("http_requests", "Requests answered.", ("route", "method", "status"))
        self._latency = made.histogram(
            "http_request_duration_seconds", "From the head of a request to the end of its answer.",
            LATENCY_SECONDS, ("route", "method"),
        )  # fmt: skip
        self.in_progress = made.gauge("http_requests_in_progress", "Requests under way.", (), "livesum")
        self._rows = made.counter("predicted_rows", "Rows predicted.")
        self._scores = made.histogram("predicted_probability", "Probabilities that were answered.", SCORES)
        self._refused = made.counter("refused_rows", "Rows refused for a value of this column.", ("column",))
        about = ("name", "version", "bundle")
        self._model = made.gauge("model_info", "1 for the model in service, 0 for one before it.", about, "livemax")
        self._registered = made.gauge(
            "model_registered_timestamp_seconds", "When the model in service was registered.", (), "livemax"
        )
        self._trained = made.gauge(
            "model_trained_timestamp_seconds", "When the model in service was trained.", (), "livemax"
        )
        self._swaps = made.counter("model_swaps", "Attempts to take another version into service.", ("result",))
        self._kept = made.counter("prediction_log_rows", "Rows written to the prediction log.")
        self._dropped_rows = made.counter(
            "prediction_log_dropped_rows", "Rows that the prediction log has not kept.", ("reason",)
        )
        self._dropped_lines = made.counter("log_dropped_lines", "Lines of the log that were not written.")
        self.families = made.families
        self._told: Any = None
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        self._start()

    def _start(self) -> None:
        """Have the series that are known beforehand from the start: a rate needs a zero to rise from."""
        for result in ("ok", "failed"):
            self._swaps.labels(result)
        for reason in ("queue", "disk", "fault"):
            self._dropped_rows.labels(reason)

    def requested(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered."""
        method = method if method in METHODS else OTHER
        children = self._children.get((route, method, status))
        if children is None:
            children = self._requests.labels(route, method, status), self._latency.labels(route, method)
            self._children[route, method, status] = children
        counter, latency = children
        counter.inc()
        latency.observe(seconds)

    def answered(
        self, ready: Ready, rows: Sequence[Mapping[str, Scalar | None]], predictions: Sequence[Prediction]
    ) -> None:
        """Some rows were predicted."""
        if ready is not self._told:
            self.in_service(ready)
        self._rows.inc(len(rows))
        if len(predictions) == 1:
            self._scores.observe(predictions[0].probability)
        else:
            self._scores.observe_all([prediction.probability for prediction in predictions])

    def refused(self, ready: Ready, cells: Sequence[BadCell]) -> None:
        """A request was refused; of the rows, those are counted that the answer names."""
        known = ready.predictor.table.features
        for _, column in {(cell.row, cell.column if cell.column in known else OTHER) for cell in cells}:
            self._refused.labels(column).inc()

    def swapped(self, outcome: SwapOutcome) -> None:
        """Another version was taken into service, or could not be."""
        self._swaps.labels("ok" if outcome.ok else "failed").inc()

    def in_service(self, ready: Ready | None) -> None:
        """Tell which model answers."""
        before, self._told = self._told, ready
        if before is ready:
            return
        if before is not None:
            self._model.labels(*_about(before)).set(0)
        if ready is not None:
            predictor = ready.predictor
            self._model.labels(*_about(ready)).set(1)
            self._registered.set(predictor.created_at.timestamp())
            self._trained.set(predictor.trained_at.timestamp() if predictor.trained_at else 0)

    def rows_kept(self, rows: int) -> None:
        """Some rows stand in the prediction log."""
        self._kept.inc(rows)

    def rows_dropped(self, rows: int, reason: str) -> None:
        """Some rows never will: the ``queue`` was full, the ``disk`` took none, or it is a ``fault`` of ours."""
        self._dropped_rows.labels(reason).inc(rows)

    def line_dropped(self) -> None:
        """A line of the log was dropped."""
        self._dropped_lines.inc()

    def page(self, accept: str) -> tuple[bytes, str]:
        """All metrics, and the content type that they are written in."""
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        return encode(processes.readable(self.registry)), content_type


def _about(ready: Ready) -> tuple[str, int, str]:
    predictor = ready.predictor
    return predictor.name, predictor.version, predictor.bundle.digest[:12]


class Family(NamedTuple):
    """A metric as the documentation lists it."""

    kind: str
    labels: tuple[str, ...]
    text: str


class _Made:
    """Makes metrics with the names of this service."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry
        self.families: dict[str, Family] = {}
        """Each metric by its name."""

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Any:
        import prometheus_client as prometheus

        self.families[f"vehins_{name}_total"] = Family("counter", tuple(labels), text)
        return prometheus.Counter(name, text, labels, namespace="vehins", registry=self._registry)

    def gauge(self, name: str, text: str, labels: Sequence[str], workers: Any) -> Any:
        from prometheus_client import Gauge

        self.families[f"vehins_{name}"] = Family("gauge", tuple(labels), text)
        return Gauge(name, text, labels, namespace="vehins", registry=self._registry, multiprocess_mode=workers)

    def histogram(self, name: str, text: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> Any:
        self.families[f"vehins_{name}"] = Family("histogram", tuple(labels), text)
        return _histogram()(name, text, labels, namespace="vehins", registry=self._registry, buckets=bounds)


def _histogram() -> Any:
    """Prometheus' histogram, which also takes many values in one go."""
    from prometheus_client import Histogram

    class Many(Histogram):
        def observe_all(self, amounts: Sequence[float]) -> None:
            # Without numpy, which nothing else in a service needs; a bucket has its upper bound in it.
            for place, count in Counter(map(partial(bisect_left, self._upper_bounds), amounts)).items():
                self._buckets[place].inc(count)
            self._sum.inc(sum(amounts))

    return Many
