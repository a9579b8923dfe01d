"""The page in a real browser: nothing is fetched, nothing complained of, nothing wider than the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import report_samples as samples

from vehins.report import page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chromium import Window

PAGES = ("accepted", "nothing", "compared")
# The luminance of WCAG 2.2, and from it the contrast of two colours; what is transparent shows what lies below it.
CONTRAST = """
() => {
  const parts = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => parts(c).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const solid = (c) => { const p = parts(c); return p.length < 4 || p[3] === 1; };
  const below = (e) => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor; if (solid(c)) return c; } return "rgb(255, 255, 255)"; };
  const found = [];
  for (const e of document.querySelectorAll("p, li, td, th, dt, dd strong, dd span, h1, h2, h3, a, code, .mark, text,"
      + " caption, figcaption, summary")) {
    if (!e.textContent.trim() || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(e.tagName === "text" ? style.fill : style.color), light(below(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${e.tagName} ${e.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return found;
}
"""
# Charts may let a label reach a few pixels into the white around them, and never beyond what the screen shows.
OUTSIDE = """
() => [...document.querySelectorAll("body *")]
  .filter((e) => !e.closest(".table"))
  .map((e) => [e, e.getBoundingClientRect()])
  .filter(([e, r]) => r.width && (r.right > document.documentElement.clientWidth + 0.5 || r.left < -0.5))
  .map(([e, r]) => `${e.tagName} ${e.textContent.trim().slice(0, 30)} ${r.left} ${r.right}`)
"""
OVERLAPS = """
() => {
  const found = [];
  for (const axis of document.querySelectorAll(".axis.x")) {
    const boxes = [...axis.querySelectorAll("text")].map((t) => t.getBoundingClientRect()).filter((b) => b.width);
    boxes.sort((a, b) => a.left - b.left);
    boxes.slice(1).forEach((b, i) => { if (b.left < boxes[i].right) found.push(axis.closest("svg").textContent); });
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of reports."""
    other = samples.story(number=2, champion=False, noise=0.7)
    made = {
        "accepted": page.of_run(samples.story(), "d"),
        "nothing": page.of_run(samples.story("ingest", status="failed", outcome="failed", reason="No file"), "d"),
        "compared": page.of_two(samples.story(), other, samples.difference(), "d"),
    }
    folder = tmp_path_factory.mktemp("pages")
    for name, found in made.items():
        (folder / f"{name}.html").write_text(page.render(found), encoding="utf-8")
    return folder


@pytest.fixture
def opened(window: Callable[..., Window], pages: Path) -> Callable[..., Window]:
    """Opens pages on a screen without a network."""

    def open_page(name: str, width: int = 400, theme: str = "light") -> Window:
        found = window(viewport={"width": width, "height": 800}, color_scheme=theme, offline=True)
        found.page.goto((pages / f"{name}.html").as_uri())
        return found

    return open_page


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 400, 1100])
def test_it_fits_any_screen_and_needs_no_network(name: str, theme: str, width: int, opened: Any) -> None:
    found = opened(name, width, theme)
    found.page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert found.page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert found.page.evaluate(OUTSIDE) == []
    assert found.page.evaluate(OVERLAPS) == []
    assert found.fetched == [found.page.url]
    assert found.complaints == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read(name: str, theme: str, opened: Any) -> None:
    found = opened(name, 1100, theme)
    found.page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert found.page.evaluate(CONTRAST) == []
    backgrounds = found.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (int(backgrounds.split("(")[1].split(",")[0]) < 128) == (theme == "dark")


def test_a_reader_who_does_not_see_is_told_the_same(opened: Any) -> None:
    found = opened("accepted").page
    headings = found.get_by_role("heading", level=1)
    assert headings.inner_text() == "Accepted: version 4 of vehicle-insurance is in production"
    assert found.get_by_role("main").count() == 1
    assert found.get_by_role("navigation", name="Sections").get_by_role("link").count() == 9
    for name in ("ROC curve", "Profit by the number of calls", "Calibration: predicted and observed"):
        chart = found.get_by_role("img", name=name)
        assert chart.count() == 1
    assert found.get_by_role("table", name="Rules of the gate").get_by_role("row").count() == 4
    assert found.get_by_role("region", name="What the gate asked").count() == 1


def test_a_link_leads_to_its_section(opened: Any) -> None:
    found = opened("accepted").page
    found.get_by_role("link", name="What the model looks at").click()
    found.wait_for_function("() => Math.abs(document.getElementById('drivers').getBoundingClientRect().top) < 100")


def test_it_prints_with_all_its_details(opened: Any) -> None:
    found = opened("accepted", 1100, "dark").page
    found.emulate_media(media="print")
    assert found.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not found.get_by_role("navigation").is_visible()
    assert found.get_by_role("cell", name="0888bb8").is_visible()
    assert found.evaluate(CONTRAST) == []
