"""schemathesis against the running service: all its checks hold for what the OpenAPI document promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from service_process import serving

from vehins.serving import explain

if TYPE_CHECKING:
    from vehins.settings import Settings

PROGRAM = Path(sys.executable).with_name("schemathesis")
IS_LONG = os.environ.get("VEHINS_TEST_SLOW") == "1"
EXAMPLES = 1_000 if IS_LONG else 10
KEY = "f3" * 16

pytestmark = [
    pytest.mark.skipif(not PROGRAM.exists(), reason="schemathesis is not installed"),
    pytest.mark.timeout(3_600 if IS_LONG else 600),
]


def check(url: str, folder: Path, *words: str) -> str:
    """Let schemathesis look at a service; what it has to say, when it has found nothing."""
    command = [PROGRAM, "--no-color", "run", f"{url}/openapi.json", "--continue-on-failure", "--seed=1", *words]
    command.append("--suppress-health-check=too_slow")  # a busy machine is no fault of the service
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_all_checks(served: Settings, tmp_path: Path) -> None:
    # With more, the document could not say that fewer rows are taken with reasons.
    with serving(served, "--set", f"serve.max_rows={explain.MAX_ROWS}") as service:
        said = check(service.url, tmp_path, "--checks=all", f"--max-examples={EXAMPLES}")
    assert "No issues found" in said
    assert "skipped" not in said.partition("Coverage")[2]


def test_no_operation_forgets_to_ask_for_the_key(served: Settings, tmp_path: Path) -> None:
    """Wrong keys are among what it tries, so that it meets the end of guessing as well."""
    with serving(served, env={"VEHINS_API_KEYS": KEY}) as service:
        header = f"Authorization: Bearer {KEY}"
        check(service.url, tmp_path, "--phases=examples,fuzzing", "--checks=all", "--max-examples=5", "-H", header)
