"""What a run came to, as Markdown: for the page of a job, where no style sheet and no chart goes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from vehins.artifacts.manifest import Evaluation
from vehins.report import rules, verdict
from vehins.report.blocks import Block, Cell, Code, Fact, Facts, Mark, Prose, Table
from vehins.report.story import Story


def outcome(story: Story) -> str:
    """What a run has come to, in a line."""
    found = verdict.of(story)
    return f"**{escaped(found.headline)}** {escaped(' '.join(found.sentences[:1]))}\n"


def of_run(story: Story) -> str:
    """The verdict, the large numbers and the rules of the gate."""
    found, evaluation = verdict.of(story), story.manifest(Evaluation)
    blocks: list[Block | None] = [verdict.facts(story)]
    if evaluation is not None:
        blocks += rules.section(evaluation.result).blocks
    parts = [f"**{escaped(found.headline)}**", *(f"- {escaped(sentence)}" for sentence in found.sentences)]
    return "\n".join([*parts, "", *(_block(block) for block in blocks if block is not None)])


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], numeric: frozenset[int] = frozenset()) -> str:
    """A table; columns of numbers stand to the right."""
    rulers = ["---:" if number in numeric else "---" for number in range(len(columns))]
    lines = [columns, rulers, *([_cell(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def escaped(text: str) -> str:
    """A text in which nothing is markup but code between backticks, on one line."""
    parts = re.split(r"(`[^`\n]*`)", " ".join(text.split()))
    return "".join(part.replace("|", r"\|") if number % 2 else _plain(part) for number, part in enumerate(parts))


def _plain(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#@])", r"\\\1", text)


def _block(block: Block) -> str:
    match block:
        case Facts():
            return table([fact.name for fact in block.facts], [[_fact(fact) for fact in block.facts]])
        case Prose():
            return "".join(f"{escaped(paragraph)}\n" for paragraph in block.paragraphs)
        case Table():
            return table(block.columns, block.rows, block.numeric)
        case _:
            raise TypeError(f"{type(block).__name__} has no form in Markdown")


def _fact(fact: Fact) -> str:
    return f"{fact.value} ({fact.note})" if fact.note else fact.value


def _cell(cell: Cell) -> str:
    match cell:
        case Mark():
            return escaped(f"{cell.text} ({cell.note})" if cell.note else cell.text)
        case Code():
            return escaped(f"`{cell.text}`")
        case _:
            return escaped(cell)
