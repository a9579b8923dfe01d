"""A real model to serve, and a short way to ask the application."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx

from vehins import pipeline, settings
from vehins.serving.app import create_app
from vehins.serving.holder import Holder
from vehins.serving.keys import Keys
from vehins.settings.sections import ServeSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastapi import FastAPI

    from vehins.artifacts.runs import StageRecord
    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

GOOD = {
    "Gender": "Male",
    "Age": 44,
    "Driving_License": 1,
    "Region_Code": 28,
    "Previously_Insured": 0,
    "Vehicle_Age": "> 2 Years",
    "Vehicle_Damage": "Yes",
    "Annual_Premium": 40454.0,
    "Policy_Sales_Channel": 26,
    "Vintage": 217,
}


class Silent:
    """An observer who says nothing."""

    def waiting(self, holder: str) -> None: ...

    def started(self, stage: str) -> None: ...

    def progress(self, text: str, done: float = 0, total: float | None = None) -> None: ...

    def ended(self, record: StageRecord) -> None: ...

    def note(self, text: str) -> None: ...


def settings_in(folder: Path, **flags: str) -> Settings:
    """Settings of a workspace with a small model."""
    given = {"workspace": str(folder), "source": "demo://?rows=4000", "train.max_rounds": "30", "threads": "1"}
    return settings.load(given | flags).settings


def build(folder: Path, **flags: str) -> Settings:
    """Run the whole chain on a small demo, and return settings to serve its model."""
    loaded = settings_in(folder, **flags)
    report = pipeline.execute(loaded, pipeline.STAGES, Silent(), command="test")
    assert report.error is None
    return loaded


def app_of(predictor: Predictor | None, max_rows: int) -> FastAPI:
    """The application with a model; `app.state.holder` is where it keeps it."""
    holder = Holder(max_rows)
    holder.put(predictor)
    app = create_app(holder, ServeSettings(max_rows=max_rows))
    app.state.holder = holder
    return app


def guarded(predictor: Predictor, keys: Sequence[str] = (), **serve: Any) -> FastAPI:
    """The application with a model, some keys and some settings of the service."""
    holder = Holder(1_000)
    holder.put(predictor)
    return create_app(holder, ServeSettings(**serve), keys=Keys(keys))


def ask(app: FastAPI, method: str, path: str, **more: Any) -> httpx.Response:
    """One request to an application, without a socket."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **more)

    return asyncio.run(send())
