"""/metrics: what is counted, under which names, and that nobody can make up time series."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving_models import GOOD, app_of, ask, guarded

import vehins
from vehins.serving.status import SwapOutcome
from vehins.serving.telemetry import access, logs, processes
from vehins.serving.telemetry.metrics import SCORES, Metrics
from vehins.serving.telemetry.predictions import COLUMNS

if TYPE_CHECKING:
    from fastapi import FastAPI

    from vehins.serving.predictor import Predictor

Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """Every value of a page, by name and labels (``name``, ``label=value``, ...)."""
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(app: FastAPI) -> Samples:
    response = ask(app, "GET", "/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return samples(response.text)


@pytest.fixture
def own(predictor: Predictor) -> FastAPI:
    """An application that nobody has asked yet."""
    return app_of(predictor, 1_000)


def test_requests_by_template_method_and_status(own: FastAPI) -> None:
    for _ in range(3):
        ask(own, "POST", "/v1/predict", json={"rows": [GOOD]})
    ask(own, "POST", "/v1/predict", content=b"{")
    for number in range(50):
        ask(own, "GET", f"/no/{number}?x=1")
        ask(own, f"METHOD{number}", "/healthz")
    found = scraped(own)
    requests = {key[1:]: value for key, value in found.items() if key[0] == "vehins_http_requests_total"}
    assert requests == {
        ("method=POST", "route=/v1/predict", "status=200"): 3,
        ("method=POST", "route=/v1/predict", "status=422"): 1,
        ("method=GET", "route=unmatched", "status=404"): 50,
        ("method=other", "route=/healthz", "status=405"): 50,
    }
    assert found["vehins_http_request_duration_seconds_count", "method=POST", "route=/v1/predict"] == 4
    assert 0 < found["vehins_http_request_duration_seconds_sum", "method=POST", "route=/v1/predict"] < 60
    assert found[("vehins_http_requests_in_progress",)] == 1  # the scrape itself


def test_what_a_layer_refuses_is_counted_where_it_was_asked(predictor: Predictor) -> None:
    key = "k" * 20
    app = guarded(predictor, [key])
    assert ask(app, "POST", "/v1/predict", json={"rows": [GOOD]}).status_code == 401
    assert ask(app, "GET", "/no/such/address").status_code == 401
    found = samples(ask(app, "GET", "/metrics", headers={"X-API-Key": key}).text)
    requests = {key[1:]: value for key, value in found.items() if key[0] == "vehins_http_requests_total"}
    assert requests == {
        ("method=POST", "route=/v1/predict", "status=401"): 1,
        ("method=GET", "route=unmatched", "status=401"): 1,
    }


def test_rows_and_scores(own: FastAPI, predictor: Predictor) -> None:
    rows = [{**GOOD, "Age": age} for age in range(18, 118)]
    ask(own, "POST", "/v1/predict", json={"rows": rows})
    ask(own, "POST", "/v1/predict", json={"rows": [GOOD]})
    scores = [prediction.probability for prediction in predictor.predict([*rows, GOOD])]
    found = scraped(own)
    assert found[("vehins_predicted_rows_total",)] == 101
    for bound in SCORES:
        expected = sum(score <= bound for score in scores)
        assert found["vehins_predicted_probability_bucket", f"le={bound}"] == expected
    assert found[("vehins_predicted_probability_count",)] == 101
    assert found[("vehins_predicted_probability_sum",)] == pytest.approx(sum(scores))


def test_scores_on_the_bounds_are_counted_as_one_by_one() -> None:
    one, many = Metrics(), Metrics()
    scores = [0.0, *SCORES, 0.005, 0.995, 1.0]
    for score in scores:
        one._scores.observe(score)
    many._scores.observe_all(scores)
    assert [metrics.page("")[0].count(b"predicted_probability_bucket") for metrics in (one, many)] == [14, 14]
    lines = [
        [line for line in metrics.page("")[0].splitlines() if b"predicted_probability_bucket" in line]
        for metrics in (one, many)
    ]
    assert lines[0] == lines[1]


def test_refused_rows_by_column_and_strange_columns_as_one(own: FastAPI) -> None:
    ask(own, "POST", "/v1/predict", json={"rows": [{**GOOD, "Age": 3}]})
    ask(own, "POST", "/v1/predict", json={"rows": [{**GOOD, "Age": 3, "Gender": "x"}]})
    for number in range(5):
        ask(own, "POST", "/v1/predict", json={"rows": [{**GOOD, f"strange{number}": 1, f"more{number}": 1}]})
    ask(own, "POST", "/v1/predict", json={"rows": [7]})
    refused = {key[1]: value for key, value in scraped(own).items() if key[0] == "vehins_refused_rows_total"}
    assert refused == {"column=Age": 2, "column=Gender": 1, "column=other": 6}


def test_the_model(own: FastAPI, predictor: Predictor) -> None:
    about = (f"bundle={predictor.bundle.digest[:12]}", "name=vehicle-insurance", "version=1")
    found = scraped(own)
    assert found["vehins_model_info", *about] == 1
    assert found[("vehins_model_registered_timestamp_seconds",)] == predictor.created_at.timestamp()
    assert predictor.trained_at is not None
    trained = found[("vehins_model_trained_timestamp_seconds",)]
    assert trained == predictor.trained_at.timestamp()
    assert 0 < predictor.created_at.timestamp() - trained < 300
    own.state.holder.put(None)
    assert scraped(own)["vehins_model_info", *about] == 0


def test_swaps() -> None:
    metrics = Metrics()
    for ok in (True, True, False):
        fault = None if ok else "it fails its golden rows"
        metrics.swapped(SwapOutcome(2, 1, fault, source="registry", at=datetime.now(UTC), seconds=0.1))
    found = samples(metrics.page("")[0].decode())
    assert found["vehins_model_swaps_total", "result=ok"] == 2
    assert found["vehins_model_swaps_total", "result=failed"] == 1


def test_openmetrics_for_who_asks_for_it(own: FastAPI) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    response = ask(own, "GET", "/metrics", headers=accept)
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.text.endswith("# EOF\n")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="process metrics are Linux's")
def test_the_process(own: FastAPI) -> None:
    found = scraped(own)
    assert found[("process_resident_memory_bytes",)] > 1e6
    assert found[("process_open_fds",)] > 3


def test_names_are_as_prometheus_wants_them() -> None:
    for name in Metrics().families:
        assert name.startswith("vehins_")
        assert name.replace("_", "").isalnum()
        assert not name.endswith(("_milliseconds", "_ms", "_kb", "_count"))


WORKER = """
import sys
from vehins.serving.telemetry.metrics import Metrics
metrics = Metrics()
metrics.in_progress.inc()
for _ in range(int(sys.argv[1])):
    metrics.requested("/v1/predict", "POST", 200, 0.001)
    metrics._scores.observe_all([0.15, 0.95])
