"""The page as HTML: valid, whole in one file, safe with any text, and complete with whatever there is to tell."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import pytest
import report_samples as samples
from tinyhtml5.parser import HTMLParser

from vehins.artifacts.evaluation import Curves
from vehins.report import page
from vehins.report.story import Story

if TYPE_CHECKING:
    from collections.abc import Callable
    from xml.etree.ElementTree import Element

    from vehins.artifacts.comparison import RunDifference

HTML, SVG = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/2000/svg}"
FETCHING = {"href", "src", "srcset", "action", "data", "poster", "background", "{http://www.w3.org/1999/xlink}href"}
REFUSED = {"verdict": "refuse", "rules": [samples.rule("auc_floor", None, 0.6, "It could not be computed.", "fail")]}
STORIES: dict[str, Callable[[], Story]] = {
    "accepted": samples.story,
    "first": lambda: samples.story(champion=False),
    "refused": lambda: samples.story("evaluate", status="refused", outcome="refused", Evaluation=REFUSED),
    "approved": lambda: samples.story(Evaluation={"approved": "Before the winter campaign"}),
    "failed": lambda: samples.story("train", status="failed", outcome="failed", reason="The disk is full"),
    "nothing": lambda: samples.story("ingest", status="failed", outcome="failed", reason="There is no file"),
    "without curves": lambda: dataclasses.replace(samples.story(), curves=None, drivers=None),
    "gone": lambda: Story(run=samples.story().run, gone=("Dataset/d1", "Evaluation/e1")),
    "old": lambda: dataclasses.replace(old(), curves=None, drivers=None),
}
SECTIONS = ["money", "ranking", "gate", "probabilities", "drivers", "slices", "drift", "rows", "lineage"]


def old() -> Story:
    """A run of a vehins that knew fewer fields."""
    lists = {"gains": [], "calibration": [], "slices": []}
    records = {"profit": None, "drift": None, "integrity": None}
    unknown = dict.fromkeys(("ks", "expected_calibration_error", "calibration_chance"))
    return samples.story(champion=False, Evaluation={**lists, **records, "metrics": {**samples.metrics(), **unknown}})


def compared() -> str:
    other = samples.story(number=2, noise=0.7, champion=False, Evaluation={"metrics": samples.metrics(1, 0.7)})
    return page.render(page.of_two(samples.story(), other, samples.difference(), "d" * 64))


def rendered(name: str) -> str:
    return compared() if name == "compared" else page.render(page.of_run(STORIES[name](), "d" * 64))


def parsed(text: str) -> Element:
    parser = HTMLParser()
    root = parser.parse(text)
    assert [(error[1], error[2]) for error in parser.errors] == []
    return root


def words_of(element: Element) -> str:
    return re.sub(r"\s+", " ", "".join(element.itertext()))


NAMES = [*STORIES, "compared"]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_valid_and_its_names_are_unique(name: str) -> None:
    root = parsed(rendered(name))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[A-Za-z][\w-]*", found) for found in ids)
    pointed = [w for element in root.iter() for w in (element.get("aria-labelledby") or "").split()]
    targets = [element.get("href", "")[1:] for element in root.iter(f"{HTML}a")]
    assert {*pointed, *targets} <= set(ids)
    assert root.get("lang") == "en"
    assert len(list(root.iter(f"{HTML}h1"))) == 1


@pytest.mark.parametrize("name", NAMES)
def test_it_needs_nothing_else(name: str) -> None:
    text = rendered(name)
    root = parsed(text)
    tags = {element.tag.rpartition("}")[2] for element in root.iter() if isinstance(element.tag, str)}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "image", "use", "base", "form"}
    links = [(key, value) for element in root.iter() for key, value in element.attrib.items() if key in FETCHING]
    assert all(key == "href" and value.startswith("#") for key, value in links)
    assert not re.search(r"url\(|@import", text)
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    (policy,) = (m.get("content") for m in root.iter(f"{HTML}meta") if m.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert len(text.encode()) < 500_000


@pytest.mark.parametrize("name", NAMES)
def test_every_chart_is_told_in_words_too(name: str) -> None:
    root = parsed(rendered(name))
    for figure in root.iter(f"{HTML}figure"):
        (chart,) = figure.iter(f"{SVG}svg")
        assert chart.get("role") == "img"
        title, description = chart.find(f"{SVG}title"), chart.find(f"{SVG}desc")
        assert title is not None
        assert title.text
        assert description is not None
        caption = figure.find(f"{HTML}figcaption")
        assert caption is not None
        assert description.text == caption.text
        assert len(description.text or "") > 30
        titles = [t.text or "" for t in chart.iter(f"{SVG}text") if "title" in (t.get("class") or "")]
        assert titles
        assert all(re.search(r"\((%|times|log-odds|currency|PSI)|^AUC$", text) for text in titles), titles


@pytest.mark.parametrize("name", NAMES)
def test_no_number_is_nan(name: str) -> None:
    assert not re.search(r"\b(nan|inf|None|NaN)\b", words_of(parsed(rendered(name))))


def test_the_sections_of_a_whole_run() -> None:
    root = parsed(rendered("accepted"))
    main = next(root.iter(f"{HTML}main"))
    assert [section.get("id") for section in main.findall(f"{HTML}section")] == SECTIONS
    charts = {chart.get("aria-labelledby", "").split("-title")[0] for chart in root.iter(f"{SVG}svg")}
    assert {"profit", "gains", "lift", "roc", "precision-recall", "calibration", "scores-first"} <= charts
    assert {"contributions", "importance", "effect-0-0", "slice-0", "drift-0", "drift-0-0"} <= charts
    text = words_of(root)
    for told in ("too small".capitalize(), "-1 at 7", "train.seed", "polars", "0888bb8", "2.1.0", "Fax", "as ingested"):
        assert told in text
    assert text.index("Accepted: version 4") < text.index("What the gate asked")
    assert "<code>vehins predict SOURCE call-list.csv --top N</code> writes that list" in rendered("accepted")


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        ("failed", ["drift", "rows", "lineage"][1:]),
        ("nothing", ["lineage"]),
        ("gone", ["lineage"]),
        ("old", ["ranking", "gate", "probabilities", "drivers", "rows", "lineage"]),
        ("without curves", SECTIONS),
    ],
)
def test_what_there_is_not_is_left_out(name: str, sections: list[str]) -> None:
    main = next(parsed(rendered(name)).iter(f"{HTML}main"))
    assert [section.get("id") for section in main.findall(f"{HTML}section")] == sections


def test_what_is_gone_is_said() -> None:
    assert "No longer whole in the workspace, and so not told of: Dataset/d1, Evaluation/e1." in rendered("gone")


def test_every_rule_stands_in_the_table() -> None:
    root = parsed(rendered("accepted"))
    for rule in samples.evaluation()["rules"]:
        assert rule["sentence"] in words_of(root)
    failed = words_of(parsed(rendered("refused")))
    assert "failed AUC floor not computed 0.6 It could not be computed." in failed


def test_the_champion_is_drawn_beside_the_model() -> None:
    assert "champion (version 3)" in rendered("accepted")
    assert 'class="series second"' in rendered("accepted")
    assert 'class="series second"' not in rendered("first")


HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(2)>\"'`&amp;{{ 7*7 }}"


def hostile() -> Story:
    """A run in which every text that somebody else has chosen is an attack."""
    evaluation = samples.evaluation()
    for found in evaluation["slices"]:
        found["slice"], found["column"] = HOSTILE, HOSTILE
    for found in evaluation["rules"]:
        found["sentence"], found["name"] = HOSTILE, HOSTILE
    for column in evaluation["drift"]["columns"]:
        column["column"] = HOSTILE
        for place, found in enumerate(column["bins"]):
            found["label"] = f"{place}{HOSTILE}"
    anomaly = {"column": HOSTILE, "rule": HOSTILE, "expected": HOSTILE, "rows": 1, "share": 0.1}
    story = samples.story(
        reason=HOSTILE,
        Evaluation={**evaluation, "approved": HOSTILE},
        Dataset={"source": HOSTILE, "schema_name": HOSTILE, "extra_columns": [HOSTILE]},
        Validation={
            "anomalies": [{**anomaly, "examples": [{"key": HOSTILE, "value": HOSTILE}]}],
            "reasons": [HOSTILE],
            "statistics": [{"column": HOSTILE, "dtype": "string", "nulls": 0, "top": {HOSTILE: 3}}],
        },
        TrainedModel={"importance": {HOSTILE: 1.0}},
        PushedModel={"model": HOSTILE, "alias": HOSTILE},
        manifest_changes={"TrainedModel": {"settings": {HOSTILE: HOSTILE}, "libraries": {HOSTILE: HOSTILE}}},
    )
    assert story.drivers is not None
    drivers = story.drivers.model_dump()
    for influence in drivers["influences"]:
        influence.update(feature=HOSTILE, sentence=HOSTILE, description=HOSTILE, unit=HOSTILE)
        for place, effect in enumerate(influence["effects"]):
            effect["value"] = f"{place}{HOSTILE}"
    run = story.run.model_copy(update={"command": HOSTILE, "host": HOSTILE})
    return dataclasses.replace(story, run=run, drivers=type(story.drivers).model_validate(drivers))


def hostile_difference() -> RunDifference:
    stage = {"stage": HOSTILE, "a": HOSTILE, "b": HOSTILE, "change": "changed", "reasons": [HOSTILE]}
    value = {"name": HOSTILE, "a": HOSTILE, "b": [HOSTILE]}
    return samples.difference(stages=[stage], settings=[value], data=[value])


@pytest.mark.parametrize("two", [False, True])
def test_a_text_from_elsewhere_is_text(two: bool) -> None:
    made = page.of_two(hostile(), hostile(), hostile_difference(), "d") if two else page.of_run(hostile(), "d")
    text = page.render(made)
    root = parsed(text)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"script", "img"}
    assert not any(key.startswith("on") for element in root.iter() for key in element.attrib)
    assert text.count("</style>") == 1
    assert "alert(1)" in words_of(root)
    assert "{{ 7*7 }}" in words_of(root)
    assert "49" not in words_of(next(root.iter(f"{HTML}h1")))
    assert HOSTILE in words_of(next(root.iter(f"{HTML}title")))


def test_what_stands_between_backticks_is_code() -> None:
    rules = [samples.rule("auc_floor", 1.0, 0.6, "Change `gate.min_auc` or `<b>`.")]
    text = page.render(page.of_run(samples.story(Evaluation={"rules": rules}), "d"))
    assert "Change <code>gate.min_auc</code> or <code>&lt;b&gt;</code>." in text


def test_two_runs_side_by_side() -> None:
    changed = {"TrainedModel": {"settings": {"train.seed": 2}}}
    metrics = {**samples.metrics(1, 0.7), "log_loss": 0.1}
    other = samples.story(
        number=2, champion=False, noise=0.7, manifest_changes=changed, Evaluation={"metrics": metrics}
    )
    text = words_of(parsed(page.render(page.of_two(samples.story(), other, samples.difference(), "d"))))
    difference = samples.metrics()["auc"] - metrics["auc"]
    assert f"AUC {samples.metrics()['auc']:.4f} {metrics['auc']:.4f} {difference:+.4f} A" in text
    assert "Log loss" in text
    assert re.search(r"Log loss [\d.]+ 0\.1000 \+[\d.]+ B", text)
    assert "train changed setting train.seed 2 -> 1" in text
    assert "train.seed 1 2" in text
    assert "Dataset.rows 30012 30000" in text
    assert "push only A has it not part of B" in text
    assert "Both were judged on the same customers" in text
    assert text.index("Accepted: version 4") < text.index("Accepted: version 1") < text.index("What differs")
    assert "Better than champion passed" in text
    assert "not asked" in text


def test_two_runs_on_other_customers() -> None:
    other = samples.story(number=2, Evaluation={"metrics": {**samples.metrics(), "rows": 5_999}})
    text = page.render(page.of_two(samples.story(), other, samples.difference(), "d"))
    assert "They were judged on different customers" in text


def test_two_runs_of_which_one_has_no_model() -> None:
    failed = samples.story("train", status="failed", outcome="failed", number=2)
    for one, other in ((samples.story(), failed), (failed, samples.story()), (failed, failed)):
        text = words_of(parsed(page.render(page.of_two(one, other, samples.difference(), "d"))))
        assert "The run failed in train" in text
        assert "The rows of one of them are not known" in text


def test_curves_of_a_champion_alone_are_no_error() -> None:
    story = samples.story()
    assert story.curves is not None
    curves = Curves(challenger=story.curves.challenger, champion=None)
    parsed(page.render(page.of_run(dataclasses.replace(story, curves=curves), "d")))
