"""The page of a process that serves, in a real browser, as a person meets it."""

from __future__ import annotations

import base64
import csv
import re
from typing import TYPE_CHECKING, Any

import pytest
from server_process import wait_until
from service_process import serving
from serving_models import GOOD
from test_form_page import spoilt

from vehins import scoring
from vehins.data import demo
from vehins.serving.page import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from chromium import Window

    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

# The browser itself says so of every answer that is a refusal.
REFUSED = "Failed to load resource: the server responded with a status of 422 (Unprocessable Entity)"
# The luminance of WCAG 2.2, and from it the contrast of two colours; what is transparent shows what lies below it.
FAINT = """
() => {
  const parts = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => parts(c).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const solid = (c) => { const p = parts(c); return p.length < 4 || p[3] === 1; };
  const below = (e) => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor; if (solid(c)) return c; } return "rgb(255, 255, 255)"; };
  const ratio = (one, other) => {
    const [a, b] = [light(one), light(other)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); };
  const found = [];
  for (const e of document.querySelectorAll("p, li, th, td, h1, h2, h3, a, code, label, input, select, button, span,"
      + " strong, caption, summary, time")) {
    if (!e.getClientRects().length || (!e.textContent.trim() && !e.value)) continue;
    const style = getComputedStyle(e);
    if (ratio(style.color, below(e)) < 4.5) found.push(`${e.tagName} ${e.textContent.trim().slice(0, 30)}`);
    if (e.matches("input:not([type=file]), select") && ratio(style.borderTopColor, below(e.parentElement)) < 3)
      found.push(`border of ${e.id}`);
  }
  return found;
}
"""
OUTSIDE = """
() => [...document.querySelectorAll("body *:not(.skip)")]
  .filter((e) => !e.closest(".table"))
  .map((e) => [e, e.getBoundingClientRect()])
  .filter(([e, r]) => r.width && (r.right > document.documentElement.clientWidth + 0.5 || r.left < -0.5))
  .map(([e, r]) => `${e.tagName} ${e.textContent.trim().slice(0, 30)} ${r.left} ${r.right}`)
"""
BROKEN = """
() => [...document.querySelectorAll(".table thead th, .table tbody th, .table code")].filter((e) => {
  const range = document.createRange();
  range.selectNodeContents(e);
  return range.getClientRects().length > 1;
}).map((e) => e.textContent)
"""
SMALL = """
() => [...document.querySelectorAll("input:not([type=checkbox]), select, button, .button")]
  .filter((e) => e.getClientRects().length && e.getBoundingClientRect().height < 44).map((e) => e.outerHTML)
"""
DROP = """
([text, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name, { type: "text/csv" }));
  for (const type of ["dragenter", "dragover", "drop"])
    document.getElementById("drop").dispatchEvent(
      new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: data }));
}
"""


@pytest.fixture(scope="module")
def url(browser: Any, served: Settings) -> Iterator[str]:
    """The address of a process that serves."""
    with serving(served, "--set", "serve.max_body_bytes=200000") as service:
        yield service.url


class Visit:
    """The page in a window of its own."""

    def __init__(self, window: Window, url: str) -> None:
        self.page, self.fetched, self.complaints = window.page, window.fetched, window.complaints
        self.url = url
        self.page.goto(url)

    def fill(self, **values: object) -> None:
        """Write into the fields of these columns, and ask."""
        for name, value in values.items():
            box = self.page.locator(f'[name="{name}"]')
            is_list = self.page.locator(f'select[name="{name}"]').count() == 1
            box.select_option(str(value)) if is_list else box.fill(str(value))
        self.page.get_by_role("button", name="Predict").click()

    def choose(self, name: str, data: bytes) -> None:
        self.page.get_by_label("CSV file").set_input_files({"name": name, "mimeType": "text/csv", "buffer": data})

    def check(self, *complaints: str) -> None:
        """Nothing came from elsewhere, and nothing was complained of but what is given."""
        # What the browser says may come after what it shows.
        wait_until(lambda: len(self.complaints) >= len(complaints) or self.page.wait_for_timeout(20))
        assert all(address.startswith((self.url + "/", f"blob:{self.url}/")) for address in self.fetched)
        assert self.complaints == list(complaints)


@pytest.fixture
def visit(window: Callable[..., Window], url: str) -> Callable[..., Visit]:
    """Opens the page."""

    def open_page(width: int = 1280, theme: str = "light", scripts: bool = True) -> Visit:
        screen = {"width": width, "height": 800}
        return Visit(window(viewport=screen, color_scheme=theme, java_script_enabled=scripts), url)

    return open_page


@pytest.fixture(scope="module")
def customers() -> bytes:
    return next(demo.batches(120, 5)).write_csv().encode()