print("counted", flush=True)
for line in sys.stdin:
    print(metrics.page("")[0].decode() + "# END", flush=True)
"""


class Worker:
    """A process that has counted some requests."""

    def __init__(self, requests: int) -> None:
        path = {"PYTHONPATH": str(Path(vehins.__file__).parents[1])}
        command = [sys.executable, "-W", "error", "-c", WORKER, str(requests)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=os.environ | path, stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "counted\n"

    def scrape(self) -> Samples:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        lines = iter(self.process.stdout.readline, "# END\n")
        return samples("".join(lines))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="process metrics are Linux's")
def test_any_worker_tells_of_all_and_the_counts_of_a_dead_one_stay() -> None:
    with processes.shared(2):
        folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        workers = [Worker(3), Worker(4)]
        try:
            pids = [str(worker.process.pid) for worker in workers]
            for worker in workers:
                found = worker.scrape()
                key = ("vehins_http_requests_total", "method=POST", "route=/v1/predict", "status=200")
                assert found[key] == 7
                assert found["vehins_predicted_probability_bucket", "le=0.2"] == 7
                assert found[("vehins_predicted_probability_count",)] == 14
                assert found[("vehins_http_requests_in_progress",)] == 2
                memory = {key[1] for key in found if key[0] == "process_resident_memory_bytes"}
                assert memory == {f"pid={pid}" for pid in pids}
            workers[0].process.send_signal(signal.SIGKILL)
            workers[0].process.wait(20)
            processes.ended(workers[0].process.pid)
            found = workers[1].scrape()
            assert found[key] == 7
            assert found[("vehins_http_requests_in_progress",)] == 1
            assert {key[1] for key in found if key[0] == "process_resident_memory_bytes"} == {f"pid={pids[1]}"}
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.communicate()
    assert not folder.exists()
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ


def test_one_worker_needs_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))  # of another service, by accident
    with processes.shared(1):
        assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
        processes.ended(12345)
    assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path)


def test_the_document_has_every_metric_every_field_and_every_column() -> None:
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    rows = [
        f"| `{name}` | {family.kind} | {', '.join(f'`{label}`' for label in family.labels)} | {family.text} |"
        for name, family in Metrics().families.items()
    ]
    assert re.findall(r"^\| `vehins_\w+` \| .*$", text, re.MULTILINE) == rows
    for fields in (access.FIELDS, logs.FIELDS, COLUMNS):
        table = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in fields.items())
        assert f"| --- | --- |\n{table}\n\n" in text
