"""`vehins serve --print-unit`, judged by systemd itself; and that the service tells systemd how it is."""

from __future__ import annotations

import configparser
import re
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from service_process import serving
from serving_models import GOOD

from vehins import settings
from vehins.serving.notify import notify
from vehins.serving.unit import unit

if TYPE_CHECKING:
    from pathlib import Path

    from vehins.settings import Settings

PROGRAM = "/opt/vehins/bin/vehins"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (systemd)")


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no vehins.toml and no .env


def made(*command: str, **flags: str) -> str:
    named = {name.replace("__", "."): value for name, value in flags.items()}
    return unit(settings.load({"registry": "s3://models/registry"} | named), command or [PROGRAM])


def values(text: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(key + "=")]


def test_the_settings_in_force_and_no_others() -> None:
    text = made(
        serve__host="0.0.0.0", serve__workers="3", serve__access_log="false", prediction_log="kept", split__salt="x"
    )
    assert values(text, "Environment") == [
        "VEHINS_WORKSPACE=/var/lib/vehins",
        "VEHINS_REGISTRY=s3://models/registry",
        "VEHINS_PREDICTION_LOG=/var/log/vehins/predictions",
        "VEHINS_SERVE_HOST=0.0.0.0",
        "VEHINS_SERVE_WORKERS=3",
        "VEHINS_SERVE_ACCESS_LOG=false",
        "POLARS_SKIP_CPU_CHECK=1",
    ]
    assert values(text, "ExecStart") == [f"{PROGRAM} serve --quiet"]
    assert values(text, "MemoryMax") == [f"{256 + 3 * 384}M"]


def test_the_settings_of_a_unit_are_those_it_was_made_from(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {"model_name": "a-b.c", "serve.port": "8080", "serve.drain_seconds": "2.5", "s3.path_style": "true"}
    text = made(**{name.replace(".", "__"): value for name, value in before.items()})
    for assignment in values(text, "Environment"):
        name, _, value = assignment.partition("=")
        if name.startswith("VEHINS_"):
            monkeypatch.setenv(name, value)
    found = settings.load().settings
    expected = settings.load(before | {"registry": "s3://models/registry", "workspace": "/var/lib/vehins"}).settings
    assert found == expected


def test_no_secret_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEHINS_API_KEYS", "hunter2hunter2")
    monkeypatch.setenv("VEHINS_CREDENTIALS_SOURCE_PASSWORD", "hunter3hunter3")
    text = made(s3__endpoint_url="https://me:hunter4@store.example")
    assert "hunter" not in text
    assert "#   VEHINS_API_KEYS=..." in text
    assert "#   VEHINS_S3_ENDPOINT_URL=..." in text
    assert values(text, "EnvironmentFile") == ["-/etc/vehins/secrets.env"]


def test_the_stop_lasts_as_long_as_the_drain_may() -> None:
    assert values(made(serve__drain_seconds="45"), "TimeoutStopSec") == ["101"]


def test_what_stands_for_something_else_is_escaped() -> None:
    text = made("/opt/my apps/100%/ve$hins", model_name="m", s3__region='a "b" 50%')
    assert values(text, "ExecStart") == ['"/opt/my apps/100%%/ve$$hins" serve --quiet']
    assert '"VEHINS_S3_REGION=a \\"b\\" 50%%"' in values(text, "Environment")


def test_a_registry_on_this_machine_can_be_read(tmp_path: Path) -> None:
    text = made(registry="models")
    assert f"VEHINS_REGISTRY={tmp_path}/models" in values(text, "Environment")
    assert f"{tmp_path}/models: the service has no user" in text
    assert values(text, "ProtectHome") == ["yes"]
    assert values(made(registry="/home/me/models"), "ProtectHome") == ["read-only"]
    assert values(made("/home/me/.venv/bin/vehins"), "ProtectHome") == ["read-only"]


def test_a_port_that_is_the_systems_needs_one_right() -> None:
    text = made(serve__port="443")
    assert values(text, "CapabilityBoundingSet") == values(text, "AmbientCapabilities") == ["CAP_NET_BIND_SERVICE"]
    assert values(text, "PrivateUsers") == ["no"]
    assert values(made(), "CapabilityBoundingSet") == [""]


@needs_systemd
@pytest.mark.parametrize("flags", [{}, {"serve__port": "443", "prediction_log": "kept", "s3__region": "a b%"}], ids=str)
def test_systemd_finds_nothing_wrong(flags: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "vehins"  # verify looks whether it is there
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = tmp_path / "vehins.service"
    path.write_text(made(str(program), **flags))
    words = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    # A systemd before 254 does not know how to lose patience by steps, says so, and goes on.
    known = re.compile(r"Unknown key(?: name)? '(RestartSteps|RestartMaxDelaySec)' in section \[?'?Service")
    assert [line for line in done.stderr.splitlines() if line and not known.search(line)] == []
    assert done.returncode == 0 or known.search(done.stderr)


@needs_systemd
def test_systemd_finds_little_that_it_exposes(tmp_path: Path) -> None:
    path = tmp_path / "vehins.service"
    path.write_text(made())
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if "offline" in done.stderr:
        pytest.skip("needs systemd 250 or newer")
    found = re.search(r"Overall exposure level for vehins\.service: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= 1.2


def test_it_is_a_unit_file() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read_string(made())
    assert parser.sections() == ["Unit", "Service", "Install"]


# --- sd_notify --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs sockets of Unix")
def test_systemd_is_told_when_the_service_is_ready_and_when_it_ends(served: Settings, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        with serving(served, env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as found:
            assert manager.recv(100) == b"READY=1"
            assert found.predict(GOOD).status_code == 200
            found.stop()
            assert manager.recv(100) == b"STOPPING=1"
    assert found.process.returncode == 0


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/nowhere/notify", "@vehins-nobody"])
def test_nobody_to_tell_is_no_fault(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")
