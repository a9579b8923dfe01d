"""The rows themselves: where they came from, what was wrong with them, what each column looks like."""

from __future__ import annotations

from collections.abc import Iterator

from vehins.artifacts.evaluation import Integrity
from vehins.artifacts.manifest import Anomaly, ColumnStatistics, Dataset, Evaluation, Validation
from vehins.report import words
from vehins.report.blocks import Block, Code, Details, Mark, Prose, Section, Table
from vehins.report.story import Story


def section(story: Story, name: str = "") -> Section | None:
    """Rows by side, anomalies, the integrity of the test side, statistics; ``name`` tells whose they are."""
    blocks = list(_blocks(story))
    if not blocks:
        return None
    suffix = f", {name}" if name else ""
    return Section(f"rows{name[:1]}", f"The rows{suffix}", blocks)


def _blocks(story: Story) -> Iterator[Block]:
    dataset, validation, evaluation = (story.manifest(kind) for kind in (Dataset, Validation, Evaluation))
    if isinstance(dataset, Dataset):
        yield _sides(dataset)
    if isinstance(validation, Validation):
        yield from _anomalies(validation)
    integrity = evaluation.result.integrity if isinstance(evaluation, Evaluation) else None
    if integrity is not None:
        yield _integrity(integrity)
    if isinstance(validation, Validation) and validation.result.statistics:
        yield Details("Every column", [_statistics(validation)])


def _sides(dataset: Dataset) -> Table:
    result = dataset.result
    rows: list[tuple[str, str | Code]] = [
        ("Source", Code(result.source)),
        ("Table schema", result.schema_name),
        ("Rows", words.count(result.rows)),
        *((f"of them {side}", words.count(number)) for side, number in result.rows_by_side.items()),
        ("Values that could not be read", words.count(result.unparsed_cells)),
    ]
    rows += [("Columns that are missing", ", ".join(result.missing_columns))] if result.missing_columns else []
    rows += [("Columns that were not kept", ", ".join(result.extra_columns))] if result.extra_columns else []
    return Table("Where the rows came from", ("What", "Value"), rows)


def _anomalies(validation: Validation) -> Iterator[Block]:
    result = validation.result
    if result.reasons:
        yield Prose(result.reasons, "bad")
    if not result.anomalies:
        yield Prose([f"All {result.rows:,} rows keep every rule of the schema."], "good")
        return
    yield Prose(
        [f"Set aside, so that no later stage sees them: {result.quarantined_rows:,} of {result.rows:,} rows."], "warn"
    )
    columns = ("Column", "Anomaly", "Expected", "Rows", "Share", "For example")
    rows = [
        (a.column, words.titled(a.rule), a.expected, words.count(a.rows), words.percent(a.share, 2), _example(a))
        for a in result.anomalies
    ]
    yield Table("What is wrong with the rows", columns, rows, frozenset({3, 4}), stacks=True)


def _example(anomaly: Anomaly) -> Code | str:
    return Code("; ".join(f"{e.value} at {e.key}" for e in anomaly.examples[:3])) if anomaly.examples else "-"


def _integrity(found: Integrity) -> Table:
    """What shows that nobody touched the test side between ingest and evaluation."""
    digest: dict[bool | None, str | Mark] = {
        None: "not taken",
        True: Mark("as ingested", "good"),
        False: Mark("not as ingested", "bad"),
    }
    rows: list[tuple[str, str | Mark]] = [
        ("Rows scored", words.count(found.rows)),
        ("Rows to be scored", words.count(found.expected_rows)),
        ("Their digest", digest[found.digest_matches]),
        ("Keys that stand there twice", words.count(found.duplicated_keys)),
        ("Rows that belong on another side", words.count(found.misplaced_rows)),
        ("Share of all rows", f"{words.percent(found.share)} of {words.percent(found.expected_share)} asked for"),
        ("Buyers", f"{words.percent(found.base_rate)}; on the other sides {words.percent(found.other_base_rate)}"),
    ]
    return Table("Whether the test side is as it was ingested", ("What", "Found"), rows)


def _statistics(validation: Validation) -> Table:
    columns = ("Column", "Type", "Missing", "Distinct", "Mean", "Least", "Median", "Greatest", "Most frequent")
    rows = [_column(found) for found in validation.result.statistics]
    return Table("Columns over all rows", columns, rows, frozenset(range(2, 8)))


def _column(found: ColumnStatistics) -> tuple[str, ...]:
    numbers = (found.mean, found.minimum, found.quartiles[1] if found.quartiles else None, found.maximum)
    top = ", ".join(f"{value} ({number:,})" for value, number in list((found.top or {}).items())[:3])
    distinct = "-" if found.distinct is None else words.count(found.distinct)
    shown = ("-" if number is None else words.significant(number) for number in numbers)
    return (found.column, found.dtype, words.count(found.nulls), distinct, *shown, top or "-")
