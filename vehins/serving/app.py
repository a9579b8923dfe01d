"""The HTTP application: its endpoints, and the layers that every request passes on its way to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vehins import __version__
from vehins.serving import failures, openapi, predict, probes
from vehins.serving.ending import Ending
from vehins.serving.page import routes as page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI

    from vehins.serving.holder import Holder
    from vehins.serving.observer import Observer
    from vehins.settings.sections import ServeSettings


def create_app(holder: Holder, settings: ServeSettings, observers: Sequence[Observer] = ()) -> FastAPI:
    """Make the application. ``holder.put(...)`` replaces its model between two requests."""
    from fastapi import FastAPI

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
    predict.install(app, holder, observers)
    page.install(app, holder, settings, observers)
    openapi.install(app, holder)
    app.add_middleware(Ending, holder=holder)
    return app
