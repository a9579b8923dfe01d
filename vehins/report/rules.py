"""What the gate asked of the model, and what it answered."""

from __future__ import annotations

from collections.abc import Mapping

from vehins.artifacts.evaluation import EvaluationResult, Rule
from vehins.report import words
from vehins.report.blocks import Block, Mark, Prose, Section, Table

_LEAD = "A model goes into production when it passes every rule."
_PASSED, _FAILED = Mark("passed", "good"), Mark("failed", "bad")


def mark(rule: Rule) -> Mark:
    """The verdict of one rule."""
    return _PASSED if rule.verdict == "pass" else _FAILED


def section(result: EvaluationResult) -> Section:
    """Every rule with its value, its bound and its sentence."""
    rows = [
        (
            mark(rule),
            words.titled(rule.name),
            words.significant(rule.value),
            words.significant(rule.bound),
            rule.sentence,
        )
        for rule in result.rules
    ]
    columns = ("Verdict", "Rule", "Found", "Bound", "In words")
    blocks: list[Block] = [Table("Rules of the gate", columns, rows, frozenset({2, 3}), stacks=True)]
    if result.approved:
        blocks.insert(0, Prose([f"A person overruled the gate, for this reason: {result.approved}"], "warn"))
    return Section("gate", "What the gate asked", blocks, _LEAD)


def compared(results: Mapping[str, EvaluationResult]) -> Section:
    """The rules of two runs side by side."""
    found = [{rule.name: rule for rule in result.rules} for result in results.values()]
    names = dict.fromkeys(name for rules in found for name in rules)
    rows = [(words.titled(name), *(_answer(rules.get(name)) for rules in found)) for name in names]
    table = Table("Rules of both runs", ("Rule", *results), rows, stacks=True)
    return Section("gate", "What the gate asked", [table], _LEAD)


def _answer(rule: Rule | None) -> Mark | str:
    if rule is None:
        return "not asked"
    found = mark(rule)
    return Mark(found.text, found.tone, rule.sentence)
