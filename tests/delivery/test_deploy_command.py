"""vehins-deploy without a machine: what it refuses, its exit codes, its state file, and the files of the box."""

from __future__ import annotations

import ast
import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vehins.cloud import box
from vehins.cloud.box.deploy import actions
from vehins.cloud.box.deploy.docker import Docker
from vehins.cloud.box.deploy.errors import FailureError
from vehins.cloud.box.deploy.lock import holder, locked
from vehins.cloud.box.deploy.settings import SETTINGS, Settings, variables
from vehins.cloud.box.deploy.state import Deployment, State

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def command(tmp_path: Path) -> Path:
    path = tmp_path / "vehins-deploy"
    path.write_bytes(box.command())
    tmp_path.joinpath("serve.env").write_text("VEHINS_API_KEYS=x\n")
    return path


def call(command: Path, *words: str, **given: str) -> subprocess.CompletedProcess[str]:
    folder = command.parent
    settings = {
        "FILE": str(folder / "none"),
        "STATE": str(folder / "state"),
        "SERVE_ENV": str(folder / "serve.env"),
        "HAPROXY_SOCKET": str(folder / "none"),
        "DAEMON_SECONDS": "0",
        **given,
    }
    env = {f"VEHINS_BOX_{name}": value for name, value in settings.items()}
    words_of_python = [sys.executable, "-I", str(command), *words]
    return subprocess.run(words_of_python, env=env, capture_output=True, text=True, check=False)


def test_usage(command: Path) -> None:
    told = call(command, "--help")
    assert (told.returncode, told.stdout.startswith("vehins-deploy: let this machine")) == (0, True)
    for words in ([], ["image"], ["image", "1", "2"]):
        told = call(command, *words)
        assert (told.returncode, told.stdout, "usage:" in told.stderr) == (2, "", True)


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("--privileged", "1"),
        ("a b", "1"),
        ("", "1"),
        ("image\n", "1"),
        ("image:tag", "0"),
        ("image:tag", "latest"),
        ("image:tag", "1 --x"),
        ("image@sha256:12", "1"),
    ],
)
def test_what_can_be_no_image_or_version(image: str, version: str) -> None:
    with pytest.raises(FailureError) as caught:
        actions.check(image, version, "")
    assert caught.value.code == 2


def test_a_digest_alone_is_one_of_the_repository(command: Path) -> None:
    assert actions.whole(DIGEST, "r.io:5000/vehins") == f"r.io:5000/vehins@{DIGEST}"
    told = call(command, DIGEST, "production", REPOSITORY="r.io:5000/vehins")
    assert (told.returncode, "HAProxy does not answer" in told.stderr) == (6, True)  # the image has been taken
    assert call(command, "sha256:12", "production", REPOSITORY="r.io:5000/vehins").returncode == 2


@pytest.mark.parametrize(
    "image", ["r.io:5000/vehins", "r.io:5000/vehins:1", f"r.io:5000/vehins@{DIGEST}", f"r.io:5000/vehins:1@{DIGEST}"]
)
def test_images_of_one_repository(image: str) -> None:
    actions.check(image, "production", "r.io:5000/vehins")
    for other in ("r.io:5000/other", "r.io:5000/vehin", "r.io:5000/vehins/x"):
        with pytest.raises(FailureError, match="alone may run here"):
            actions.check(image, "production", other)


