"""The image: built with a real daemon on a base made on the spot, run without rights, and deployed once on the box."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from box_machine import KEYS, Box, running_box
from docker_daemon import BASE, CA_FILE
from serving_models import GOOD, build

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker_daemon import Daemon

pytestmark = pytest.mark.timeout(1200)  # the first makes a Debian, and has pip fetch some 100 MB

ROOT = Path(__file__).parents[2]
LABELS = {
    "VERSION": "1.2.3",
    "REVISION": "0123abc",
    "CREATED": "2026-11-25T12:00:00Z",
    "SOURCE": "https://example.com/v",
}
HARD = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
NOT_SERVED = {"scikit-learn", "scipy", "joblib", "threadpoolctl", "pymongo", "dnspython", "pygal", "polars-hash", "pip"}
TOOLS = ("cc", "gcc", "make", "git", "curl", "wget", "pip", "pip3")
KEY = KEYS.split(",")[0]
ASK = """
import json, sys, urllib.request
request = urllib.request.Request("http://127.0.0.1:8000" + sys.argv[1], sys.argv[2].encode() or None)
request.add_header("Authorization", "Bearer " + sys.argv[3])
request.add_header("Content-Type", "application/json")
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A registry with a model in production, for every user to read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        for name in [name for name in os.environ if name.startswith("VEHINS_") and "_TEST_" not in name]:
            patch.delenv(name)
        yield Path(build(tmp_path_factory.mktemp("trained")).registry_url)


def build_image(docker: Daemon, name: str, *more: str) -> str:
    """Build an image of docker/Dockerfile; return its name."""
    secret = f"id=ca,src={CA_FILE}"
    arguments = {**LABELS, "BASE": BASE}
    words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    words += ["--network", "host", "--secret", secret, "--file", str(ROOT / "docker" / "Dockerfile")]
    docker.build(name, ROOT, *words, *more)
    return name


@pytest.fixture(scope="module")
def image(docker: Daemon, docker_base: str) -> str:
    """The image that serves."""
    return build_image(docker, "vehins:test")


@pytest.fixture(scope="module")
def trainer(docker: Daemon, docker_base: str) -> str:
    """The image that trains; made before the box, as nothing can be fetched once there is one."""
    return build_image(docker, "vehins-pipeline:test", "--target", "pipeline")


