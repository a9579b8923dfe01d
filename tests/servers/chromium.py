"""A real browser, and pages in it that keep all that was fetched for them and complained of.

VEHINS_TEST_CHROMIUM names a Chromium; else one of the PATH is taken. The tests are skipped where there is none.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage")
_MILLISECONDS = 90_000  # the machine may be busy


class Window:
    """A window of a browser of its own, with one page."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.context.set_default_timeout(_MILLISECONDS)
        self.page = self.context.new_page()
        self.fetched: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.fetched.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium; not for longer than a module, as Playwright has a loop in this thread as long as it is there."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    found = os.environ.get("VEHINS_TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("There is no Chromium here (`apt-get install chromium`, or name one in VEHINS_TEST_CHROMIUM)")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=ARGUMENTS, timeout=_MILLISECONDS)
        yield started
        started.close()


@pytest.fixture
def window(browser: Any) -> Iterator[Callable[..., Window]]:
    """Opens a window with the options of Playwright's `new_context`, and closes it afterwards."""
    opened: list[Window] = []

    def open_window(**options: Any) -> Window:
        opened.append(Window(browser.new_context(**options)))
        return opened[-1]

    yield open_window
    for found in opened:
        found.context.close()