def test_configuration_at_fault(command: Path) -> None:
    for value in ("soon", "-1", "nan", ""):
        told = call(command, "image:1", "1", READY_SECONDS=value)
        assert (told.returncode, f"READY_SECONDS is `{value}`" in told.stderr) == (3, True)
    command.with_name("serve.env").write_text("VEHINS_SERVE_VERSION=3\n")
    told = call(command, "image:1", "1")
    assert (told.returncode, "remove the line" in told.stderr) == (3, True)
    command.with_name("serve.env").unlink()
    assert call(command, "image:1", "1").returncode == 3


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Error response from daemon: port is taken\nError: failed to start containers: x", "port is taken"),
        ("first\nlast", "docker start: last"),
        ("", "docker start: exit code 1"),
    ],
)
def test_docker_tells_the_reason(tmp_path: Path, said: str, reason: str) -> None:
    """Below it stands which container it was, which is no reason."""
    tmp_path.joinpath("said").write_text(said)
    with pytest.raises(FailureError, match=reason):
        Docker(f"sh -c 'cat {tmp_path}/said >&2; exit 1'", 0)("start", "x")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"current": {"id": "1", "unheard_of": 2}}',
        '{"current": 1}',
        '{"pending": 1}',
        '{"last": "x"}',
        '{"images": 1}',
        "\0\0",
        "\udcff",
    ],
)
def test_a_state_that_is_none(command: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "state" / "state.json"
    path.parent.mkdir()
    path.write_text(text, errors="surrogateescape")
    state = State(path.parent)
    assert "does not hold a state" in (state.lost or "")
    assert (state.current, state.previous, state.pending, state.last, state.images) == (None, None, None, None, [])
    assert call(command, "image:1", "1").returncode == 6  # HAProxy is out of reach: nothing is changed
    assert path.read_text(errors="surrogateescape") == text
    state.renew()
    assert path.with_name("state.damaged").read_text(errors="surrogateescape") == text
    assert State(path.parent).lost is None


def test_secrets_are_those_of_the_service_the_longest_first(tmp_path: Path) -> None:
    path = tmp_path / "serve.env"
    path.write_text("VEHINS_API_KEYS=abc, abcdef\nAWS_SECRET_ACCESS_KEY='xy'\nVEHINS_REGISTRY=s3://b/p\n")
    found = Settings({"VEHINS_BOX_FILE": "/none", "VEHINS_BOX_SERVE_ENV": str(path)}).secrets()
    assert found == ["abc, abcdef", "abcdef", "abc", "xy"]


def test_haproxy_out_of_reach(command: Path) -> None:
    told = call(command, "image:1", "1")
    assert (told.returncode, "systemctl status haproxy" in told.stderr) == (6, True)
    assert not command.parent.joinpath("state", "state.json").exists()


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "box.env"
    path.write_text('# a comment\nVEHINS_BOX_BLUE_PORT="9001"\nVEHINS_BOX_GREEN_PORT=9002\n')
    found = Settings({"VEHINS_BOX_FILE": str(path), "VEHINS_BOX_GREEN_PORT": "9003"})
    assert found.ports == {"blue": 9001, "green": 9003}
    assert found["MEMORY"] == SETTINGS["VEHINS_BOX_MEMORY"]
    assert variables(path) == {"VEHINS_BOX_BLUE_PORT": "9001", "VEHINS_BOX_GREEN_PORT": "9002"}


def test_logs_of_cloudwatch() -> None:
    options = Settings({"VEHINS_BOX_FILE": "/none", "VEHINS_BOX_LOG_GROUP": "/v"}).log_options("vehins-blue-1")
    assert options[:2] == ["--log-driver", "awslogs"]
    assert {"awslogs-group=/v", "awslogs-stream=vehins-blue-1", "mode=non-blocking"} < set(options)


def test_the_state_is_written_as_a_whole(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.current = Deployment("1", "i", DIGEST, "3", "blue", "vehins-blue-1", 3, "now")
    state.begin("deploy", "i", "4")
    assert State(tmp_path).pending == state.pending
    assert State(tmp_path).current == state.current
    state.end("failed", "because")
    assert json.loads(tmp_path.joinpath("state.json").read_text())["last"]["reason"] == "because"
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_lock_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder(path) is None
    with locked(path, 0, ["image:1", "2"]):
        assert (holder(path) or "").startswith("image:1 2, process ")
        with pytest.raises(FailureError, match="image:1 2, process") as caught, locked(path, 0, []):
            pass
    assert caught.value.code == 7
    assert holder(path) is None


def test_the_command_needs_no_more_than_python() -> None:
    """The box has no package of vehins's."""
    for path in Path(actions.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.module if isinstance(node, ast.ImportFrom) else None
            names = [name] if name else [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for found in names:
                top = found.partition(".")[0]
                assert found.startswith("vehins.cloud.box.deploy") or top in sys.stdlib_module_names, (path, found)


def test_the_files_of_the_box() -> None:
    found = {file.path: file for file in box.files()}
    assert found["/usr/local/bin/vehins-deploy"].content.startswith(b"#!/usr/bin/python3 -I\nPK")
    assert stat.filemode(found["/etc/sudoers.d/vehins"].mode) == "?r--r-----"
    daemon = json.loads(found["/etc/docker/daemon.json"].content)
    assert (daemon["live-restore"], daemon["userland-proxy"]) == (True, False)
    assert box.files() == box.files()
    if shutil.which("visudo"):
        rules = subprocess.run(["visudo", "-cf", "-"], input=found["/etc/sudoers.d/vehins"].content, check=False)
        assert rules.returncode == 0