@pytest.fixture(scope="module")
def box(docker: Daemon, image: str, trainer: str, registry: Path) -> Iterator[Box]:
    """A box whose service reads that registry; nothing runs on it yet."""
    with running_box(docker) as machine:
        shutil.copytree(registry, machine.folder / "registry")
        for path in [machine.folder / "registry", *(machine.folder / "registry").rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield machine


def run(box: Box, image: str, *words: str) -> str:
    """Start a container with that registry; return its name."""
    mount = f"type=bind,source={box.folder}/registry,target=/registry,readonly"
    return box.docker(
        "run", "--detach", *HARD, "--mount", mount, "--env", "VEHINS_REGISTRY=/registry", *words, image
    ).strip()


def state(box: Box, container: str) -> dict[str, Any]:
    return box.inspect(container)["State"]


def health(box: Box, container: str) -> str:
    """What its health check has found; on a slow machine it may be "unhealthy" before it is "healthy"."""
    return str(state(box, container)["Health"]["Status"])


def wait(check: Any, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def ask(box: Box, container: str, path: str, body: str = "", key: str = "") -> Any:
    """Ask the service from inside its container, with what is there."""
    return json.loads(box.docker("exec", container, "/opt/vehins/bin/python", "-c", ASK, path, body, key))


def test_it_serves_without_rights_and_ends_well(box: Box, image: str) -> None:
    container = run(box, image, "--env", f"VEHINS_API_KEYS={KEYS}")
    wait(lambda: not state(box, container)["Running"] or health(box, container) == "healthy")
    found = state(box, container)
    assert found["Running"], box.docker("logs", container, check=False)
    assert any('"status":"ready"' in check["Output"] for check in found["Health"]["Log"])
    answer = ask(box, container, "/v1/predict", json.dumps({"rows": [GOOD]}), KEY)
    assert 0 < answer["predictions"][0]["probability"] < 1
    refused = box.docker("exec", container, "touch", "/opt/vehins/x", check=False)
    assert "Read-only file system" in refused or "Permission denied" in refused
    for _ in range(3):  # a machine with other work may be late once
        took = stop(box, container)
        assert state(box, container)["ExitCode"] == 0
        if took < 5:
            break
        box.docker("start", container)
        wait(lambda: health(box, container) == "healthy")
    assert took < 5
    told = box.docker("logs", container, check=False)
    assert not any(key in told for key in KEYS.split(","))
    box.docker("rm", "--volumes", container)
    print(f"\nstopped in {took:.1f} s", end="")


def stop(box: Box, container: str) -> float:
    """Seconds from the signal to the end of its process, as Docker has written them down: its own time is no part."""
    since = f"{time.time() - 1:.3f}"
    box.docker("stop", "--time", "60", container)
    of = ["--filter", f"container={container}", "--filter", "event=kill", "--format", "{{.TimeNano}}"]
    signalled = box.docker("events", "--since", since, "--until", f"{time.time():.3f}", *of).split()[0]
    return datetime.fromisoformat(state(box, container)["FinishedAt"]).timestamp() - int(signalled) / 1e9


def test_without_a_model_it_is_not_healthy(box: Box, image: str) -> None:
    """It ends with the reason, or keeps trying and says so in /readyz: healthy it is not."""
    words = ["--env", "VEHINS_REGISTRY=/nowhere", "--env", "VEHINS_SERVE_ALLOW_ANONYMOUS=true"]
    started = run(box, image, *words, "--health-interval", "1s", "--health-retries", "1", "--health-start-period", "1s")
    wait(lambda: not state(box, started)["Running"] or health(box, started) == "unhealthy")
    box.docker("rm", "--force", "--volumes", started)


def test_the_other_image_trains_without_rights(box: Box, trainer: str, image: str) -> None:
    """The whole pipeline, with one folder to write to; what it leaves there is all that the service needs."""
    volume = ["--volume", "trained:/var/lib/vehins"]
    alone = ["run", "--rm", "--network", "none", *HARD, *volume]
    small = ["--env", "VEHINS_SOURCE=demo://?rows=4000", "--env", "VEHINS_TRAIN_MAX_ROUNDS=30"]
    first = json.loads(box.docker(*alone, *small, trainer, "pipeline", "run", "--json"))
    assert [stage["status"] for stage in first["stages"]] == ["ran"] * 6
    assert (first["version"], first["report"].partition("/reports/")[0]) == (1, "/var/lib/vehins")
    again = json.loads(box.docker(*alone, *small, trainer, "pipeline", "run", "--json"))
    assert [stage["status"] for stage in again["stages"]] == ["reused"] * 6
    of = box.docker(*alone, "--entrypoint", "/bin/sh", trainer, "-c", "stat -c %u:%a /var/lib/vehins; id -u")
    assert of.split() == ["10001:750", "10001"]
    there = ["--env", "VEHINS_REGISTRY=/var/lib/vehins/registry", *volume]
    started = run(box, image, "--env", f"VEHINS_API_KEYS={KEYS}", *there)
    wait(lambda: health(box, started) == "healthy")
    answer = ask(box, started, "/v1/predict", json.dumps({"rows": [GOOD]}), KEY)
    assert answer["model"]["version"] == 1
    box.docker("rm", "--force", started)
    box.docker("volume", "rm", "trained")


def test_what_is_in_it(docker: Daemon, image: str) -> None:
    found = json.loads(docker("image", "inspect", image))[0]
    config = found["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["/opt/vehins/bin/vehins", "serve"]
    assert {
        name.rpartition(".")[2].upper(): value for name, value in config["Labels"].items()
    }.items() >= LABELS.items()
    list_them = "import importlib.metadata as m, json; print(json.dumps([d.name for d in m.distributions()]))"
    inside = docker(
        "run", "--rm", "--network", "none", "--entrypoint", "/opt/vehins/bin/python", image, "-c", list_them
    )
    python = {re.sub("[-_.]+", "-", name.lower()) for name in json.loads(inside)}
    assert {"vehins", "lightgbm"} < python
    assert not python & NOT_SERVED
    shell = ["run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", image, "-c"]
    assert docker(*shell, f"command -v {' '.join(TOOLS)} || true") == ""
    assert docker(*shell, r"find / -xdev \( -name .git -o -name .env \) 2>/dev/null || true") == ""
    debian = len(docker(*shell, "dpkg-query -W").splitlines())
    base = json.loads(docker("image", "inspect", BASE))[0]["Size"]
    sizes = f"{found['Size'] / 1e6:.0f} MB, of which the base {base / 1e6:.0f} MB"
    print(f"\nimage: {sizes}; {len(python)} Python packages, {debian} Debian packages", end="")
    assert found["Size"] - base < 500e6


def test_no_secret_stays_in_it(docker: Daemon, image: str, tmp_path: Path) -> None:
    """The certificates were a secret of the build: neither they nor their place are in a layer or the history."""
    told = docker("history", "--no-trunc", image) + docker("image", "inspect", image)
    assert str(CA_FILE) not in told
    saved = tmp_path / "image.tar"
    docker("save", "--output", str(saved), image)
    names = [name for name in in_layers(saved) if not name.endswith("/.wh..wh..opq")]
    assert any(name.startswith("opt/vehins/lib") for name in names)
    assert [
        name for name in names if re.search(r"(^|/)(secrets/.+|\.git|\.netrc|\.env|\.aws|pip\.conf)(/|$)", name)
    ] == []
    assert not any(re.search(r"^(root/\.cache|src|tools|wheel)/", name) for name in names)


def in_layers(saved: Path) -> list[str]:
    """Names of all that is in the layers of a saved image."""
    found = []
    with tarfile.open(saved) as image:
        for layer in json.load(image.extractfile("manifest.json"))[0]["Layers"]:  # type: ignore[arg-type]
            with tarfile.open(fileobj=image.extractfile(layer)) as members:
                found += [f"{item.name}/" if item.isdir() else item.name for item in members]
    return found


def test_it_is_deployed_without_a_failed_request(box: Box, image: str) -> None:
    box.reset()
    box.docker("run", "--rm", "--volume", "vehins-cache:/var/lib/vehins", "--entrypoint", "true", image)  # makes it
    # The box reads its registry from S3; here it is put into the volume that every container of the box has.
    mount = f"type=bind,source={box.folder}/registry,target=/from,readonly"
    copy = ["run", "--rm", "--user", "0", "--mount", mount, "--volume", "vehins-cache:/to", "--entrypoint", "cp", image]
    box.docker(*copy, "-r", "/from", "/to/registry")
    box.serve_env.write_text(f"VEHINS_API_KEYS={KEYS}\nVEHINS_REGISTRY=/var/lib/vehins/registry\nVEHINS_THREADS=1\n")
    assert box(image, "1").status["current"]["model_version"] == 1
    body, key = json.dumps({"rows": [GOOD]}), f"Authorization: Bearer {KEY}"
    with box.never_failing("the image itself, deployed again", body=body, head=key) as told:
        box(image, "production")
        box.write_settings(READY_SECONDS="15")
        box(image, "2", code=1)  # there is none
        box.write_settings()
        box("rollback")
    assert list(told.versions) == ["1"]
