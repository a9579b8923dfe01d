"""The prediction log: what stands in its parts, and that neither load, nor a full disk, nor a kill does any harm."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from server_process import wait_until
from service_process import serving
from serving_models import GOOD, ask

from vehins.data.demo import batches
from vehins.errors import StorageError
from vehins.registry.records import ModelVersion
from vehins.serving.app import create_app
from vehins.serving.holder import Holder
from vehins.serving.predictor import Predictor
from vehins.serving.telemetry import predictions as module
from vehins.serving.telemetry.metrics import Metrics
from vehins.serving.telemetry.predictions import COLUMNS, Limits, PredictionLog
from vehins.serving.telemetry.telemetry import Telemetry
from vehins.settings.sections import ServeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vehins.serving.holder import Ready
    from vehins.settings import Settings

VERSION = "vehicle-insurance/version-1"


def rows_of(count: int, seed: int = 5) -> list[dict[str, Any]]:
    frame = next(batches(count, seed=seed))
    return frame.drop("id", "Response").to_dicts()


def parts(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


def read(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in parts(folder)])


@pytest.fixture
def ready(predictor: Predictor) -> Ready:
    holder = Holder(10_000)
    holder.put(predictor)
    assert holder.ready is not None
    return holder.ready


def dropped(metrics: Metrics, reason: str) -> float:
    line = f'vehins_prediction_log_dropped_rows_total{{reason="{reason}"}} '
    [found] = [text for text in metrics.page("")[0].decode().splitlines() if text.startswith(line)]
    return float(found.removeprefix(line))


def kept(metrics: Metrics) -> float:
    page = metrics.page("")[0].decode()
    return float(page.split("\nvehins_prediction_log_rows_total ")[1].split("\n")[0])


def test_rows_come_back_as_they_were_asked_with_what_was_answered(predictor: Predictor, tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, Metrics())
    holder = Holder(10_000)
    holder.put(predictor)
    app = create_app(holder, ServeSettings(), telemetry=Telemetry(observers=[log]))
    rows = rows_of(1_700)
    sizes = [1, 1, 3, 495, 1_200]
    before, ids, answers = datetime.now(UTC), [], []
    start = 0
    for size in sizes:
        response = ask(app, "POST", "/v1/predict", json={"rows": rows[start : start + size]})
        ids += [response.headers["x-request-id"]] * size
        answers += response.json()["predictions"]
        start += size
    ask(app, "POST", "/v1/predict", json={"rows": [{**GOOD, "Age": 3}]})  # refused, so it has no score
    log.close(60)
    found = read(tmp_path)
    features = pl.DataFrame(rows)
    assert found.columns == [*features.columns, *COLUMNS]
    assert found.select(features.columns).equals(features)
    assert found.select("probability", "percentile", "contact").to_dicts() == answers
    assert found["request_id"].to_list() == ids
    assert found["model"].unique().to_list() == ["vehicle-insurance"]
    assert found["model_version"].dtype == pl.Int64
    assert found["scored_at"].dtype == pl.Datetime("us", "UTC")
    assert found["scored_at"].is_sorted()
    assert before <= found["scored_at"].min() <= found["scored_at"].max() <= datetime.now(UTC)
    assert [path.parent for path in parts(tmp_path)] == [tmp_path / VERSION]


def test_a_part_is_written_when_it_is_full_or_old(ready: Ready, tmp_path: Path) -> None:
    metrics = Metrics()
    log = PredictionLog(tmp_path, metrics, Limits(part_rows=50, part_seconds=3600))
    rows = rows_of(40)
    answers = ready.predictor.predict(rows)
    for _ in range(3):
        log.answered(ready, rows, answers)
        wait_until(lambda: log._waiting == 0)
    wait_until(lambda: kept(metrics) == 80)
    assert [pl.read_parquet(path).height for path in parts(tmp_path)] == [80]
    log.close(60)
    assert [pl.read_parquet(path).height for path in parts(tmp_path)] == [80, 40]
    old = PredictionLog(tmp_path / "old", metrics, Limits(part_seconds=0.2))
    old.answered(ready, rows, answers)
    wait_until(lambda: parts(tmp_path / "old"))
    old.close(60)


def test_another_version_has_parts_of_its_own(ready: Ready, predictor: Predictor, tmp_path: Path) -> None:
    record: ModelVersion = predictor._version
    other = ready._replace(predictor=Predictor(record.model_copy(update={"version": 2}), predictor.bundle))
    log = PredictionLog(tmp_path, Metrics())
    for number, one in enumerate([ready, ready, other, ready, other, other]):
        log.answered(one, [{**GOOD, "Vintage": number}], predictor.predict([GOOD]))
    log.close(60)
    for version, vintages in ((1, [0, 1, 3]), (2, [2, 4, 5])):
        found = read(tmp_path / "vehicle-insurance" / f"version-{version}")
        assert found["model_version"].unique().to_list() == [version]
        assert found["Vintage"].to_list() == vintages


def test_what_the_queue_cannot_take_is_dropped_and_counted(ready: Ready, tmp_path: Path) -> None:
    metrics = Metrics()
    log = PredictionLog(tmp_path, metrics, Limits(waiting_rows=100))
    rows = rows_of(80)
    answers = ready.predictor.predict(rows)
    for _ in range(200):
        log.answered(ready, rows, answers)
    log.close(60)
    assert dropped(metrics, "queue") >= 150 * 80
    assert dropped(metrics, "queue") + kept(metrics) == 200 * 80
    assert read(tmp_path).height == kept(metrics)


def test_nothing_that_a_row_can_be_ends_the_log(ready: Ready, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    log = PredictionLog(tmp_path, metrics)
    answers = ready.predictor.predict([GOOD])
    log.answered(ready, [{**GOOD, "Age": object()}], answers)  # type: ignore[dict-item]
    wait_until(lambda: dropped(metrics, "fault") == 1)
    log.answered(ready, [GOOD], answers)
    log.close(60)
    assert read(tmp_path).height == 1
    assert "lost" in caplog.text


def test_a_folder_that_cannot_be_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        PredictionLog(tmp_path / "file" / "log", Metrics())
    assert str(tmp_path) in caught.value.detail


def test_what_a_killed_process_left_half_written_goes_when_it_is_old(tmp_path: Path) -> None:
    folder = tmp_path / VERSION
    folder.mkdir(parents=True)
    for name, age in ((".tmp-old.parquet", 7_200), (".tmp-new.parquet", 5)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age,) * 2)
    PredictionLog(tmp_path, Metrics()).close(10)
    assert [path.name for path in folder.iterdir()] == [".tmp-new.parquet"]


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A disk of 1 MB; skips the test where this user may not mount one."""
    disk = place / "disk"
    disk.mkdir()
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("needs Linux's mount")
    try:
        words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
        subprocess.run(words, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cannot mount a small disk: {error.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_costs_rows_and_nothing_else(
    ready: Ready, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    rows = rows_of(500)
    answers = ready.predictor.predict(rows)
    with small_disk(tmp_path) as disk:
        log = PredictionLog(disk, metrics, Limits(part_rows=500, part_seconds=0.1))
        filler = disk / "filler"
        free = os.statvfs(disk)
        filler.write_bytes(b"\0" * (free.f_bavail * free.f_frsize))
        for number in (1, 2):
            log.answered(ready, rows, answers)
            wait_until(lambda number=number: dropped(metrics, "disk") == number * 500)
        assert list(disk.rglob(".tmp-*")) == parts(disk) == []
        assert [record.levelname for record in caplog.records] == ["ERROR"]  # once, not for every part
        filler.unlink()
        log.answered(ready, rows, answers)
        wait_until(lambda: kept(metrics) == 500)
        log.close(60)
        assert read(disk).height == 500
        assert "being written again" in caplog.text


def test_a_disk_that_hangs_ends_the_wait_at_its_bound(
    ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(module, "flush_file", lambda path: go_on.wait(60))
    log = PredictionLog(tmp_path, Metrics())
    log.answered(ready, [GOOD], ready.predictor.predict([GOOD]))
    log.close(0.3)
    assert "not written to its end" in caplog.text
    go_on.set()
    log._thread.join(30)
    assert read(tmp_path).height == 1


def test_a_service_keeps_all_rows_when_it_is_told_to_end_and_whole_parts_when_it_is_killed(
    served: Settings, tmp_path: Path
) -> None:
    settings = served.model_copy(update={"prediction_log": tmp_path})
    with serving(settings) as found:
        for rows in (rows_of(1), rows_of(300), rows_of(1_000)):
            assert found.predict(*rows).status_code == 200
        found.stop()
    assert found.process.returncode == 0
    assert read(tmp_path).height == 1_301
    assert {line["request_id"] for line in found.requests} == set(read(tmp_path)["request_id"])
    with serving(settings) as found:
        assert found.predict(*rows_of(10)).status_code == 200
        found.stop(signal.SIGKILL)
    assert read(tmp_path).height == 1_301  # the last minute is what a kill costs


def test_polars_is_not_imported_without_it(served: Settings) -> None:
    program = "import sys, vehins.serving.telemetry.telemetry; sys.exit('polars' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
