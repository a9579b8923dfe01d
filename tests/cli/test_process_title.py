"""What others on the machine see of a command line that has a password: `ps` reads /proc/PID/cmdline."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from vehins_runner import child_environment

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
MASKED = "--set credentials.source_password=***"
SECRET = "geh%2Feim%40wort"
MANY = "demo://?rows=9000000"  # so many that it is seen at work, however busy the machine is


def titles(place: Path, *words: str, seconds: float = 60.0) -> list[bytes]:
    """What the command line of a process looks like from its start until it is waiting or gone, each once."""
    command = [sys.executable, "-m", "vehins", *words]
    seen: list[bytes] = []
    with subprocess.Popen(command, cwd=place, env=child_environment(), stderr=subprocess.PIPE) as process:
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            title = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            if title and (not seen or seen[-1] != title):
                seen.append(title)
            if title.startswith(b"vehins "):
                break
            time.sleep(0.001)
        process.kill()
    return seen


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("-s", f"mongodb://ana:{SECRET}@127.0.0.1:1/db?collection=c"), "-s mongodb://ana:***@127.0.0.1:1/db?collection=c"),
        ((f"--source=postgresql://ana:{SECRET}@127.0.0.1:1/db",), "--source=postgresql://ana:***@127.0.0.1:1/db"),
        (("-s", MANY, "--set", f"credentials.source_password={SECRET}"), f"-s {MANY} {MASKED}"),
    ],
)  # fmt: skip
def test_a_password_is_gone_from_the_command_line(words: tuple[str, ...], shown: str, place: Path) -> None:
    seen = titles(place, "ingest", *words)
    # It starts with the words that it was given, which a busy machine may be too late to see.
    assert all(SECRET.encode() in title for title in seen[:-1])
    assert SECRET.encode() not in seen[-1]
    assert seen[-1].rstrip(b"\0").decode() == f"vehins ingest {shown}"


def test_other_command_lines_are_left_alone(place: Path) -> None:
    seen = titles(place, "config", "show", "--set", "credentials.source_user=ana")
    assert len({title for title in seen if b"vehins" in title}) == 1
    assert seen[-1].startswith(sys.executable.encode())
