"""Fixtures for tests that go through the command line."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import server_process
from made_once import made_once
from vehins_runner import WORKSPACE, Vehins, call_main, in_folder

from vehins import masking

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


pytest_plugins = [
    "ceph_server",
    "chromium",
    "mongodb_server",
    "postgres_server",
    "s3_server",
    "secrets_manager",
    "sqlserver_server",
]


# A busy machine is no fault of an example; and a suite that judges a change gives the same code the same answer each
# time, so that it looks for examples of its own in its long form alone.
hypothesis.settings.register_profile(
    "vehins",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=not os.environ.get("VEHINS_TEST_SLOW"),
)
hypothesis.settings.load_profile("vehins")


# Files that take longer than others, the longest first.
LONG = (
    "delivery/test_box.py",
    "delivery/test_image.py",
    "delivery/test_box_recovery.py",
    "data/test_mongodb_faults.py",
    "registry/faults/test_s3_writes.py",
    "registry/faults/test_s3_random.py",
    "serving/test_restarts.py",
    "serving/test_swap_under_load.py",
    "delivery/test_deploy_command.py",
    "delivery/test_publish.py",
    "delivery/test_compose.py",
    "delivery/test_runbook.py",
    "delivery/test_haproxy.py",
    "delivery/test_retrain.py",
    "registry/test_ceph.py",
    "registry/test_crashes.py",
    "registry/test_crowd.py",
    "faults/test_interrupts.py",
    "faults/test_kills.py",
    "cli/test_store_secrets.py",
    "serving/test_schemathesis.py",
    "serving/test_hostile.py",
    "cli/test_drift_of_source.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let workers begin with what takes long: begun last, it would keep one at work when the others have ended."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    tests = Path(__file__).parent
    ranks = {tests / name: rank for rank, name in enumerate(LONG)}
    sizes = Counter(item.path for item in items)
    items.sort(key=lambda item: (ranks.get(item.path, len(ranks)), -sizes[item.path], item.path))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Show with a failure what the servers have printed that run at that moment."""
    report = yield
    if report.failed:
        report.sections += [("A server of the tests", text) for text in server_process.all_shown()]
    return report


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of a command knows no secret when it starts; a test has its own, and masks those of no other."""
    monkeypatch.setattr(masking, "_known", set())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, with small settings in its ``vehins.toml``."""
    with in_folder(monkeypatch, tmp_path) as folder:
        yield folder


@pytest.fixture
def vehins(place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Vehins:
    """The command ``vehins`` in that folder."""
    return Vehins(capfd, monkeypatch)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the chain has run; not to be changed."""

    def run(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch, in_folder(patch, folder):
            patch.setattr(sys, "argv", ["vehins", "pipeline", "run", "--quiet"])
            assert call_main() == 0

    return made_once(tmp_path_factory, "finished", run) / WORKSPACE


@pytest.fixture
def finished(finished_once: Path, vehins: Vehins) -> Vehins:
    """The command in a folder whose workspace is a copy of that one."""
    shutil.copytree(finished_once, WORKSPACE)
    return vehins
