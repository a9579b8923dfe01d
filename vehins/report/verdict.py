"""What a run comes to, in plain words, before any number is explained."""

from __future__ import annotations

from collections.abc import Iterator

from vehins.artifacts.evaluation import EvaluationResult
from vehins.artifacts.manifest import Evaluation, PushedModel, Validation
from vehins.report import drift, words
from vehins.report.blocks import Fact, Facts, Verdict
from vehins.report.story import Story


def of(story: Story) -> Verdict:
    """The verdict on a run, and the few sentences that everybody should read."""
    verdict = _outcome(story)
    evaluation, validation = story.manifest(Evaluation), story.manifest(Validation)
    sentences = list(verdict.sentences)
    if evaluation is not None:
        sentences += _quality(evaluation.result)
    if validation is not None:
        sentences += _data(validation)
    sentences += _moved(story)
    return Verdict(verdict.tone, verdict.headline, sentences)


def _outcome(story: Story) -> Verdict:
    outcome, stopped = story.run.outcome, story.stopped
    if outcome == "completed":
        return _completed(story)
    if outcome == "refused" and stopped is not None:
        return _refused(story, stopped.stage, stopped.reason)
    if outcome == "running":
        return Verdict("plain", "The run is still going", ["What is here is what it has so far."])
    where = f" in {stopped.stage}" if stopped else ""
    if outcome == "interrupted":
        return Verdict("warn", f"The run was interrupted{where}", [_kept(story)])
    why = words.sentence(stopped.reason) if stopped else "Its record does not say why."
    return Verdict("bad", f"The run failed{where}", [why, _kept(story)])


def _kept(story: Story) -> str:
    done = [stage.stage for stage in story.run.stages if stage.status in {"ran", "reused"}]
    return f"Finished before: {', '.join(done)}; that is kept." if done else "No stage had finished."


def _completed(story: Story) -> Verdict:
    pushed, evaluation = story.manifest(PushedModel), story.manifest(Evaluation)
    if pushed is None or all(stage.stage != "push" for stage in story.run.stages):
        names = ", ".join(stage.stage for stage in story.run.stages)
        return Verdict("good", f"Done: {names}", ["This run had no part in what is in production."])
    result = pushed.result
    version = f"version {result.version} of {result.model} is in {result.alias}"
    approved = evaluation.result.approved if evaluation else None
    if approved:
        refused = "The gate had refused it; a person overruled the gate."
        return Verdict("warn", f"Approved by hand: {version}", [refused, f"The reason: {words.sentence(approved)}"])
    before = (
        "It is the first version in its registry."
        if result.previous is None
        else f"It took the place of version {result.previous}."
        if result.previous != result.version
        else "It was there before."
    )
    return Verdict("good", f"Accepted: {version}", [before])


def _refused(story: Story, stage: str, reason: str) -> Verdict:
    evaluation, validation = story.manifest(Evaluation), story.manifest(Validation)
    if stage == "evaluate" and evaluation is not None:
        result = evaluation.result
        failed = [rule.sentence for rule in result.rules if rule.verdict == "fail"]
        champion = result.champion
        stays = (
            "Nothing goes into production." if champion is None else f"Version {champion.version} stays in production."
        )
        return Verdict("bad", "Refused: the model has not earned its place", [stays, *failed])
    if stage == "validate" and validation is not None:
        return Verdict("bad", "Refused: the rows are not good enough to train on", validation.result.reasons)
    return Verdict("bad", f"Refused in {stage}", [words.sentence(reason)])


def _quality(result: EvaluationResult) -> Iterator[str]:
    """How good the model is, to somebody who has never heard of an AUC: the money first."""
    metrics = result.metrics
    yield from _worth(result)
    gain = min(result.gains, key=lambda found: abs(found.share - 0.2), default=None)
    if gain is not None:
        yield (
            f"Calling the best {words.percent(gain.share, 0)} of customers reaches {words.percent(gain.recall, 0)} of "
            f"the buyers, {words.times(gain.lift)} times as many as calling at random."
        )
    interval = words.between(metrics.auc_low, metrics.auc_high)
    yield (
        f"Given one buyer and one non-buyer, it ranks the buyer higher {100 * metrics.auc:.1f} times in 100 (AUC "
        f"{words.decimal(metrics.auc)}, {result.confidence:.0%} interval {interval})."
    )
    champion = result.champion
    if champion is not None and result.verdict == "accept":
        yield (
            f"On the same customers its AUC differs from that of champion {champion.version} by "
            f"{words.signed(champion.auc_difference)}, and with confidence by at least "
            f"{words.signed(champion.auc_difference_low)}."
        )
    yield from _honesty(result)


def _worth(result: EvaluationResult) -> Iterator[str]:
    found = result.profit
    if found is not None:
        yield (
            f"At {words.amount(found.contact_cost)} a call and {words.amount(found.sale_value)} a sale, calling the "
            f"{words.count(found.model.customers)} test customers with a probability of {words.percent(found.cutoff)} "
            f"or more {words.earns(found.model.profit)}; calling as many at random {words.earns(found.random.profit)}, "
            f"calling everybody {words.earns(found.everybody.profit)}."
        )


def _honesty(result: EvaluationResult) -> Iterator[str]:
    error, chance = result.metrics.expected_calibration_error, result.metrics.calibration_chance
    if error is None:
        return
    said = f"Its probabilities are off by {100 * error:.2f} percentage points on average"
    if chance is None:
        yield f"{said}."
    else:
        yield f"{said}, {'no more than chance explains' if error <= chance else 'more than chance explains'}."


def _data(validation: Validation) -> Iterator[str]:
    result = validation.result
    if result.quarantined_rows:
        rows = words.plural(result.quarantined_rows, "row")
        yield f"{rows} of {result.rows:,} broke a rule of the schema and took no part."


def _moved(story: Story) -> Iterator[str]:
    found = drift.of(story)
    moved = [column for column in found.columns if (column.psi or 0.0) >= drift.MOVED] if found else []
    if moved:
        names = ", ".join(column.column for column in moved[:3])
        yield f"The customers have changed since the champion was trained, above all in {names}."


def facts(story: Story) -> Facts | None:
    """The numbers that are printed large."""
    evaluation = story.manifest(Evaluation)
    if evaluation is None:
        return None
    result, metrics = evaluation.result, evaluation.result.metrics
    shown = []
    if result.profit is not None:
        own = result.profit.model
        shown.append(
            Fact(
                "Profit of its calls",
                words.short_amount(own.profit),
                f"{words.percent(own.share, 0)} of test customers called",
            )
        )
    lift = next((gain for gain in result.gains if gain.share >= 0.1), None)
    if lift is not None:
        shown.append(
            Fact(
                f"Lift at {words.percent(lift.share, 0)}",
                f"{lift.lift:.1f}\N{MULTIPLICATION SIGN}",
                f"reaches {words.percent(lift.recall, 0)} of buyers",
            )
        )
    shown.append(Fact("AUC", words.decimal(metrics.auc, 3), words.between(metrics.auc_low, metrics.auc_high, 3)))
    if metrics.expected_calibration_error is not None:
        error = 100 * metrics.expected_calibration_error
        shown.append(Fact("Calibration error", f"{error:.2f} pp", "between predicted and observed"))
    passed = sum(rule.verdict == "pass" for rule in result.rules)
    shown.append(Fact("Rules passed", f"{passed} of {len(result.rules)}"))
    return Facts(shown)
