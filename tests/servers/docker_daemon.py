"""A Docker daemon of the tests' own: in a network of its own, on data of its own, so that it meddles with no other.

A base image is made on the spot from Debian's packages, as no registry can be asked. Building reaches the network of
this machine (pip, apt); running happens in the network namespace, where ports are free and nothing leads outside.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = "vehins-test-base"
STANDIN = Path(__file__).parents[1] / "delivery" / "standin.py"
# Debian's own first: another one on the PATH may lack the part that builds.
CLIENT = next((name for name in ("/usr/bin/docker",) if Path(name).exists()), "docker")
CA_FILE = Path("/etc/ssl/certs/ca-certificates.crt")
_PROGRAMS = ("dockerd", "docker", "debootstrap", "iptables", "nsenter", "unshare")
_PATIENCE = 60.0  # seconds
_OUTCOMES = (pytest.skip.Exception, pytest.fail.Exception)  # which are no exceptions
_MUCH = 12 * 2**30  # bytes of memory; the images of one daemon are 3 GB at most
_DAEMON_OPTIONS = ["--storage-driver", "overlay2", "--live-restore", "--userland-proxy=false"]  # as in daemon.json


@dataclass
class Daemon:
    """A daemon that can be stopped, killed and started again."""

    folder: Path
    network: int
    """Process whose network namespace is the daemon's."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    containerd: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    turn: threading.RLock = field(default_factory=threading.RLock, repr=False)
    """Who starts or ends it: a test, or the command that it restarts by."""

    @property
    def socket(self) -> str:
        """Where it listens."""
        return f"unix://{self.folder}/docker.sock"

    @property
    def inside(self) -> list[str]:
        """What to put before a command that is to run in the daemon's network."""
        return ["nsenter", f"--net=/proc/{self.network}/ns/net", "--"]

    def __call__(self, *words: str, check: bool = True, **more: str) -> str:
        """Run ``docker words...``; return what it prints, stderr included if it may fail."""
        done = subprocess.run(
            [CLIENT, "-H", self.socket, *words],
            capture_output=True,
            text=True,
            env={**os.environ, **more},
            check=False,
        )
        if check and done.returncode:
            told = done.stdout[-3000:] + done.stderr[-3000:]
            pytest.fail(f"docker {' '.join(words)}: exit code {done.returncode}\n{told}")
        return done.stdout if check else done.stdout + done.stderr

    def start(self, *, inside: bool = True) -> None:
        """Start it, and wait until it answers. As on a real machine, containerd is a service of its own."""
        with self.turn:
            self._start(inside=inside)

    def _start(self, *, inside: bool) -> None:
        options = [] if inside else self._meddling_with_nothing()
        before = self.inside if inside else []
        if self.containerd is None:
            self._start_containerd(before)
        paths = {"--data-root": "data", "--exec-root": "exec", "--pidfile": "docker.pid"}
        folders = [word for name, path in paths.items() for word in (name, str(self.folder / path))]
        self.process = self._run(
            *before, "dockerd", "-H", self.socket, "--containerd", self._address, *folders, *_DAEMON_OPTIONS, *options
        )
        deadline = time.monotonic() + _PATIENCE
        while "Server Version" not in self("info", check=False):
            if self.process.poll() is not None or time.monotonic() > deadline:
                told = (self.folder / "daemons.log").read_text(errors="replace")[-1500:]
                self.stop(signal.SIGKILL)
                pytest.skip(f"dockerd does not start here: {told}")
            time.sleep(0.1)

    def _meddling_with_nothing(self) -> list[str]:
        """Options while images are built, in this machine's network: with no bridge at all it would remove docker0."""
        for words in (["add", self.bridge, "type", "bridge"], ["set", self.bridge, "up"]):
            subprocess.run(["ip", "link", *words], check=True, capture_output=True)
        mine = int(IPv4Address("198.18.0.0")) + self.network % 2**13 * 16  # of a network for tests, RFC 2544
        address = f"{IPv4Address(mine + 1)}/28"
        subprocess.run(["ip", "address", "add", address, "dev", self.bridge], check=True, capture_output=True)
        return [
            f"--bridge={self.bridge}",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
        ]

    @property
    def bridge(self) -> str:
        """Its bridge in this machine's network."""
        return f"vehins{self.network}"

    @property
    def _address(self) -> str:
        return str(self.folder / "containerd.sock")

    def _start_containerd(self, before: list[str]) -> None:
        config = self.folder / "containerd.toml"
        config.write_text(
            f'version = 2\nroot = "{self.folder}/containerd"\nstate = "{self.folder}/containerd-run"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{self._address}"\n'
        )
        Path(self._address).unlink(missing_ok=True)  # of one that was killed
        self.containerd = self._run(*before, "containerd", "--config", str(config))
        deadline = time.monotonic() + _PATIENCE
        while not Path(self._address).exists() and self.containerd.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "daemons.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it; its containers live on."""
        with self.turn:
            if self.process is not None:
                self.process.send_signal(number)
                self.process.wait(_PATIENCE)
                self.process = None

    @contextmanager
    def restarted_on_demand(self, folder: Path) -> Iterator[str]:
        """A command that restarts it during the block, as systemd would."""
        command, wanted, over = folder / "restart-docker", folder / "restart-wanted", threading.Event()
        command.write_text(f"#!/bin/sh\ntouch {wanted}\nwhile [ -e {wanted} ]; do sleep 0.1; done\n")
        command.chmod(0o755)

        def watch() -> None:
            while not over.wait(0.05):
                with self.turn:
                    if wanted.exists():
                        self.stop()
                        self.start()
                        wanted.unlink()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield str(command)
        finally:
            over.set()
            thread.join()

    def stop_all(self) -> None:
        """End it and containerd."""
        self.stop()
        if self.containerd is not None:
            self.containerd.terminate()
            self.containerd.wait(_PATIENCE)
            self.containerd = None

    def end(self) -> None:
        """End it with all of its containers and helpers, whatever fails on the way."""
        with suppress(Exception, *_OUTCOMES):
            if self.process is None or self.process.poll() is not None:
                self.start()
            if containers := self("ps", "--all", "--quiet").split():
                self("rm", "--force", "--volumes", *containers, check=False)
        with suppress(Exception, *_OUTCOMES):
            self.stop_all()
        self.kill_all()
        subprocess.run(["ip", "link", "delete", self.bridge], check=False, capture_output=True)
        _unmount(self.folder)

    def kill_all(self) -> None:
        """Kill its containers, their shims and containerd, as the end of the machine does."""
        for process in [*self._of_containers(), *self._helpers()]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if self.containerd is not None:
            self.containerd.wait(_PATIENCE)
            self.containerd = None

    def _helpers(self) -> list[int]:
        """containerd and its shims, told from those of others by the folder of their sockets."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if b"containerd" in words[0] and str(self.folder).encode() in b" ".join(words):
                    found.append(int(path.parent.name))
        return found

    def _of_containers(self) -> list[int]:
        """The first process of each container, by what the runtime keeps of it."""
        return [int(path.read_text()) for path in (self.folder / "containerd-run").rglob("init.pid")]

    def build(self, tag: str, context: Path, *words: str) -> None:
        """Build an image."""
        self("build", "--quiet", "--tag", tag, *words, str(context), DOCKER_BUILDKIT="1")


def base_tar(shared: Path) -> Path:
    """A Debian with Python as a tar file, made once for all processes of a test session.

    VEHINS_TEST_DOCKER_BASE names one that is there already.
    """
    if given := os.environ.get("VEHINS_TEST_DOCKER_BASE"):
        return Path(given)
    target = shared / "docker-base.tar"
    with FileLock(shared / "docker-base.lock"):
        if not target.exists():
            root = shared / "docker-base"
            root.mkdir(exist_ok=True)
            _in_memory(root)
            command = ["debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", "bookworm"]
            done = subprocess.run([*command, str(root)], capture_output=True, text=True, check=False)
            if done.returncode:
                _unmount(root)
                pytest.skip(f"debootstrap made no base image: {done.stdout.strip().splitlines()[-1:]}")
            left = ["--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*"]  # a third of it
            subprocess.run(["tar", "-C", str(root), *left, "-c", "-f", f"{target}.new", "."], check=True)
            _unmount(root)
            shutil.rmtree(root)
            Path(f"{target}.new").rename(target)
    return target


def _need_all() -> None:
    lacking = [name for name in _PROGRAMS if shutil.which(name) is None]
    if lacking:
        pytest.skip(f"{', '.join(lacking)} not installed (apt-get install docker.io debootstrap iptables)")
    if os.geteuid() != 0:
        pytest.skip("a Docker daemon and a network namespace take root")


def _in_memory(folder: Path) -> None:
    """Keep a folder in memory where there is much: to write and to remove many files takes a fraction of the time."""
    found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    if found and int(found[1]) * 1024 > _MUCH:
        mount = ["mount", "-t", "tmpfs", "-o", "mode=755", "vehins", str(folder)]
        subprocess.run(mount, check=False, capture_output=True)


def _unmount(folder: Path) -> None:
    """Undo what is mounted at a folder and in it, the innermost first; a daemon that was killed leaves something."""
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in sorted((path for path in places if f"{path}/".startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", path], check=False, capture_output=True)


@contextmanager
def running_daemon() -> Iterator[Daemon]:
    """A daemon until the end of the block, without images; ``start()`` it inside to run something."""
    _need_all()
    with tempfile.TemporaryDirectory(prefix="vehins-docker-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        daemon = Daemon(folder, holder.pid)
        _in_memory(folder)
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != b"up\n":
                pytest.skip("no network namespace can be made here")
            daemon.start(inside=False)
            yield daemon
        finally:
            daemon.end()
            holder.kill()
            holder.communicate()


@pytest.fixture(scope="module")
def docker() -> Iterator[Daemon]:
    """A daemon that builds; a module has one, as a network namespace is all that tells two apart."""
    with running_daemon() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def docker_base(docker: Daemon, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The base image, in that daemon."""
    shared = tmp_path_factory.getbasetemp()
    docker("import", str(base_tar(shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared)), BASE)
    return BASE
