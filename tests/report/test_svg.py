"""Charts: readable without a picture, coloured by the page, and nothing in them that fetches or runs."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vehins.report import svg
from vehins.report.svg import Axis, Bars, Series

X = Axis("Customers (%)", lambda x: f"{x:g}%", (0, 1))
Y = Axis("Profit (k)", lambda y: f"{y:g}")
LINE = Series("this model", "first", [(0.0, 0.0), (0.5, 3.25), (1.0, 4.123456)])
Finite = st.floats(-1e9, 1e9, allow_nan=False)


def drawn(text: str) -> ET.Element:
    return ET.fromstring(text)


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter("text")]


def test_a_chart_says_what_it_is() -> None:
    root = drawn(svg.plot("gains", "Gains & lift", "It <rises>.", X, Y, [LINE]))
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", "gains-title gains-desc")
    assert (root.find("title").text, root.find("title").get("id")) == ("Gains & lift", "gains-title")
    assert (root.find("desc").text, root.find("desc").get("id")) == ("It <rises>.", "gains-desc")
    assert {"Customers (%)", "Profit (k)"} <= set(texts(root))


def test_nothing_in_it_fetches_runs_or_fixes_a_colour() -> None:
    for text in (svg.plot("a", "A", "B", X, Y, [LINE]), svg.bars("b", "A", "B", ["x"], Y, [Bars("n", "first", [1.0])])):
        tags = {element.tag for element in drawn(text).iter()}
        assert tags <= {"svg", "title", "desc", "g", "path", "text", "rect", "circle"}
        assert not re.search(r"\b(href|src|style|fill|stroke|on\w+)=|url\(|://|<!--", text)


def test_the_style_of_each_series_is_a_class() -> None:
    dots = Series("dots", "second interval", [(0.2, 1.0)], "dots", ["20%: 1"])
    root = drawn(svg.plot("a", "A", "B", X, Y, [LINE, dots]))
    classes = {element.get("class") for element in root.iter("g")}
    assert {"series first", "series second interval"} <= classes
    assert not any("serie-" in (name or "") or "color-" in (name or "") for name in classes)
    (dot,) = root.iter("circle")
    assert [element.text for element in root.iter("title")] == ["A", "20%: 1"]
    assert float(dot.get("r")) > 2


def test_a_line_breaks_where_there_is_nothing() -> None:
    broken = Series("interval", "interval", [(0.1, 1.0), (0.1, 2.0), None, (0.5, 1.0), (0.5, 3.0)])
    root = drawn(svg.plot("a", "A", "B", X, Y, [broken]))
    (series,) = (group for group in root.iter("g") if group.get("class") == "series interval")
    assert len(list(series.iter("path"))) == 2


def test_bars_stand_in_their_order_and_on_their_side_of_zero() -> None:
    labels = ["first", "second", "third"]
    root = drawn(svg.bars("b", "A", "B", labels, Y, [Bars("n", "effect", [2.0, -1.0, None], ["two", "-one", "-"])]))
    heights = {element.text: float(element.get("y")) for element in root.iter("text")}
    assert heights["first"] < heights["second"] < heights["third"]
    above, below = ([r for r in root.iter("rect") if r.get("class") == side] for side in ("above", "below"))
    assert (len(above), len(below)) == (1, 1)
    assert float(below[0].get("x")) < float(above[0].get("x"))
    assert float(above[0].get("y")) < float(below[0].get("y"))


@pytest.mark.parametrize("points", [[(0.5, 1.0)], [(0.0, 2.0), (1.0, 2.0)], [(0.0, 0.0), (0.0, 0.0)], []])
def test_hardly_any_data_is_no_error(points: list[tuple[float, float]]) -> None:
    for span in (None, (0.0, 1.0)):
        axes = (Axis("x (%)", str, span), Axis("y (%)", str, span))
        drawn(svg.plot("a", "A", "B", *axes, [Series("s", "first", points)]))


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [-1.0, -1.0], [None], [1e-9, 2e-9], [1e12, -3e12]])
def test_bars_of_any_size(values: list[float | None]) -> None:
    labels = [f"label {number}" for number in range(len(values))]
    drawn(svg.bars("b", "A", "B", labels, Y, [Bars("n", "first", values)]))


@given(st.tuples(Finite, Finite).map(sorted))
def test_round_numbers_lie_between_the_ends(ends: list[float]) -> None:
    low, high = ends
    found = svg.round_numbers(low, high)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert found == sorted(found)
    assert all(low - slack <= number <= high + slack for number in found)
    if high - low > 1e-6 * max(1.0, abs(low), abs(high)):
        assert 3 <= len(found) <= 10


def test_round_numbers_are_round() -> None:
    assert svg.round_numbers(0, 1) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert svg.round_numbers(-2100, 1300) == [-2000.0, -1000.0, 0.0, 1000.0]
    assert svg.round_numbers(3, 3) == [3]


@given(st.text(max_size=60))
def test_a_label_is_short_and_keeps_its_ends(label: str) -> None:
    short = svg.shortened(label)
    assert len(short) <= 20
    assert short == label or (label.startswith(short[:10]) and label.endswith(short[-9:]))


@given(st.text(max_size=40))
def test_any_text_can_be_a_label(label: str) -> None:
    text = svg.bars("b", label, label, [label, "other"], Y, [Bars(label, "first", [1.0, 2.0])])
    assert "<script" not in text.lower()


def test_a_chart_is_the_same_every_time() -> None:
    assert svg.plot("a", "A", "B", X, Y, [LINE]) == svg.plot("a", "A", "B", X, Y, [LINE])


def test_pygal_leaves_no_finder_behind() -> None:
    """It would be asked, and warned of, at every import to come."""
    code = (
        "import sys; from importlib.metadata import version; from vehins.report import svg; svg._pygal(); import wave; "
    )
    code += "assert 'pygal' not in {type(finder).__module__ for finder in sys.meta_path}; assert version('pygal')"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
