"""At full load, versions are promoted and broken ones pushed: no request fails, and no answer is a mix of two versions.

Every answer is held to what the version that it names predicts offline, to the last bit. One of the versions has
another table, with a column less: then requests with that column are refused, and none is answered by another version.
VEHINS_TEST_SLOW=1 asks for the long form: 100,000 requests, 20 promotions and 5 broken bundles.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import load_driver
import numpy as np
import pytest
from load_driver import Body, Plan
from s3_client import Bucket
from service_process import Service, serving
from serving_models import GOOD, build
from swap_models import SHORT, Publisher, is_slow, narrow_schema, variant
from vehins_runner import child_environment

from vehins.data.demo import batches
from vehins.model.bundle import Bundle
from vehins.serving.predictor import Predictor, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vehins.serving.predictor import Prediction
    from vehins.settings import Settings

LONG = is_slow()
REQUESTS, PROMOTIONS = (100_000, 20) if LONG else (5_000, 6)
BREAKAGES = ("hash", "golden", "truncated", "missing", "another") if LONG else ("golden", "truncated")
CONNECTIONS, DRIVERS, PAUSE = (16, 2, 0.0) if LONG else (8, 1, 0.004)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, served: Settings) -> Settings:
    """A workspace with a model whose table has a column less."""
    folder = tmp_path_factory.mktemp("narrow")
    schema = narrow_schema(folder / "narrow.toml")
    return build(folder / "workspace", schema_file=schema, **{"gate.max_calibration_error": "0.2"})


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, served: Settings, tmp_path: Path) -> tuple[Settings, dict[str, str]]:
    """Settings of a service with an empty registry of its own, and the variables that it needs."""
    changes: dict[str, Any] = {"workspace": tmp_path / "workspace", "threads": 1}
    if request.param == "folder":
        return served.model_copy(update={**changes, "registry": str(tmp_path / "registry")}), {}
    bucket: Bucket = request.getfixturevalue("bucket")
    changes |= {"registry": f"{bucket.url}/models", "s3": bucket.server.s3}
    return served.model_copy(update=changes), bucket.server.variables


class Story:
    """The versions of a test, and what each predicts."""

    def __init__(self, settings: Settings, wide: Settings, narrow: Settings, folder: Path) -> None:
        self.publisher, self.folder = Publisher(settings), folder
        self.wide, self.narrow = load(wide).bundle, load(narrow).bundle
        self.trees = 4
        self.kinds: dict[int, str] = {}
        self.predictors: dict[int, Predictor] = {}
        self.good = [self.add("narrow" if number == 2 else "wide") for number in range(PROMOTIONS + 1)]
        self.broken = {self.break_one(how): how for how in BREAKAGES}

    def add(self, kind: str) -> int:
        """Publish a version that answers as none before."""
        self.trees += 1
        base, folder = getattr(self, kind), self.folder / f"trees-{self.trees}"
        version = self.publisher.publish(folder, variant(base, folder, self.trees))
        self.kinds[version] = kind
        registered = self.publisher.registry.version(version)
        self.predictors[version] = Predictor(registered, Bundle(folder, 1))
        return version

    def break_one(self, how: str) -> int:
        """Publish a version that must not answer."""
        self.trees += 1
        folder = self.folder / f"broken-{how}"
        digest = variant(
            self.wide,
            folder,
            self.trees,
            golden_error=1e-6 if how == "golden" else 0.0,
            keep=deadly(self.wide, self.folder, self.trees) if how == "truncated" else 1.0,
        )
        version = self.publisher.publish(folder, "f" * 64 if how == "another" else digest)
        if how == "hash":
            self.publisher.spoil(version, "model.txt", lambda data: data.replace(b"0", b"1", 1))
        if how == "missing":
            self.publisher.spoil(version, "features.json", None)
        return version

    def bodies(self) -> list[Body]:
        """Requests of one, some and many rows; and of rows without the column that one version does not look at."""
        frame = next(batches(300, seed=11)).select(list(GOOD))
        rows = frame.to_dicts()
        parts = [rows[number : number + 1] for number in range(12)] + [rows[20:27], rows[30:230]]
        bodies = [self.body(part, "wide", "must be left out") for part in parts]
        without = [{name: row[name] for name in SHORT} for row in rows]
        return [*bodies, *(self.body(part, "narrow", "is missing") for part in (without[:1], without[5:12]))]

    def body(self, rows: list[dict[str, Any]], kind: str, refused: str) -> Body:
        """Predicted here, from the folders of the bundles, by no service."""
        answers = {
            version: [told(answer) for answer in predictor.predict(rows)]
            for version, predictor in self.predictors.items()
            if self.kinds[version] == kind
        }
        return Body(kind, rows, answers, refused)


def told(answer: Prediction) -> dict[str, Any]:
    """A prediction as the service tells it."""
    return {"probability": answer.probability, "percentile": answer.percentile, "contact": answer.contact}


def deadly(base: Bundle, folder: Path, trees: int) -> float:
    """Where to cut a model's text so that it kills who opens it; else anywhere."""
    for keep in np.arange(0.95, 0.3, -0.05):
        cut = folder / f"cut-{keep:.2f}"
        variant(base, cut, trees, keep=float(keep))
        command = [sys.executable, "-m", "vehins.serving.trial", str(cut)]
        ended = subprocess.run(command, env=child_environment(), capture_output=True, check=False)
        if ended.returncode < 0:
            return float(keep)
    return 0.5


