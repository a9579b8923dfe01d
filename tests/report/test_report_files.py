"""`vehins report`, and the report that every run of the chain leaves."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from vehins_runner import STAGES, WORKSPACE, all_are, tree

from vehins.artifacts.workspace import Workspace
from vehins.report import files, page, svg

if TYPE_CHECKING:
    from vehins_runner import Answer, Vehins

REPORTS = WORKSPACE / "reports"


def report_of(answer: Answer) -> Path:
    path = Path(answer.json["report"])
    assert path.parent == REPORTS
    assert path.is_file()
    return path


def heading(path: Path) -> str:
    return path.read_text(encoding="utf-8").split("<h1>")[1].split("</h1>")[0]


def test_a_run_leaves_a_report(vehins: Vehins) -> None:
    answer = vehins.run()
    path = report_of(answer)
    assert path.name == f"{answer.json['run']}.html"
    assert heading(path) == "Accepted: version 1 of vehicle-insurance is in production"
    text = path.read_text(encoding="utf-8")
    for told in ("Gains: buyers reached", "ROC curve", "Calibration", "Effect of ", "AUC by Gender", "Profit by"):
        assert told in text
    assert answer.json["run"] in text
    assert all(stage["artifact"].split("/")[1] in text for stage in answer.json["stages"])
    record = json.loads((WORKSPACE / "runs" / f"{answer.json['run']}.json").read_bytes())
    assert record["report"] == path.name


def test_the_report_tells_the_numbers_of_the_run(finished: Vehins) -> None:
    answer = finished.run()
    text = report_of(answer).read_text(encoding="utf-8")
    evaluation = answer.json["evaluation"]
    assert f"AUC {evaluation['auc']:.4f}" in text
    assert f"{evaluation['log_loss']:.4f}" in text
    assert all(rule["sentence"].split("`")[0] in text for rule in answer.json["gate"]["rules"])


def test_its_path_is_printed(finished: Vehins) -> None:
    answer = finished("pipeline", "run")
    (path,) = REPORTS.iterdir()
    assert f"Report    {path}\n" in answer.err
    assert str(path) not in finished("pipeline", "run", "--quiet").err


def test_a_run_that_changes_nothing_shares_its_report(finished: Vehins) -> None:
    (path,) = REPORTS.iterdir()
    before = tree(REPORTS)
    for _ in range(2):
        answer = finished.run()
        assert all_are("reused", answer)
        assert report_of(answer) == path
    assert tree(REPORTS) == before
    assert finished("report").out == f"{path}\n"
    assert tree(REPORTS) == before


def test_a_report_of_an_older_version_is_written_anew(finished: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = REPORTS.iterdir()
    monkeypatch.setattr(files, "_source", lambda: "another")
    assert report_of(finished.run()) != path
    assert Path(finished("report", path.stem).out.strip()) == path


def test_a_refused_run_leaves_its_report(finished: Vehins) -> None:
    answer = finished.run("--set", "train.seed=2", code=5)
    assert heading(report_of(answer)) == "Refused: the model has not earned its place"
    again = finished.run("--set", "train.seed=2", code=5)
    assert report_of(again) == report_of(answer)


def test_an_approved_run_gives_the_reason(finished: Vehins) -> None:
    path = report_of(finished.run("--set", "train.seed=2", "--approve", "Before the <winter>"))
    assert heading(path).startswith("Approved by hand: version 2 of vehicle-insurance")
    assert "Before the &lt;winter&gt;" in path.read_text(encoding="utf-8")


def test_a_failed_run_leaves_its_report(vehins: Vehins) -> None:
    first = report_of(vehins.run("--source", "nowhere.csv", code=6))
    assert heading(first) == "The run failed in ingest"
    assert "There is no file nowhere.csv." in first.read_text(encoding="utf-8")
    assert report_of(vehins.run("--source", "nowhere.csv", code=6)) != first


def test_a_run_with_bad_rows_leaves_its_report(vehins: Vehins) -> None:
    from vehins_runner import customers

    customers(300).with_columns(Age=-1).write_csv("customers.csv")
    path = report_of(vehins.run("--source", "customers.csv", code=4))
    assert heading(path) == "Refused: the rows are not good enough to train on"
    assert "What is wrong with the rows" in path.read_text(encoding="utf-8")


def test_a_bug_leaves_a_report_too(vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    from vehins.stages import train

    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(train.trainer, "fit", broken)
    vehins.run(code=1)
    (path,) = REPORTS.iterdir()
    assert heading(path) == "The run failed in train"


def test_a_stage_alone_leaves_none(vehins: Vehins) -> None:
    assert vehins("ingest", "--json").json["report"] is None
    assert not REPORTS.exists()


def test_a_stage_alone_can_be_reported(finished: Vehins) -> None:
    run = finished("evaluate", "--json", "--set", "evaluate.confidence=0.9").json["run"]
    path = Path(finished("report", run).out.strip())
    assert heading(path) == "Done: evaluate"
    text = path.read_text(encoding="utf-8")
    assert "90% interval" in text
    assert "Importance in training" in text
    assert "Where the rows came from" in text


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ZeroDivisionError("token=hunter22 x")])
def test_a_report_that_fails_is_no_failure(error: Exception, vehins: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> str:
        raise error

    monkeypatch.setattr(page, "render", broken)
    answer = vehins.run()
    assert all_are("ran", answer)
    assert answer.json["report"] is None
    assert "Note: The report could not be written (" in answer.err
    assert "hunter22" not in answer.err
    assert vehins("runs", "show", "--json").json["outcome"] == "completed"


def test_the_report_of_a_named_run(finished: Vehins) -> None:
    (path,) = REPORTS.iterdir()
    path.unlink()
    answer = finished("report", path.stem[:16], "--json").json
    assert answer == {"run": path.stem, "compared_with": None, "report": str(path)}
    assert heading(path).startswith("Accepted")
    assert "There is no run 1999" in finished("report", "1999", code=6).err
    assert "no run yet" in finished("report", "-w", "empty", code=6).err


def test_what_is_gone_does_not_empty_a_report(finished: Vehins) -> None:
    (path,) = REPORTS.iterdir()
    whole = path.read_bytes()
    shutil.rmtree(WORKSPACE / "artifacts")
    assert Path(finished("report").out.strip()) == path
    assert path.read_bytes() == whole
    path.unlink()
    finished("report")
    assert "No longer whole in the workspace" in path.read_text(encoding="utf-8")


def test_a_damaged_curve_is_left_out(finished: Vehins) -> None:
    (path,) = REPORTS.iterdir()
    path.unlink()
    (evaluation,) = (WORKSPACE / "artifacts" / "Evaluation").iterdir()
    (evaluation / "curves.json").write_bytes(b"{")
    (evaluation / "drivers.json").unlink()
    finished("report")
    text = path.read_text(encoding="utf-8")
    assert "<h3>ROC curve" not in text
    assert "Gains and lift of this model" in text
    assert f"Evaluation/{evaluation.name}/curves.json, Evaluation/{evaluation.name}/drivers.json." in text


def test_two_runs_compared(finished: Vehins) -> None:
    (first,) = REPORTS.iterdir()
    second = finished.run("--set", "train.seed=2", code=5).json["run"]
    answer = finished("report", second, "--compare", first.stem, "--json").json
    path = Path(answer["report"])
    assert answer == {"run": second, "compared_with": first.stem, "report": str(REPORTS / path.name)}
    assert path.name == f"{second}-vs-{first.stem}.html"
    text = path.read_text(encoding="utf-8")
    assert heading(path) == "Two runs compared"
    assert "setting train.seed 1 -&gt; 2" in text
    assert "Both were judged on the same customers" in text
    assert "There is no run 1999" in finished("report", "--compare", "1999", code=6).err


def test_it_can_be_opened(finished: Vehins, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > "{tmp_path}/opened"\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    (path,) = REPORTS.iterdir()
    assert finished("report", "--open").out == f"{path}\n"
    assert (tmp_path / "opened").read_text() == path.resolve().as_uri()


def test_a_machine_without_a_browser(finished: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    assert "No browser could be opened" in finished("report", "--open").err


def test_gc_keeps_the_reports_of_recent_runs(finished: Vehins) -> None:
    (first,) = REPORTS.iterdir()
    refused = report_of(finished.run("--set", "train.seed=2", code=5))
    versus = Path(finished("report", refused.stem, "--compare", first.stem).out.strip())
    finished.run()  # shares the report of the first
    gone = {Path(item["folder"]) for item in finished("gc", "--json", "--keep-runs", "1").json["folders"]}
    assert gone & set(REPORTS.iterdir()) == {refused, versus}
    answer = finished("gc", "--json", "--keep-runs", "3").json
    assert {Path(item["folder"]) for item in answer["folders"]} & set(REPORTS.iterdir()) == set()
    (REPORTS / ".tmp-0123").write_text("half")
    answer = finished("gc", "--json", "--apply", "--keep-runs", "1").json
    assert all(item["bytes"] > 0 for item in answer["folders"])
    assert list(REPORTS.iterdir()) == [first]
    reasons = {item["reason"] for item in answer["folders"] if Path(item["folder"]).parent == REPORTS}
    assert reasons == {"report of a run that is not recent"}


def test_a_report_needs_no_engine(finished: Vehins) -> None:
    """It is drawn from records: neither polars nor numpy nor LightGBM is imported for it."""
    import subprocess

    from vehins_runner import child_environment

    (path,) = REPORTS.iterdir()
    path.unlink()
    code = "import sys; sys.argv = ['vehins', 'report', '--quiet']\nfrom vehins.cli import main\n"
    code += "import atexit; atexit.register(lambda: print(sorted({n.partition('.')[0] for n in sys.modules})))\nmain()"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=True)
    assert path.is_file()
    assert "pygal" in done.stdout
    assert not {"polars", "numpy", "lightgbm", "sklearn"} & set(done.stdout.replace("'", " ").replace(",", " ").split())


def test_only_what_changes_costs(finished: Vehins, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that reuses everything neither draws nor reads an artifact for its report."""

    def drawn(*_: object) -> None:
        raise AssertionError("it was drawn")

    monkeypatch.setattr(svg, "_pygal", drawn)
    assert report_of(finished.run()).is_file()


def test_every_stage_is_told(finished: Vehins) -> None:
    (path,) = REPORTS.iterdir()
    text = path.read_text(encoding="utf-8")
    assert all(f'<th scope="row">{stage}</th>' in text for stage in STAGES)
    assert files.write(Workspace(WORKSPACE), _newest()) == path


def _newest() -> object:
    from vehins.artifacts import runs

    return runs.find(Workspace(WORKSPACE), None)
