"""A process that serves carries nothing that it does not need, so that it starts quickly and stays small."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from serving_models import GOOD
from test_server import on_port

import vehins

if TYPE_CHECKING:
    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

PROGRAM = """
import json, sys
from vehins.serving.server import run
from vehins.settings import Settings
run(Settings.model_validate_json(sys.argv[1]), lambda url: print(url, flush=True))
print(json.dumps(sorted(sys.modules)))
"""
HEAVY = {
    "bson",
    "boto3",
    "botocore",
    "lightgbm",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "pygal",
    "pymongo",
    "scipy",
    "sklearn",
    "vehins.artifacts.manifest",
    "vehins.model.metrics",
    "vehins.pipeline",
}


def test_a_service_imports_nothing_heavy(served: Settings, predictor: Predictor) -> None:
    """With a registry in a folder; one on S3 takes boto3."""
    paths = os.pathsep.join(filter(None, (str(Path(vehins.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-c", PROGRAM, on_port(served, 0).model_dump_json(by_alias=True)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}, **pipes) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip() + "/v1/predict"
            for rows in ([GOOD], [GOOD] * 3, [GOOD] * 500):
                answers = httpx.post(url, json={"rows": rows}, trust_env=False, timeout=60).json()["predictions"]
                assert {answer["probability"] for answer in answers} == {predictor.predict([GOOD])[0].probability}
            assert httpx.post(url, json={"rows": [{}]}, trust_env=False, timeout=60).status_code == 422
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    loaded = set(json.loads(out))
    assert "vehins.model.native" in loaded
    assert not loaded & HEAVY