@contextmanager
def load_on(service: Service, bodies: list[Body], stop: Path, order: list[int]) -> Iterator[list[Any]]:
    """Clients that ask all the time; at the end of the block their reports are in the list."""
    reports: list[Any] = []
    plan = Plan("127.0.0.1", service.port, CONNECTIONS // DRIVERS, REQUESTS // DRIVERS, str(stop), bodies, order, PAUSE)
    drivers = [
        subprocess.Popen(
            [sys.executable, load_driver.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
        )
        for _ in range(DRIVERS)
    ]
    try:
        for driver in drivers:
            assert driver.stdin is not None
            driver.stdin.write(pickle.dumps(plan))
            driver.stdin.flush()
        for driver in drivers:  # else the first version could be gone before it is asked
            assert driver.stdout is not None
            assert driver.stdout.readline() == b"begun\n"
        yield reports
        stop.touch()
        for driver in drivers:
            assert driver.stdout is not None
            reports.append(json.loads(driver.stdout.read()))
    finally:
        for driver in drivers:
            driver.kill()
            driver.communicate()


class Director:
    """Promotes, breaks and rolls back while the clients ask."""

    def __init__(self, story: Story, service: Service, breaks: list[int], promotions: int) -> None:
        self.story, self.service, self.breaks = story, service, breaks
        self.good = story.good[: promotions + 1]
        self.narrow: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
        """When the version with fewer columns was promoted and seen, when it was replaced, and seen to be."""

    @property
    def order(self) -> list[int]:
        """The versions in the order in which they answer; a rollback comes last."""
        return [*self.good, self.good[-2]]

    def run(self) -> None:
        publisher, service, waiting = self.story.publisher, self.service, list(self.breaks)
        every = max(1, (len(self.good) - 1) // len(waiting))
        for number, version in enumerate(self.good[1:], 1):
            before = time.time()
            publisher.promote(version)
            service.wait_for_version(version)
            self.note(version, self.good[number - 1], before)
            if number % every == 0 and waiting:
                publisher.force(waiting[0])
                service.wait_for_failure(waiting.pop(0))
                assert service.version() == version
        while publisher.registry.alias(publisher.settings.alias).version != self.good[-2]:
            publisher.registry.rollback(publisher.settings.alias, reason="test")
        service.wait_for_version(self.good[-2])
        assert not waiting

    def note(self, version: int, last: int, before: float) -> None:
        if self.story.kinds[version] == "narrow":
            self.narrow = (before, time.time(), 0.0, 0.0)
        elif self.story.kinds[last] == "narrow":
            self.narrow = (*self.narrow[:2], before, time.time())

    def is_right(self, kind: str, sent: float, came: float) -> bool:
        """Whether there was a version between these moments that refuses such rows."""
        promoted, seen, replaced, over = self.narrow
        if kind == "wide":
            return sent <= over and came >= promoted
        return not seen <= sent <= came <= replaced


def test_versions_change_under_full_load(
    place: tuple[Settings, dict[str, str]], served: Settings, narrow: Settings, tmp_path: Path
) -> None:
    settings, variables = place
    is_short_s3 = bool(variables) and not LONG  # what differs is how the registry is read: a few moves tell
    story = Story(settings, served, narrow, tmp_path)
    story.publisher.promote(story.good[0])
    with serving(settings, env=variables) as service:
        service.wait_for_version(story.good[0])
        breaks = list(story.broken)[: 1 if is_short_s3 else None]
        director = Director(story, service, breaks, PROMOTIONS - 2 if is_short_s3 else PROMOTIONS)
        began = time.monotonic()
        with load_on(service, story.bodies(), tmp_path / "stop", director.order) as reports:
            director.run()
        took = time.monotonic() - began
        state = service.model()["service"]
        assert service.stop() == 0
    tell(reports, took, state)
    faults = [fault for report in reports for fault in report["faults"]]
    assert not faults, faults[:5]
    assert sum(report["requests"] for report in reports) >= REQUESTS
    answered = {int(version) for report in reports for version in report["versions"]}
    assert answered == set(director.good)
    refusals = [refusal for report in reports for refusal in report["refusals"]]
    assert {kind for kind, _, _ in refusals} == {"wide", "narrow"}
    assert [refusal for refusal in refusals if not director.is_right(*refusal)] == []
    assert (state["swaps"], state["failed_swaps"]) == (len(director.order), len(breaks))


def tell(reports: list[Any], took: float, state: dict[str, Any]) -> None:
    """The figures, for who runs this with ``-s``."""
    seconds = np.array([second for report in reports for second in report["seconds"]]) * 1e3
    p50, p99, most = np.percentile(seconds, [50, 99, 100])
    print(
        f"\n{len(seconds):,} requests in {took:.1f} s ({len(seconds) / took:,.0f}/s), {state['swaps']} swaps,"
        f" {state['failed_swaps']} refused versions; ms: median {p50:.1f}, p99 {p99:.1f}, longest {most:.1f};"
        f" 422 {sum(len(report['refusals']) for report in reports):,};"
        f" faults {sum(len(report['faults']) for report in reports)}"
    )
