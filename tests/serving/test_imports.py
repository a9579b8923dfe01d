"""A process that serves carries nothing that it does not need, so that it starts quickly and stays small."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from serving_models import GOOD

import vehins

if TYPE_CHECKING:
    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

PROGRAM = """
import json, sys
from vehins.cli import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)))
"""
HEAVY = {
    "boto3",
    "botocore",
    "bson",
    "jinja2",
    "lightgbm",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "pygal",
    "pymongo",
    "rich",
    "scipy",
    "sklearn",
    "vehins.artifacts.manifest",
    "vehins.model.metrics",
    "vehins.pipeline",
    "vehins.serving.page.views",
    "vehins.serving.workers",
}


def test_a_service_imports_nothing_heavy(served: Settings, predictor: Predictor) -> None:
    """With a registry in a folder; one on S3 takes boto3."""
    paths = os.pathsep.join(filter(None, (str(Path(vehins.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    options = ["--port", "0", "-w", str(served.workspace), "--model-name", served.model_name]
    command = [sys.executable, "-c", PROGRAM, "serve", *options, "--registry", served.registry_url]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}, **pipes) as process:
        try:
            assert process.stderr is not None
            said = next(filter(None, (re.search(r"^Serving .* on (http://\S+),", line) for line in process.stderr)))
            url = said[1] + "/v1/predict"
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
