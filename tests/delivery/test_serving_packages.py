"""What the image holds is what the service needs: it starts and answers without any package that its lock lacks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from serving_models import GOOD, build
from vehins_runner import child_environment

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, os, re, sys, threading, urllib.request
from importlib.metadata import packages_distributions

held, url, row = json.loads(sys.argv[1]), [], json.loads(sys.argv[2])
lacking = {name for name, of in packages_distributions().items()
           if not any(re.sub("[-_.]+", "-", one.lower()) in held for one in of)}

class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in lacking:
            raise ModuleNotFoundError(f"No module named {name!r}: it is not in requirements-serve.lock", name=name)

sys.meta_path.insert(0, Lacking())
from vehins.serving import server
from vehins.settings import Settings

def ready(url):
    def ask():
        body = json.dumps({"rows": [row]}).encode()
        request = urllib.request.Request(url + "/v1/predict", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
                print(answer.read().decode(), flush=True)
        finally:
            os._exit(0)
    threading.Thread(target=ask).start()

server.run(Settings.model_validate_json(sys.argv[3]), ready)
"""


def pins(lock: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", (ROOT / lock).read_text(), re.MULTILINE))


def test_the_service_starts_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = build(tmp_path)
    settings = settings.model_copy(update={"serve": settings.serve.model_copy(update={"port": 0})})
    held = [*pins("requirements-serve.lock"), "vehins"]
    given = [json.dumps(held), json.dumps(GOOD), settings.model_dump_json(by_alias=True)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *given], capture_output=True, text=True, env=child_environment(), check=False
    )
    assert '"probability"' in done.stdout, done.stderr


def test_the_group_names_dependencies_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    group = set(project["dependency-groups"]["serve"])
    assert group <= {re.split("[>=<;]", name)[0] for name in project["project"]["dependencies"]}


def test_the_lock_of_the_image_holds_no_more_than_that_of_the_project() -> None:
    serve, whole = pins("requirements-serve.lock"), pins("requirements.lock")
    assert serve < whole
    assert not serve & {"scikit-learn", "scipy", "pymongo", "pygal", "polars-hash"}
