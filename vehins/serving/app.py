"""The HTTP application: its endpoints, and the layers that every request passes on its way to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vehins import __version__
from vehins.serving import failures, openapi, predict, probes, reference
from vehins.serving.access import Access
from vehins.serving.ending import Ending
from vehins.serving.headers import SecurityHeaders, cross_origin
from vehins.serving.keys import Keys
from vehins.serving.limits import Limits
from vehins.serving.page import routes as page
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
    keys: Keys | None = None,
    telemetry: Telemetry | None = None,
) -> FastAPI:
    """Make the application. ``holder.put(...)`` replaces its model between two requests.

    Without ``telemetry`` it counts, and logs nothing.

    Raises:
        SettingsError: the hosts, the origins or the proxies of the settings cannot be.
    """
    from fastapi import FastAPI

    telemetry = telemetry or Telemetry()
    app = FastAPI(
        title="vehins",
        version=__version__,
        description="Which customers would take the offer, by a model that has earned its place.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        # Otherwise it would look for OpenTelemetry at each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    failures.install(app)
    probes.install(app, holder)
    told = (*telemetry.observers, *observers)
    predict.install(app, holder, told)
    page.install(app, holder, settings, told)
    openapi.install(app, holder, has_keys=bool(keys))
    reference.install(app)
    _add_layers(app, holder, settings, keys or Keys())
    telemetry.install(app, holder)  # the last layer is the outermost
    app.middleware_stack = app.build_middleware_stack()  # now and not at the first request: a setting may be at fault
    return app


def _add_layers(app: FastAPI, holder: Holder, settings: ServeSettings, keys: Keys) -> None:
    """Put the layers around the application; the last one here is the first that a request meets."""
    app.add_middleware(Access, keys=keys, settings=settings)
    app.add_middleware(Limits, settings=settings)
    app.add_middleware(cross_origin, settings=settings)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Ending, holder=holder)
