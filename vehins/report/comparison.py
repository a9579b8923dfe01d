"""Two runs against each other: what differs in what they found, and in what went into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vehins.artifacts.comparison import Difference, RunDifference, StageDifference
from vehins.artifacts.evaluation import Metrics
from vehins.artifacts.manifest import Dataset, Evaluation, PushedModel
from vehins.report import verdict, words
from vehins.report.blocks import Block, Code, Prose, Section, Table, Verdict
from vehins.report.story import Story

_MEASURES = (
    ("AUC", "auc", True),
    ("Average precision", "average_precision", True),
    ("Log loss", "log_loss", False),
    ("Brier score", "brier", False),
    ("KS", "ks", True),
    ("Expected calibration error", "expected_calibration_error", False),
)


def name(story: Story, letter: str) -> str:
    """What a run is called on the page: its letter, and the version that it made."""
    pushed = story.manifest(PushedModel)
    return f"{letter} (version {pushed.result.version})" if pushed else letter


def verdict_of(owner: str, story: Story) -> Verdict:
    """The verdict on one of two runs."""
    found = verdict.of(story)
    return Verdict(found.tone, found.headline, found.sentences, owner)


def section(stories: Mapping[str, Story], difference: RunDifference) -> Section:
    """Measures with their differences, then what differs in stages, settings and rows, from the other to the first."""
    one, other = stories.values()
    metrics = [e.result.metrics for story in (one, other) if (e := story.manifest(Evaluation)) is not None]
    blocks: list[Block] = [_same_rows(one, other)]
    if len(metrics) == 2:
        blocks.append(_measures(metrics))
    blocks.append(_stages(difference))
    blocks += _values("Settings that differ", difference.settings)
    blocks += _values("What differs in the rows", difference.data)
    return Section(
        "differences", "What differs", blocks, "A is the run that was asked for, B the one it is compared with."
    )


def _same_rows(one: Story, other: Story) -> Prose:
    """Whether the two were judged by the same customers: only then do their numbers differ by the models alone."""
    contents = [_test_side(story) for story in (one, other)]
    if None in contents:
        return Prose(["The rows of one of them are not known: the measures may be of other customers."], "warn")
    if contents[0] == contents[1]:
        return Prose(["Both were judged on the same customers: what differs comes from the models."], "good")
    return Prose(["They were judged on different customers: what differs may come from the customers alone."], "warn")


def _test_side(story: Story) -> tuple[str, int, int] | None:
    """What tells the scored rows of a run from those of another."""
    dataset, evaluation = story.manifest(Dataset), story.manifest(Evaluation)
    if dataset is None or evaluation is None:
        return None
    rows = dataset.result.digest_by_side.get("test", dataset.content)
    return rows, evaluation.result.metrics.rows, evaluation.result.metrics.positives


def _measures(metrics: Sequence[Metrics]) -> Table:
    rows = [_measure(title, field, higher, metrics) for title, field, higher in _MEASURES]
    rows += [("Test customers", *(words.count(found.rows) for found in metrics), "", "")]
    columns = ("Measure", "A", "B", "A minus B", "Better")
    return Table("Measures side by side", columns, rows, frozenset({1, 2, 3}))


def _measure(title: str, field: str, higher: bool, metrics: Sequence[Metrics]) -> tuple[str, ...]:
    a, b = (getattr(found, field) for found in metrics)
    if a is None or b is None:
        return (title, words.decimal(a), words.decimal(b), "-", "-")
    better = "equal" if round(a, 4) == round(b, 4) else "A" if (a > b) == higher else "B"
    return (title, words.decimal(a), words.decimal(b), words.signed(a - b), better)


_CHANGES = {
    "same": "the same in both",
    "same content": "made anew, with the same content",
    "changed": "changed",
    "only in a": "only B has it",
    "only in b": "only A has it",
    "in neither": "neither has it",
    "gone": "no longer there to compare",
}


def _stages(difference: RunDifference) -> Table:
    """What each stage made in one run and in the other; the difference goes from B to A."""
    rows = [(found.stage, _CHANGES[found.change], _reasons(found)) for found in difference.stages]
    return Table("What the stages made, and why it changed from B to A", ("Stage", "Result", "Why"), rows, stacks=True)


def _reasons(found: StageDifference) -> Code | str:
    """Why, in the names of this page: B is the first of the difference."""
    told = "; ".join(found.reasons).replace("the first run", "B").replace("the second run", "A")
    return Code(told) if told else "-"


def _values(caption: str, found: Sequence[Difference]) -> list[Table]:
    """Values that differ, B's being the first of the difference."""
    rows = [(Code(one.name), Code(words.value(one.b)), Code(words.value(one.a))) for one in found]
    return [Table(caption, ("Name", "A", "B"), rows, stacks=True)] if rows else []
