"""`vehins github`: what a runner is told, and that nothing which customers or servers have written can tell it more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from vehins_runner import customers

from vehins.report.markdown import escaped, table

if TYPE_CHECKING:
    from pathlib import Path

    from vehins_runner import Vehins


@pytest.fixture
def told(place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The files of a step."""
    found = {"GITHUB_OUTPUT": place / "output", "GITHUB_STEP_SUMMARY": place / "summary.md"}
    for name, path in found.items():
        monkeypatch.setenv(name, str(path))
    return found


def test_without_a_runner_the_stage_runs_all_the_same(vehins: Vehins) -> None:
    assert vehins("github", "ingest").out.strip().endswith("manifest.json")


def test_outputs_are_lines_that_a_runner_reads(finished: Vehins, told: dict[str, Path]) -> None:
    finished("github", "evaluate")
    outputs = dict(line.split("=", 1) for line in told["GITHUB_OUTPUT"].read_text().splitlines())
    assert (outputs["exit-code"], outputs["status"], outputs["verdict"]) == ("0", "reused", "accept")
    assert outputs["manifest"].endswith("manifest.json")


def test_what_a_stage_prints_is_no_command(vehins: Vehins, told: dict[str, Path], place: Path) -> None:
    rows = customers(500)
    rows = rows.with_columns(Gender=rows["Gender"].head(0).extend_constant("\n::error::forged\n", 500))
    rows.write_csv(place / "customers.csv")
    vehins("ingest", "--source", "customers.csv")
    answer = vehins("github", "validate", code=4)
    token = re.match(r"::stop-commands::([0-9a-f]{32})\n", answer.err)
    assert token
    stopped, _, after = answer.err.partition(f"::{token[1]}::\n")
    assert "forged" in stopped
    assert [line[:14] for line in after.splitlines()] == ["::error title="]
    assert "::error::forged" not in "\n".join(
        line for line in after.splitlines() if not line.startswith("::error title=")
    )


def test_quiet_and_failing_it_still_stops_commands(vehins: Vehins, told: dict[str, Path]) -> None:
    answer = vehins("github", "ingest", "--quiet", "--set", "source=nowhere.csv", code=6)
    first, *_, last = answer.err.splitlines()
    assert first.startswith("::stop-commands::")
    assert last.startswith("::error title=")
    assert "### ingest: failed" in told["GITHUB_STEP_SUMMARY"].read_text()


def test_an_annotation_is_one_line(vehins: Vehins, told: dict[str, Path]) -> None:
    answer = vehins("github", "ingest", "--set", "source=a, b: 100%.csv", code=6)
    [line] = [line for line in answer.err.splitlines() if line.startswith("::error ")]
    title, _, text = line.removeprefix("::error title=").partition("::")
    assert "," not in title
    assert ":" not in title
    assert "%0ATry%3A " not in text  # in the text, a colon is a colon
    assert "%0ATry: " in text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain words", "plain words"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("a | b", r"a \| b"),
        ("two\nlines\n# no heading", r"two lines \# no heading"),
        ("[a](b) @somebody", r"\[a\](b) \@somebody"),
        ("`code | here` and _there_", r"`code \| here` and \_there\_"),
        ("a ` alone", r"a \` alone"),
    ],
)
def test_text_of_others_is_no_markdown(text: str, wanted: str) -> None:
    assert escaped(text) == wanted


def test_a_table_is_a_line_a_row() -> None:
    assert table(("a", "b"), [("1|2", "x\ny")], frozenset({1})) == "| a | b |\n| --- | ---: |\n| 1\\|2 | x y |\n"