@pytest.mark.parametrize("scripts", [True, False])
def test_one_customer(visit: Any, predictor: Predictor, scripts: bool) -> None:
    found = visit(scripts=scripts)
    found.fill(**GOOD)
    [wanted] = predictor.predict([GOOD])
    heading = found.page.get_by_role("heading", name="Contact this customer" if wanted.contact else "Do not contact")
    heading.wait_for()
    answer = found.page.get_by_role("region", name=heading.inner_text())
    assert f"{words.percent(wanted.probability)}\nprobability of a yes" in answer.inner_text()
    assert words.percentile(wanted.percentile) in answer.inner_text()
    assert answer.get_by_role("img", name=f"Probability {words.percent(wanted.probability)}").count() == 1
    assert answer.get_by_role("list", name="What moved the score most").get_by_role("listitem").count() == 5
    assert found.page.get_by_label("Age", exact=True).input_value() == "44"
    assert found.page.title().startswith(words.percent(wanted.probability))
    if scripts:
        assert found.page.evaluate("() => document.activeElement.id") == "answer-title"
    found.check()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_wrong_value(visit: Any, scripts: bool) -> None:
    found = visit(scripts=scripts)
    found.fill(Age=7, Annual_Premium="40.454,50")
    alert = found.page.get_by_role("alert", name="2 values cannot be used")
    alert.wait_for()
    age = found.page.get_by_label("Age", exact=True)
    assert (age.input_value(), age.get_attribute("aria-invalid")) == ("7", "true")
    [fault, hint] = age.get_attribute("aria-describedby").split()
    assert found.page.locator(f"#{fault}").inner_text() == "Must be a whole number from 18 to 120, not 7."
    assert found.page.locator(f"#{hint}").inner_text() == "Age of the customer, in years, 18 to 120"
    assert "write decimals with a point" in alert.inner_text()
    if scripts:
        assert found.page.evaluate("() => document.activeElement.textContent") == "2 values cannot be used"
    alert.get_by_role("link", name="Age").click()
    found.page.locator('[name="Age"]:focus').wait_for()
    found.page.keyboard.press("Control+A")
    found.page.keyboard.type("47")
    assert age.input_value() == "47"
    found.fill(Annual_Premium="40454.5")
    found.page.get_by_text("probability of a yes").wait_for()
    found.check(REFUSED)


@pytest.mark.parametrize("way", ["chosen", "dropped", "without scripts"])
def test_a_file_there_and_back(visit: Any, served: Settings, customers: bytes, tmp_path: Path, way: str) -> None:
    source, target, saved = tmp_path / "customers.csv", tmp_path / "scores.csv", tmp_path / "saved.csv"
    source.write_bytes(customers)
    scoring.score(served.model_copy(update={"source": str(source)}), str(target), scoring.Wish())
    found = visit(scripts=way != "without scripts")
    with found.page.expect_download() as download:
        if way == "dropped":
            found.page.evaluate(DROP, [base64.b64encode(customers).decode(), "customers.csv"])
        else:
            found.choose("customers.csv", customers)
            found.page.get_by_role("button", name="Score the file").click()
    assert download.value.suggested_filename == "customers-scores.csv"
    download.value.save_as(saved)
    read = [list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) for path in (saved, target)]
    probabilities = [[(row["id"], float(row["probability"]), row["contact"]) for row in rows] for rows in read]
    assert probabilities[0] == probabilities[1]
    assert len(probabilities[0]) == 120
    if way != "without scripts":
        status = found.page.get_by_role("status")
        status.get_by_text("Done: 120 rows scored. customers-scores.csv is among your downloads.").wait_for()
    found.check()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_file_with_bad_rows(visit: Any, customers: bytes, tmp_path: Path, scripts: bool) -> None:
    found = visit(scripts=scripts)
    found.choose("customers.csv", spoilt(customers))
    found.page.get_by_role("button", name="Score the file").click()
    alert = found.page.get_by_role("alert", name="2 of 120 rows cannot be scored")
    alert.wait_for()
    assert alert.get_by_role("table", name="Rows that cannot be scored").get_by_role("row").count() == 4
    assert alert.get_by_role("row").nth(1).inner_text().split("\t")[:3] == ["4", "Age", "7"]
    if scripts:
        assert found.page.evaluate("() => document.activeElement.id") == "wrong-title"
    with found.page.expect_download() as download:
        alert.get_by_role("button", name="Score the other 118 rows").click()
    download.value.save_as(tmp_path / "saved.csv")
    rows = list(csv.DictReader((tmp_path / "saved.csv").read_text(encoding="utf-8").splitlines()))
    assert [bool(row["probability"]) for row in rows].count(True) == 118
    assert next(row["fault"] for row in rows if row["fault"]) == "Age must be a whole number from 18 to 120, not 7"
    if scripts:
        found.page.get_by_role("status").get_by_text("Done: 118 rows scored, 2 without a score.").wait_for()
        assert alert.count() == 0
    found.check(REFUSED)


