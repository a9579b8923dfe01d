"""The HTTP application: its endpoints, and the layers that every request passes on its way to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vehins import __version__
from vehins.serving import failures, openapi, predict, probes
from vehins.serving.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI

    from vehins.serving.holder import Holder
    from vehins.serving.observer import Observer
    from vehins.settings.sections import ServeSettings


def create_app(
    holder: Holder,
    settings: ServeSettings,
    observers: Sequence[Observer] = (),
    telemetry: Telemetry | None = None,
) -> FastAPI:
    """Make the application. ``holder.put(...)`` replaces its model between two requests.

    Without ``telemetry`` it counts, and logs nothing.
    """
    from fastapi import FastAPI

    telemetry = telemetry or Telemetry()
    app = FastAPI(
        title="vehins",
        version=__version__,
        description="Which customers would take the offer, by a model that has earned its place.",
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    failures.install(app)
    probes.install(app, holder)
    predict.install(app, holder, (*telemetry.observers, *observers))
    openapi.install(app, holder)
    telemetry.install(app, holder)  # the last layer is the outermost
    return app
