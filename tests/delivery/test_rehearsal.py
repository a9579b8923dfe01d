"""docker/compose.yml, step by step as its head says: from customers in MongoDB to an answer of the service.

Real: Compose, both images, their networks and volumes, every health check but one. MongoDB and the store are stand-ins
(SecantusDB, ministack) in images made on the spot: that the images named there start, and that `mongosh` tells whether
MongoDB is healthy, is not shown.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from docker_daemon import BASE, CA_FILE, CLIENT
from serving_models import GOOD
from vehins_runner import child_environment

if TYPE_CHECKING:
    from docker_daemon import Daemon

pytestmark = [
    pytest.mark.timeout(1800),  # builds everything from nothing
    pytest.mark.skipif(not os.environ.get("VEHINS_TEST_SLOW"), reason="takes minutes (VEHINS_TEST_SLOW=1)"),
]
ROOT = Path(__file__).parents[2]
HEAD = (ROOT / "docker" / "compose.yml").read_text().partition("\n\n")[0]
STEPS = re.findall(r"^#   (\S+(?: \S+)*)", HEAD, re.MULTILINE)
OVERRIDE = Path(__file__).with_name("rehearsal.yml")
KEY = "key-of-the-rehearsal"
OLD = 'docker() { shift; docker-compose "$@"; }\n'
_BASE = f"""FROM {BASE}
COPY ca.crt /etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
"""
_STANDIN = """FROM vehins-rehearsal-base
ENV PATH=/opt/standin/bin:$PATH
COPY pins.txt /
RUN python3 -m venv /opt/standin && pip install --quiet --only-binary :all: -c /pins.txt {package}
ENTRYPOINT {start}
"""
STANDINS = {
    "mongo": ("secantusdb pymongo", "secantusd-py --host 0.0.0.0 --port 27017 --storage-path /data/db --standalone"),
    "s3": ("ministack", "python -m ministack"),  # as in its own image, at its own port
}


def compose() -> str:
    """Lines of shell after which `docker compose` is there; the test is skipped where Compose is not."""
    for command, lines in (([CLIENT, "compose"], ""), (["docker-compose"], OLD)):
        if shutil.which(command[0]):
            known = subprocess.run([*command, "version"], capture_output=True, text=True, check=False)
            if known.returncode == 0:
                print(f"\n{known.stdout.splitlines()[0]}", end="")
                return lines
    pytest.skip("Compose is not installed (apt-get install docker-compose)")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What of this repository goes into the images, and what says how."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("docker", "vehins"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "compose.env"))
    for path in [*ROOT.glob("requirements*.lock"), *(ROOT / name for name in (".dockerignore", "LICENSE"))]:
        shutil.copy(path, folder)
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def stores(docker: Daemon, docker_base: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The images that rehearsal.yml names."""
    context = tmp_path_factory.mktemp("standins")
    shutil.copy(CA_FILE, context / "ca.crt")
    pins = re.findall(r"^(\S+==.*?) \\$", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE)
    (context / "pins.txt").write_text("\n".join(pins))
    (context / "Dockerfile").write_text(_BASE)
    docker.build("vehins-rehearsal-base", context)
    for name, (package, start) in STANDINS.items():
        (context / "Dockerfile").write_text(_STANDIN.format(package=package, start=json.dumps(start.split())))
        docker.build(f"vehins-rehearsal-{name}", context, "--network", "host")


class Shell:
    """Runs the steps in a checkout, against a daemon."""

    def __init__(self, docker: Daemon, folder: Path) -> None:
        self._docker, self._folder, self._before = docker, folder, compose()

    def __call__(self, line: str) -> str:
        """Run a line; what it prints is kept, and shown where it fails."""
        path = f"{Path(CLIENT).parent}:{os.environ['PATH']}"
        environment = child_environment(DOCKER_HOST=self._docker.socket, DOCKER_BUILDKIT="1", PATH=path)
        files = f"export COMPOSE_FILE=docker/compose.yml:{OVERRIDE} COMPOSE_PROJECT_NAME=vehins\n"
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-euc", self._before + files + line],
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        print(f"\n{line}: {time.monotonic() - began:.0f} s", end="")
        told = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        assert done.returncode == 0, f"{line}: exit code {done.returncode}\n{told}"
        return done.stdout + done.stderr


def ask(docker: Daemon, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
    """Ask the service as the machine does on which it runs."""
    words = ["python3", "-c", ASK, f"http://127.0.0.1:8000{path}", json.dumps(body) if body else "", key]
    done = subprocess.run([*docker.inside, *words], capture_output=True, text=True, check=False)
    code, _, text = done.stdout.partition(" ")
    return int(code or 0), json.loads(text or "null")


ASK = """
import sys, urllib.error, urllib.request
url, body, key = sys.argv[1:]
head = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
request = urllib.request.Request(url, body.encode() or None, head)
try:
    answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20)
except urllib.error.HTTPError as refused:
    answer = refused
print(answer.status, answer.read().decode())
"""


def test_the_whole_way(docker: Daemon, checkout: Path, stores: None) -> None:
    copy, export, build, load, train, serve, down = STEPS
    assert export == "export COMPOSE_FILE=docker/compose.yml COMPOSE_PROJECT_NAME=vehins"
    shell = Shell(docker, checkout)
    shell(copy)
    variables = checkout / "docker" / "compose.env"
    variables.write_text(re.sub("(?m)^(VEHINS_API_KEYS=).*$", rf"\1{KEY}", variables.read_text()))
    shell(build)
    built = docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    assert {"vehins:local", "vehins-pipeline:local"} <= set(built)

    docker.stop_all()
    docker.start()  # from here on in a network that leads nowhere
    assert "20,000" in shell(load)
    assert "accepted" in shell(train)
    shell(serve)
    deadline = time.monotonic() + 120
    while ask(docker, "/readyz")[0] != 200:
        assert time.monotonic() < deadline, shell("docker compose logs serve")
        time.sleep(0.5)
    assert ask(docker, "/v1/predict", {"rows": [GOOD]})[0] == 401
    code, answer = ask(docker, "/v1/predict", {"rows": [GOOD]}, KEY)
    assert (code, answer["model"]["version"]) == (200, 1)
    assert 0 < answer["predictions"][0]["probability"] < 1

    shell(down)
    left = docker("ps", "--all", "--format", "{{.Names}}") + docker("volume", "ls", "--quiet")
    assert left == ""
    assert docker("network", "ls", "--quiet", "--filter", "name=vehins") == ""
