"""A person with a browser: it asks for the key, loads nothing from elsewhere, and keeps pages of other sites out."""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from service_process import Service, serving
from serving_models import GOOD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from chromium import Window

    from vehins.settings import Settings

KEY = "c0ffee" * 6
ASK = "(body) => fetch('/v1/predict', {method: 'POST', body}).then(answer => answer.status)"


@pytest.fixture(scope="module")
def service(served: Settings) -> Iterator[Service]:
    with serving(served, env={"VEHINS_API_KEYS": KEY}) as found:
        yield found


@pytest.fixture
def known(window: Callable[..., Window]) -> Window:
    """A window whose browser knows the key as the password of a person."""
    return window(http_credentials={"username": "me", "password": KEY})


def test_the_reference_page(service: Service, known: Window) -> None:
    page = known.page
    page.goto(service.url + "/docs")
    assert page.get_by_role("heading", level=1).inner_text().startswith("vehins")
    assert page.get_by_role("link", name="POST /v1/predict").is_visible()
    assert page.get_by_role("cell", name="Age of the customer, in years").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('section')).borderStyle") == "solid"
    assert page.evaluate(ASK, json.dumps({"rows": [GOOD]})) == 200
    assert known.complaints == []
    assert all(url.startswith((service.url, "data:")) for url in known.fetched)
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_browser_without_the_key_sees_nothing(service: Service, window: Callable[..., Window]) -> None:
    stranger = window(http_credentials={"username": "me", "password": "wrong" * 5})
    assert stranger.page.goto(service.url + "/docs").status == 401


def test_a_page_of_another_site_cannot_use_the_password(service: Service, known: Window, tmp_path: Path) -> None:
    """It can send a form, with the password that the browser knows; the service hears where it comes from."""
    value = json.dumps({"rows": [GOOD], "x": 0}).replace('"', "&quot;")
    form = f'<form method="post" enctype="text/plain" action="{service.url}/v1/predict"><input name="{value}"></form>'
    (tmp_path / "evil.html").write_text(form)
    page = known.page
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(tmp_path))) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page.goto(service.url + "/docs")  # the browser knows the password from here on
        page.goto(f"http://127.0.0.1:{other.server_port}/evil.html")
        with page.expect_navigation() as seen:
            page.evaluate("document.forms[0].submit()")
        assert seen.value.status == 403
        assert page.evaluate(f"fetch('{service.url}/v1/model').catch(() => 'kept out')") == "kept out"
        other.shutdown()
