"""A whole page: the sections of a run, or of two, put through the template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from vehins import __version__
from vehins.artifacts.comparison import RunDifference
from vehins.artifacts.manifest import Dataset, Evaluation, PushedModel
from vehins.report import (
    comparison,
    drift,
    drivers,
    judged,
    lineage,
    money,
    probabilities,
    ranking,
    rows,
    rules,
    slices,
    verdict,
    words,
)
from vehins.report.blocks import Page, Section
from vehins.report.story import Story

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

THIS = "this model"


def of_run(story: Story, digest: str) -> Page:
    """The page of one run; its champion, if there is one, is drawn beside its model."""
    evaluation = story.manifest(Evaluation)
    models = judged.with_champion(story, THIS)
    sections: list[Section | None] = []
    if evaluation is not None:
        sections += [money.section(models), ranking.section(models), rules.section(evaluation.result)]
        sections += [probabilities.section(models, models[:1])]
    sections += [drivers.section({THIS: story})]
    if evaluation is not None:
        sections += [slices.section({THIS: evaluation.result})]
    sections += [drift.section({THIS: story}), rows.section(story), lineage.section(story)]
    found = verdict.of(story)
    return Page(
        title=f"{found.headline} (run {story.run.run})",
        kicker=f"{_model_name(story)} · vehins report",
        heading="",
        subtitle=_subtitle(story),
        verdicts=[found],
        facts=verdict.facts(story),
        sections=[section for section in sections if section is not None],
        digest=digest,
        footer=_footer(),
    )


def _model_name(story: Story) -> str:
    pushed = story.manifest(PushedModel)
    dataset = story.manifest(Dataset)
    return pushed.result.model if pushed else dataset.result.schema_name if dataset else "vehins"


def _subtitle(story: Story) -> str:
    run = story.run
    took = "" if run.ended_at is None else f", took {words.seconds((run.ended_at - run.started_at).total_seconds())}"
    dataset = story.manifest(Dataset)
    rows = "" if dataset is None else f"; {dataset.result.rows:,} rows from {dataset.result.source}"
    return f"Run {run.run}, started {words.moment(run.started_at)}{took}{rows}"


def _footer() -> list[str]:
    return [f"Written by vehins {__version__}. Everything is in this file; it fetches nothing."]


def of_two(one: Story, other: Story, difference: RunDifference, digest: str) -> Page:
    """The page that sets two runs side by side; ``difference`` goes from the other run to the first."""
    stories: Mapping[str, Story] = {comparison.name(one, "A"): one, comparison.name(other, "B"): other}
    models = [
        model
        for (name, story), style in zip(stories.items(), (judged.FIRST, judged.SECOND), strict=True)
        if (model := judged.alone(story, name, style)) is not None
    ]
    results = {name: e.result for name, story in stories.items() if (e := story.manifest(Evaluation)) is not None}
    sections: list[Section | None] = [comparison.section(stories, difference)]
    if models:
        sections += [money.section(models), ranking.section(models), rules.compared(results)]
        sections += [probabilities.section(models, models)]
    sections += [drivers.section(stories), slices.section(results), drift.section(stories)]
    sections += [
        part for name, story in stories.items() for part in (rows.section(story, name), lineage.section(story, name))
    ]
    return Page(
        title=f"{_model_name(one)}: runs {one.run.run} and {other.run.run}",
        kicker=f"{_model_name(one)} · vehins report",
        heading="Two runs compared",
        subtitle="; ".join(
            f"{name} is run {story.run.run} of {words.moment(story.run.started_at)}" for name, story in stories.items()
        ),
        verdicts=[comparison.verdict_of(name, story) for name, story in stories.items()],
        facts=None,
        sections=[section for section in sections if section is not None],
        digest=digest,
        footer=_footer(),
    )


def render(page: Page) -> str:
    """The page as HTML: every text escaped, the style sheet inside, nothing to fetch."""
    return _template().render(page=page, kind=lambda block: type(block).__name__).lstrip() + "\n"


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vehins.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["marked"] = _marked
    return environment.get_template("page.html")


def _marked(text: str) -> Markup:
    """A text, escaped, in which what stands between backticks is code."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped one step before
