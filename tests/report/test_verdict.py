"""What a report says first, in plain words."""

from __future__ import annotations

import pytest
import report_samples as samples

from vehins.report import verdict
from vehins.report.blocks import Verdict
from vehins.report.story import Story

FAILED = samples.rule("better_than_champion", -0.0012, 0.0, "It is not better.", "fail")
PASSED = samples.rule("auc_floor", 0.8571, 0.6, "It is above the floor.")


def all_of(found: Verdict) -> str:
    return " ".join([found.headline, *found.sentences])


def test_accepted_over_a_champion() -> None:
    found = verdict.of(samples.story())
    assert (found.tone, found.headline) == ("good", "Accepted: version 4 of vehicle-insurance is in production")
    assert found.sentences[0] == "It took the place of version 3."
    assert "On the same customers its AUC differs from that of champion 3 by +" in all_of(found)
    assert "12 rows of 30,012 broke a rule of the schema and took no part." in found.sentences
    moved = "The customers have changed since the champion was trained, above all in Policy_Sales_Channel."
    assert moved in found.sentences


def test_accepted_as_the_first() -> None:
    found = verdict.of(samples.story(champion=False))
    assert found.headline == "Accepted: version 1 of vehicle-insurance is in production"
    assert found.sentences[0] == "It is the first version in its registry."
    assert "champion" not in all_of(found)


def test_the_numbers_are_those_of_the_evaluation() -> None:
    story = samples.story()
    metrics = samples.metrics()
    gain = next(gain for gain in samples.gains() if gain["share"] == 0.2)
    text = all_of(verdict.of(story))
    assert f"ranks the buyer higher {100 * metrics['auc']:.1f} times in 100" in text
    assert f"95% interval {metrics['auc_low']:.4f} to {metrics['auc_high']:.4f}" in text
    assert f"reaches {100 * gain['recall']:.0f}% of the buyers, {gain['lift']:.1f} times as many" in text
    assert f"or more earns {samples.profit()['model']['profit']:,.0f}; calling as many at random loses " in text
    assert "off by 0.71 percentage points on average, no more than chance explains" in text


def test_refused_by_the_gate() -> None:
    changes = {"verdict": "refuse", "rules": [PASSED, FAILED]}
    found = verdict.of(samples.story("evaluate", status="refused", outcome="refused", Evaluation=changes))
    assert (found.tone, found.headline) == ("bad", "Refused: the model has not earned its place")
    assert list(found.sentences[:2]) == ["Version 3 stays in production.", "It is not better."]
    assert "It is above the floor." not in found.sentences


def test_refused_with_nothing_in_production() -> None:
    changes = {"verdict": "refuse", "rules": [FAILED]}
    story = samples.story("evaluate", status="refused", outcome="refused", champion=False, Evaluation=changes)
    assert verdict.of(story).sentences[0] == "Nothing goes into production."


def test_refused_for_its_rows() -> None:
    changes = {"verdict": "refuse", "reasons": ["The share of bad values is 4%; 0.1% is tolerated."]}
    found = verdict.of(samples.story("validate", status="refused", outcome="refused", Validation=changes))
    assert (found.tone, found.headline) == ("bad", "Refused: the rows are not good enough to train on")
    assert found.sentences[0] == changes["reasons"][0]


def test_approved_by_a_person() -> None:
    found = verdict.of(samples.story(Evaluation={"approved": "The board wants it"}))
    assert (found.tone, found.headline) == ("warn", "Approved by hand: version 4 of vehicle-insurance is in production")
    assert list(found.sentences[:2]) == [
        "The gate had refused it; a person overruled the gate.",
        "The reason: The board wants it.",
    ]


@pytest.mark.parametrize(
    ("upto", "outcome", "headline", "kept"),
    [
        ("train", "failed", "The run failed in train", "Finished before: ingest, validate, transform; that is kept."),
        ("ingest", "failed", "The run failed in ingest", "No stage had finished."),
        ("push", "interrupted", "The run was interrupted in push", "ingest, validate, transform, train, evaluate"),
    ],
)
def test_a_run_that_broke_off(upto: str, outcome: str, headline: str, kept: str) -> None:
    found = verdict.of(samples.story(upto, status="failed", outcome=outcome, reason="The disk is full"))
    assert found.tone == {"failed": "bad", "interrupted": "warn"}[outcome]
    assert found.headline == headline
    assert kept in all_of(found)
    assert ("The disk is full." in found.sentences) == (outcome == "failed")


def test_a_run_that_is_still_going() -> None:
    assert verdict.of(samples.story("train", outcome="running")).headline == "The run is still going"


def test_a_run_without_a_word_of_what_stopped_it() -> None:
    found = verdict.of(Story(run=samples.run([], "failed")))
    assert found.headline == "The run failed"
    assert "Its record does not say why." in found.sentences


def test_a_run_of_a_single_stage() -> None:
    whole = samples.story()
    alone = Story(run=samples.run([whole.run.stages[4].model_dump()]), manifests=whole.manifests)
    found = verdict.of(alone)
    assert found.headline == "Done: evaluate"
    assert "This run had no part in what is in production." in found.sentences


def test_an_evaluation_from_before_there_was_more() -> None:
    old = {"gains": [], "calibration": [], "slices": [], "profit": None, "drift": None, "integrity": None}
    metrics = {**samples.metrics(), "ks": None, "expected_calibration_error": None, "calibration_chance": None}
    story = samples.story(champion=False, Evaluation={**old, "metrics": metrics})
    text = all_of(verdict.of(story))
    assert "times in 100" in text
    assert "percentage points" not in text
    facts = verdict.facts(story)
    assert facts is not None
    assert [fact.name for fact in facts.facts] == ["AUC", "Rules passed"]


def test_there_are_no_facts_without_an_evaluation() -> None:
    assert verdict.facts(samples.story("train", status="failed", outcome="failed")) is None


def test_the_money_is_the_first_of_the_large_numbers() -> None:
    facts = verdict.facts(samples.story())
    assert facts is not None
    assert [fact.name for fact in facts.facts][:3] == ["Profit of its calls", "Lift at 10%", "AUC"]
