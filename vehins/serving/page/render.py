"""Templates and static files of the page."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from vehins import __version__
from vehins.serving.page import words
from vehins.serving.prose import prose

if TYPE_CHECKING:
    from jinja2 import Environment

STATIC = "/static/"
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_NAMES = ("page.css", "page.js", "icon.svg")


class Asset(NamedTuple):
    """A static file; its address changes with its content, so that a browser may keep it for ever."""

    path: str
    content: bytes
    media_type: str
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """The static files, by their names in the package."""
    folder = files("vehins.serving.page") / "static"
    return {name: _asset(name, (folder / name).read_bytes()) for name in _NAMES}


def _asset(name: str, content: bytes) -> Asset:
    digest = hashlib.sha256(content).hexdigest()[:16]
    stem, _, suffix = name.rpartition(".")
    return Asset(f"{STATIC}{stem}.{digest}.{suffix}", content, _TYPES[suffix], f'"{digest}"')


def html(template: str, **values: Any) -> bytes:
    """A page; every value is escaped."""
    text = _environment().get_template(template).render(values)
    return text.encode("utf-8", "replace")  # half a character that a form has sent


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vehins.serving.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(
        asset=lambda name: assets()[name].path, app_version=__version__, count=words.count, label=words.label
    )
    environment.filters.update(moment=words.moment, prose=prose)
    return environment
