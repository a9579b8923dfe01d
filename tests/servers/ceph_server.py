"""Ceph's S3 gateway on this machine: a monitor, a store in memory and the gateway, without a manager.

It is an implementation of S3 that shares nothing with the quick server of the other tests: it checks signatures and
policies of buckets. Its programs come with a distribution (Debian: radosgw, ceph-mon, ceph-osd, ceph-common).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from s3_client import S3Server
from server_process import HOST, answers, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_PATIENCE = 60.0  # seconds
_CONFIG = """\
[global]
fsid = {fsid}
mon host = [v1:{host}:{monitor}]
public addr = {host}
cluster addr = {host}
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd class update on start = false
osd crush update on start = false
osd objectstore = memstore
memstore device bytes = 4294967296
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
run dir = {folder}/run
log file = {folder}/log/$name.log
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
rgw dynamic resharding = false
[mon.a]
host = localhost
mon data = {folder}/mon
[osd.0]
osd data = {folder}/osd
[client.rgw]
rgw data = {folder}/rgw
rgw frontends = beast endpoint={host}:{gateway}
rgw thread pool size = 64
"""


class Ceph:
    """A gateway whose users the tests make."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.endpoint = folder, f"http://{HOST}:{port}"
        self.owner = self.user("owner")

    def user(self, name: str) -> S3Server:
        """A new user, as a login; it may make buckets and do nothing in those of others."""
        text = _call(self.folder, *_ADMIN, "user", "create", "--uid", name, "--display-name", name)
        key = json.loads(text)["keys"][0]
        return S3Server(self.endpoint, key["access_key"], key["secret_key"])


_ADMIN = ("radosgw-admin", "-n", "client.rgw")


def _call(folder: Path, *command: str) -> str:
    """Run a program of Ceph; return what it prints."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=_variables(folder), timeout=_PATIENCE
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-1000:]}")
    return done.stdout


def _variables(folder: Path) -> dict[str, str]:
    return {**os.environ, "CEPH_CONF": str(folder / "ceph.conf")}


def _wait(what: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        with suppress(RuntimeError):
            if ready():
                return
        if time.monotonic() > deadline:
            pytest.fail(f"Ceph did not start: waited for {what}")
        time.sleep(0.1)


def start(folder: Path) -> Ceph:
    """Make a cluster in a folder and start it; every program goes to the background by itself."""
    for name in ("mon", "osd", "rgw", "run", "log"):
        (folder / name).mkdir()
    fsid, monitor, gateway = str(uuid4()), free_port(), free_port()
    config = _CONFIG.format(fsid=fsid, host=HOST, monitor=monitor, gateway=gateway, folder=folder)
    (folder / "ceph.conf").write_text(config)
    first = str(folder / "monmap")
    _call(folder, "monmaptool", "--create", "--addv", "a", f"[v1:{HOST}:{monitor}]", "--fsid", fsid, first)
    _call(folder, "ceph-mon", "--mkfs", "-i", "a", "--monmap", first)
    _call(folder, "ceph-mon", "-i", "a")
    store = str(uuid4())
    # A monitor that has just begun refuses commands for a moment.
    _wait("the monitor", lambda: _call(folder, "ceph", "--connect-timeout", "5", "osd", "new", store).strip() == "0")
    _call(folder, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store)
    _call(folder, "ceph-osd", "-i", "0")
    _call(folder, "ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost")
    _call(folder, "radosgw", "-n", "client.rgw")
    _wait("the gateway", lambda: answers(gateway))
    return Ceph(folder, gateway)


def stop(folder: Path) -> None:
    """End what was started there, the gateway first, and wait until it is gone."""
    for path in sorted((folder / "run").glob("*.pid"), reverse=True):
        with suppress(ValueError, OSError):
            process = int(path.read_text())
            os.kill(process, signal.SIGKILL)  # nothing of it is to be kept
            deadline = time.monotonic() + 10
            while Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
                time.sleep(0.02)


@contextmanager
def running_ceph() -> Iterator[Ceph]:
    """A cluster until the end of the block; the test is skipped where Ceph is not installed."""
    lacking = [name for name in _PROGRAMS if shutil.which(name) is None]
    if lacking:
        pytest.skip(f"{', '.join(lacking)} not installed (apt-get install radosgw ceph-mon ceph-osd ceph-common)")
    with tempfile.TemporaryDirectory(prefix="vehins-ceph-", ignore_cleanup_errors=True) as name:
        try:
            yield start(Path(name))
        finally:
            stop(Path(name))


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """A gateway of the tests' own, for the slow lane."""
    if not os.environ.get("VEHINS_TEST_SLOW"):
        pytest.skip("starts a cluster of Ceph: set VEHINS_TEST_SLOW=1, or `.ci/run slow`")
    with running_ceph() as server:
        yield server
