"""Versions of a model that differ in what they answer, good ones and broken ones, and a service to follow them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from serving_models import GOOD
from vehins_runner import child_environment

from vehins.data.schema import load as load_schema
from vehins.model import bundle
from vehins.registry.registry import Registry
from vehins.registry.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vehins.model.bundle import Bundle
    from vehins.settings import Settings

PATIENCE = 90.0  # seconds; the machine may be busy
SHORT = {name: value for name, value in GOOD.items() if name != "Vintage"}
"""A row for a model that does not look at Vintage."""


def narrow_schema(path: Path) -> str:
    """Write the schema of a table whose models do not look at Vintage; its path."""
    lines = load_schema_text().replace("[columns.Vintage]\n", '[columns.Vintage]\nrole = "ignored"\n')
    path.write_text(lines)
    assert "Vintage" not in load_schema(str(path)).features
    return str(path)


def load_schema_text() -> str:
    import vehins.data

    return (Path(vehins.data.__file__).parent / "schemas" / "vehicle-insurance.toml").read_text()


def variant(base: Bundle, folder: Path, trees: int, *, golden_error: float = 0.0, keep: float = 1.0) -> str:
    """Write a bundle with the first trees of another, which answers otherwise; its digest.

    ``keep`` is the share of the model's text that stays, with hashes that fit what is left.
    """
    import lightgbm
    import numpy as np

    booster = lightgbm.Booster(model_file=base.folder / bundle.MODEL_FILE)
    text = booster.model_to_string(num_iteration=trees)
    rows = [json.loads(line)["row"] for line in (base.folder / bundle.GOLDEN_FILE).read_bytes().splitlines()]
    matrix = np.array([base.encoder.encode_row(row) for row in rows], dtype=np.float64)
    answers = booster.predict(matrix, num_iteration=trees, num_threads=1)
    golden = [
        bundle.GoldenRow(row=row, probability=float(answer) + golden_error)
        for row, answer in zip(rows, answers, strict=True)
    ]
    return bundle.write(
        folder,
        model=text[: int(len(text) * keep)],
        encoder=base.encoder,
        signature=base.signature,
        golden=golden,
    )


@dataclass(frozen=True)
class Publisher:
    """Writes to a registry as `vehins push` and `vehins models promote` do, and as a vandal does."""

    settings: Settings

    @property
    def store(self) -> Any:
        return open_store(self.settings.registry_url, self.settings.s3, self.settings.remote)

    @property
    def registry(self) -> Registry:
        return Registry(self.store, self.settings.model_name)

    def publish(self, folder: Path, digest: str) -> int:
        """Register a bundle; the number of its version."""
        given: dict[str, Any] = {"champion": None, "evaluation": {}, "approved": None, "lineage": {}}
        return self.registry.publish(folder, bundle.files(folder), bundle=digest, **given)[0].version

    def promote(self, version: int) -> None:
        self.registry.point(self.settings.alias, version, reason="test")

    def force(self, version: int) -> None:
        """Promote it without the look at its files that would refuse it."""
        self.registry._aliases.move(self.settings.alias, version, reason="test")

    def spoil(self, version: int, name: str, change: Callable[[bytes], bytes] | None) -> None:
        """Change a file of a version behind the registry's back, or take it away."""
        key = f"models/{self.settings.model_name}/versions/{version}/bundle/{name}"
        store = self.store
        if change is None:
            store.delete(key) if hasattr(store, "delete") else Path(store.url, key).unlink()
        else:
            store.put(key, change(store.get(key).data))


class Service:
    """`vehins serve` in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log_file = process, log
        self.url = ""

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False, timeout=PATIENCE)

    def predict(self, *rows: Mapping[str, Any]) -> httpx.Response:
        return httpx.post(self.url + "/v1/predict", json={"rows": rows}, trust_env=False, timeout=PATIENCE)

    def model(self) -> dict[str, Any]:
        return self.get("/v1/model").json()

    def version(self) -> int | None:
        """The version that answers."""
        response = self.get("/v1/model")
        return response.json()["version"] if response.status_code == 200 else None

    def wait_for(self, what: Callable[[], object]) -> None:
        """Wait until something holds."""
        wait_until(what, lambda: f"exit code {self.process.poll()}\n{self.log}")

    def wait_for_version(self, version: int) -> None:
        self.wait_for(lambda: self.version() == version)

    def wait_for_failure(self, version: int) -> dict[str, Any]:
        """Wait until a version is reported that could not take over; the report."""

        def failure() -> dict[str, Any]:
            return self.model()["service"]["last_failure"] or {}

        self.wait_for(lambda: failure().get("version") == version)
        return failure()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def wait_until(what: Callable[[], object], told: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


@contextmanager
def serving(
    settings: Settings, folder: Path, *words: str, env: Mapping[str, str] | None = None, wait: bool = True
) -> Iterator[Service]:
    """Run `vehins serve` until the end of the block."""
    log = folder / f"serve-{time.time_ns()}.log"
    given = ["--port", "0", "--workspace", str(settings.workspace), "--registry", settings.registry_url]
    if settings.s3.endpoint_url:
        given += ["--set", f"s3.endpoint_url={settings.s3.endpoint_url}", "--set", "s3.path_style=true"]
    quick = ["--set", "serve.poll_seconds=0.2", "--set", "serve.leave_seconds=0", "--set", "threads=1"]
    command = [sys.executable, "-m", "vehins", "serve", *given, *quick, *words]
    with log.open("wb") as err:
        process = subprocess.Popen(
            command, stderr=err, stdout=err, cwd=folder, env=child_environment(**(env or {})), stdin=subprocess.DEVNULL
        )
    service = Service(process, log)
    try:
        if wait:
            wait_for_url(service)
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_url(service: Service) -> None:
    """Wait until it says where it listens."""

    def found() -> bool:
        match = re.search(r" on (http://\S+?)(?: |,)", service.log)
        service.url = match[1] if match else ""
        return bool(match) or service.process.poll() is not None

    wait_until(found, lambda: service.log)
    assert service.url, f"exit code {service.process.poll()}\n{service.log}"


def children(pid: int) -> list[int]:
    """The processes that a supervisor has started and that serve, by their pids."""
    import psutil

    found = psutil.Process(pid).children()
    return [child.pid for child in found if "spawn_main" in " ".join(child.cmdline())]


def is_slow() -> bool:
    """Whether the long forms of tests are wanted."""
    return bool(os.environ.get("VEHINS_TEST_SLOW"))
