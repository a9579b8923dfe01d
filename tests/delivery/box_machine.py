"""A box of the tests' own: Docker, HAProxy and vehins-deploy in one network, and a client that never rests."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from docker_daemon import CLIENT

from vehins.cloud import box as delivered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker_daemon import Daemon

KEYS = "key-of-a-test-one,key-of-a-test-two"
PORT = 8080  # each namespace has its own
_CLIENT = Path(__file__).with_name("steady_client.py")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE = 60.0  # seconds
_CONFIG = Path(delivered.__file__).with_name("haproxy.cfg")


@dataclass
class Told:
    """What the client counted."""

    requests: int = 0
    failed: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    longest_ms: int = 0


@dataclass(frozen=True)
class Outcome:
    """How the command ended."""

    code: int
    out: str
    err: str

    @property
    def status(self) -> dict[str, Any]:
        """The object on stdout."""
        return json.loads(self.out)


class Box:
    """The machine, as the files of ``vehins.cloud.box`` set it up."""

    def __init__(self, folder: Path, docker: Daemon) -> None:
        self.folder, self.docker = folder, docker
        self._haproxy: subprocess.Popen[bytes] | None = None
        self.command = folder / "vehins-deploy"
        self.command.write_bytes(delivered.command())
        self.serve_env = folder / "serve.env"
        self.serve_env.write_text(f"VEHINS_API_KEYS={KEYS}\n")
        self.settings = {
            "VEHINS_BOX_STATE": str(folder / "state"),
            "VEHINS_BOX_SERVE_ENV": str(self.serve_env),
            "VEHINS_BOX_DOCKER": f"{CLIENT} -H {docker.socket}",
            "VEHINS_BOX_HAPROXY_SOCKET": str(folder / "haproxy.sock"),
            "VEHINS_BOX_LISTEN": f"127.0.0.1:{PORT}",
            "VEHINS_BOX_BLUE_PORT": "8001",
            "VEHINS_BOX_GREEN_PORT": "8002",
            "VEHINS_BOX_READY_SECONDS": "150",
            "VEHINS_BOX_MEMORY": "512m",
        }
        self.write_settings()

    def write_settings(self, **more: str) -> None:
        """Write box.env."""
        lines = {**self.settings, **{f"VEHINS_BOX_{name}": value for name, value in more.items()}}
        (self.folder / "box.env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))

    # --- HAProxy ---

    def start_haproxy(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "haproxy.log").open("ab") as log:
            self._haproxy = subprocess.Popen(
                [*self.docker.inside, "haproxy", "-db", "-f", str(_CONFIG)],
                env={**self.settings, "PATH": _PATH},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._listens():
            if self._haproxy.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"haproxy did not start:\n{(self.folder / 'haproxy.log').read_text()}")
            time.sleep(0.05)

    def _listens(self) -> bool:
        done = subprocess.run([*self.docker.inside, "ss", "-Hltn", f"sport = {PORT}"], capture_output=True, check=True)
        return bool(done.stdout)

    def stop_haproxy(self) -> None:
        """End it, at once."""
        if self._haproxy:
            self._haproxy.kill()
            self._haproxy.wait()

    # --- The command ---

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start ``vehins-deploy words...``."""
        return subprocess.Popen(
            [*self.docker.inside, sys.executable, "-I", str(self.command), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"VEHINS_BOX_FILE": str(self.folder / "box.env"), "PATH": _PATH},
        )

    def __call__(self, *words: str, code: int | None = 0) -> Outcome:
        """Run it to its end."""
        return self.finish(self.begin(*words), code)

    @staticmethod
    def finish(process: subprocess.Popen[str], code: int | None = 0) -> Outcome:
        """Wait for its end, which must be with this code."""
        out, err = process.communicate(timeout=200)
        assert code is None or process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return Outcome(process.returncode, out, err)

    def killed_after(self, words: str) -> None:
        """Let SIGKILL end the command as soon as it has had Docker do what begins with these words."""
        docker = self.folder / "docker-that-kills"
        ends = f'case "$*" in "{words}"*) kill -KILL $PPID; esac'
        lines = ["#!/bin/sh", f'{self.settings["VEHINS_BOX_DOCKER"]} "$@"', "code=$?", ends, "exit $code"]
        docker.write_text("\n".join(lines))
        docker.chmod(0o755)
        self.write_settings(DOCKER=str(docker))

    def status(self) -> dict[str, Any]:
        """What runs."""
        return self("status", code=None).status

    @property
    def free_slot(self) -> str:
        """The slot that the next deployment takes."""
        return "green" if self.state()["current"]["slot"] == "blue" else "blue"

    def state(self) -> dict[str, Any]:
        """The state file."""
        return json.loads((self.folder / "state" / "state.json").read_text())

    def containers(self) -> list[str]:
        """Names of all containers, running or not."""
        return self.docker("ps", "--all", "--format", "{{.Names}}").split()

    def inspect(self, container: str) -> dict[str, Any]:
        """All that Docker says of a container."""
        return json.loads(self.docker("inspect", container))[0]

    # --- The client ---

    @contextmanager
    def asked_all_the_time(self, told: list[Told], body: str = "{}", head: str = "") -> Iterator[None]:
        """Let the client ask until the end of the block; ``told`` gets what it has counted."""
        command = [*self.docker.inside, sys.executable, "-I", str(_CLIENT), str(PORT), body, head]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            try:
                assert client.stdout is not None
                assert client.stdout.readline() == "asking\n"
                time.sleep(0.3)  # some requests before, and some after
                yield
                time.sleep(0.3)
                out, _ = client.communicate(timeout=_PATIENCE)
            finally:
                client.kill()
        told.append(Told(**json.loads(out)))

    @contextmanager
    def never_failing(self, what: str, **given: str) -> Iterator[Told]:
        """No request fails in the block; the figures are printed (`pytest -s`)."""
        told: list[Told] = []
        filled = Told()
        with self.asked_all_the_time(told, **given):
            yield filled
        filled.__dict__.update(told[0].__dict__)
        figures = f"{filled.requests} requests, {filled.failed} failed, the longest {filled.longest_ms} ms"
        print(f"\n{what}: {figures}", end="")
        assert filled.failed == 0, filled
        assert filled.requests > 20, filled

    # --- From one test to the next ---

    def reset(self) -> None:
        """Nothing runs and nothing is remembered."""
        if found := self.containers():
            self.docker("rm", "--force", "--volumes", *found)
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        self.write_settings()

    def reboot(self) -> None:
        """All processes of the machine end at once, and what starts with the machine starts again."""
        self.stop_haproxy()
        self.docker.stop(signal.SIGKILL)
        self.docker.kill_all()
        self.docker.start()
        self.start_haproxy()