def test_no_word_is_broken_in_the_list_of_bad_rows(visit: Any, customers: bytes) -> None:
    lines = customers.decode().split("\n")
    row = dict(zip(lines[0].split(","), lines[3].split(","), strict=True))
    row |= {"Annual_Premium": '"40.454,50"', "Driving_License": "", "Policy_Sales_Channel": "x" * 60}
    lines[3] = ",".join(row.values())
    found = visit()
    found.choose("customers.csv", "\n".join(lines).encode())
    found.page.get_by_role("button", name="Score the file").click()
    found.page.get_by_role("alert", name="One of 120 rows cannot be scored").wait_for()
    assert found.page.evaluate(BROKEN) == []
    found.check(REFUSED)


def test_a_file_too_large_is_not_even_sent(visit: Any) -> None:
    found = visit()
    found.choose("customers.csv", b"x" * 200_001)
    found.page.get_by_role("status").get_by_text("The file is too large").wait_for()
    found.page.get_by_role("button", name="Score the file").click()
    found.check()
    assert all("scores.csv" not in address for address in found.fetched)


def test_a_service_that_is_gone_is_told_of(visit: Any, customers: bytes) -> None:
    found = visit()
    found.page.route("**/scores.csv", lambda route: route.abort())
    found.choose("customers.csv", customers)
    found.page.get_by_role("button", name="Score the file").click()
    found.page.get_by_role("status").get_by_text("The service could not be reached").wait_for()
    assert found.page.get_by_role("button", name="Score the file").is_enabled()


def test_the_keyboard_is_enough(visit: Any) -> None:
    found = visit()
    page, seen = found.page, []
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the form"
    page.keyboard.press("Enter")
    for _ in range(11):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("() => document.activeElement.name || document.activeElement.textContent"))
        outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", seen[-1]
        if seen[-1] == "Age":
            page.keyboard.type("51")
        if seen[-1] == "Vehicle_Damage":
            page.keyboard.press("ArrowUp")
    assert seen == [*GOOD, "Predict"]
    page.keyboard.press("Enter")
    page.get_by_text("probability of a yes").wait_for()
    assert page.get_by_label("Age", exact=True).input_value() == "51"
    found.check()


def test_a_reader_who_does_not_see_is_told_the_same(visit: Any, predictor: Predictor) -> None:
    page = visit().page
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("heading", level=1).inner_text() == "Will this customer say yes?"
    customer = page.get_by_role("group", name="One customer")
    assert customer.get_by_role("combobox").or_(customer.get_by_role("textbox")).count() == len(
        predictor.table.features
    )
    assert customer.get_by_role("combobox", name="Vehicle age").get_by_role("option").all_inner_texts() == [
        "< 1 Year",
        "1-2 Year",
        "> 2 Years",
    ]
    assert customer.get_by_role("textbox", name="Vintage").get_attribute("inputmode") == "numeric"
    tree = page.locator("body").aria_snapshot()
    for line in (
        r'- textbox "Age"',
        r'- combobox "Previously insured"',
        r'- button "Predict"',
        r'- group "Many customers"',
        r'- button "CSV file"',
        r'- checkbox "Tell the strongest reasons"',
        r'- button "Score the file"',
    ):
        assert line in tree
    unnamed = re.findall(r"- (?:textbox|combobox|button|checkbox|link)(?: \[[^]]*\])*(?::.*)?$", tree, re.MULTILINE)
    assert unnamed == []


@pytest.mark.parametrize(("width", "theme"), [(360, "dark"), (400, "light"), (1280, "light"), (1280, "dark")])
def test_it_fits_any_screen_and_can_be_read(visit: Any, customers: bytes, width: int, theme: str) -> None:
    found = visit(width, theme)
    page = found.page

    def looks_well() -> None:
        page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        assert page.evaluate(OUTSIDE) == []
        assert page.evaluate(FAINT) == []
        assert page.evaluate(SMALL) == []

    looks_well()
    found.fill(**GOOD)
    page.get_by_text("probability of a yes").wait_for()
    looks_well()
    found.fill(Age="Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 3)
    page.get_by_role("alert").wait_for()
    looks_well()
    found.choose("customers.csv", spoilt(customers))
    page.get_by_role("button", name="Score the file").click()
    page.get_by_role("alert", name="2 of 120 rows cannot be scored").wait_for()
    looks_well()
    background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (int(background.split("(")[1].split(",")[0]) < 128) == (theme == "dark")
    found.check(REFUSED, REFUSED)


def test_the_answer_can_be_printed(visit: Any) -> None:
    found = visit(theme="dark")
    found.fill(**GOOD)
    found.page.get_by_text("probability of a yes").wait_for()
    found.page.emulate_media(media="print")
    assert found.page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not found.page.get_by_role("button", name="Predict").is_visible()
    assert found.page.get_by_text("probability of a yes").is_visible()
