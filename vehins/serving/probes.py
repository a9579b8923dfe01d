"""What tells about the service and its model: the two probes, and the description of the model.

There is no ``from __future__ import annotations`` here: FastAPI reads the annotations of its endpoints when they are
defined, and the names in them are imported inside the functions, where it could not look them up by name.
"""

from typing import TYPE_CHECKING, Any

from vehins.serving import failures
from vehins.serving.answers import (
    AliveAnswer,
    CheckAnswer,
    ColumnAnswer,
    ErrorAnswer,
    FailureAnswer,
    ModelAnswer,
    ModelName,
    ReadyAnswer,
    ServiceAnswer,
)
from vehins.serving.holder import Holder
from vehins.serving.predictor import Predictor
from vehins.serving.requests import expected
from vehins.serving.status import Status

if TYPE_CHECKING:
    from fastapi import FastAPI

NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": ErrorAnswer, "description": "No model is loaded"}}


def install(app: "FastAPI", holder: Holder) -> None:
    """Add ``/healthz``, ``/readyz`` and ``/v1/model``."""

    @app.get("/healthz", tags=["probes"], summary="Whether the process is alive", response_description="It is")
    async def healthz() -> AliveAnswer:
        return AliveAnswer()

    @app.get(
        "/readyz",
        tags=["probes"],
        summary="Whether a verified model is loaded",
        response_description="It is",
        responses=NOT_READY,
    )
    async def readyz() -> ReadyAnswer:
        if holder.leaving:
            raise failures.leaving()
        status = holder.status
        model = name(failures.current(holder).predictor)
        return ReadyAnswer(model=model, source=status.source, since=status.since, check=_check(status))

    for path, probe in (("/healthz", healthz), ("/readyz", readyz)):  # some load balancers ask without the body
        app.add_api_route(path, probe, methods=["HEAD"], include_in_schema=False)

    @app.get(
        "/v1/model",
        tags=["model"],
        summary="What the model is and what it takes",
        response_description="The model in service",
        responses=NOT_READY,
    )
    async def model() -> ModelAnswer:
        status = holder.status
        return _model(failures.current(holder).predictor, _service(status, pinned=holder.pinned))


def name(predictor: Predictor) -> ModelName:
    """Which version answers."""
    return ModelName(name=predictor.name, version=predictor.version)


def _check(status: Status) -> CheckAnswer | None:
    return None if status.check is None else CheckAnswer(at=status.check.at, fault=status.check.fault)


def _service(status: Status, *, pinned: bool) -> ServiceAnswer:
    last = status.failure
    failure = FailureAnswer(version=last.version, reason=last.reason, at=last.at) if last and last.reason else None
    return ServiceAnswer(
        source=status.source,
        since=status.since,
        pinned=pinned,
        check=_check(status),
        swaps=status.swaps,
        failed_swaps=status.failed,
        last_failure=failure,
    )


def _model(predictor: Predictor, service: ServiceAnswer) -> ModelAnswer:
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
        service=service,
    )