@contextmanager
def running_box(docker: Daemon) -> Iterator[Box]:
    """A box until the end of the block; the daemon is inside the network namespace from here on."""
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy not installed (apt-get install haproxy)")
    folder = docker.folder / "box"
    folder.mkdir()
    box = Box(folder, docker)
    docker.stop_all()
    docker.start()
    box.start_haproxy()
    try:
        with docker.restarted_on_demand(folder) as command:
            box.settings["VEHINS_BOX_DOCKER_RESTART"] = command
            box.write_settings()
            yield box
    finally:
        box.stop_haproxy()


def serves(box: Box, version: int) -> bool:
    """Whether that version serves, from the one container that there is."""
    found = box.status()
    current = found["current"]
    return (
        found["healthy"]
        and found["slots"][current["slot"]]["model_version"] == version
        and box.containers() == [current["container"]]
        and box.inspect(current["container"])["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    )


@contextmanager
def small_disk(folder: Path, *, keep: bool = False) -> Iterator[Callable[[], None]]:
    """A disk of 128 KB at a folder, with what is in there if it is to be kept; gives what fills it to the last byte."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()} if keep else {}
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "small", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode()}")

    def fill() -> None:
        with suppress(OSError), (folder / "full").open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass

    try:
        for name, content in before.items():
            (folder / name).write_bytes(content)
        yield fill
        after = {name: (folder / name).read_bytes() for name in before}
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # of a failed test, somebody may still be in there
    for name, content in after.items():
        (folder / name).write_bytes(content)
