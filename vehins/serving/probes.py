"""What tells about the service and its model: the two probes, and the description of the model.

There is no ``from __future__ import annotations`` here: FastAPI reads the annotations of its endpoints when they are
defined, and the names in them are imported inside the functions, where it could not look them up by name.
"""

from typing import TYPE_CHECKING, Any

from vehins.serving import failures
from vehins.serving.answers import AliveAnswer, ColumnAnswer, ErrorAnswer, ModelAnswer, ModelName, ReadyAnswer
from vehins.serving.holder import Holder
from vehins.serving.predictor import Predictor
from vehins.serving.requests import expected

if TYPE_CHECKING:
    from fastapi import FastAPI

NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": ErrorAnswer, "description": "No model is loaded"}}


def install(app: "FastAPI", holder: Holder) -> None:
    """Add ``/healthz``, ``/readyz`` and ``/v1/model``."""

    @app.get("/healthz", tags=["probes"], summary="Whether the process is alive")
    async def healthz() -> AliveAnswer:
        return AliveAnswer()

    @app.get("/readyz", tags=["probes"], summary="Whether a verified model is loaded", responses=NOT_READY)
    async def readyz() -> ReadyAnswer:
        return ReadyAnswer(model=name(failures.current(holder).predictor))

    @app.get("/v1/model", tags=["model"], summary="What the model is and what it takes", responses=NOT_READY)
    async def model() -> ModelAnswer:
        return _model(failures.current(holder).predictor)


def name(predictor: Predictor) -> ModelName:
    """Which version answers."""
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
