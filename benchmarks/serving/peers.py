"""MLflow's scoring server and BentoML with the same LightGBM model, from an environment of their own.

They get the numbers that the encoder makes of the rows, as the bare model takes them: reading categories, checking
rows, percentiles and verdicts are no part of what they do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACE = ROOT / ".bench-serving"
QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_SAVE = """
import sys, lightgbm, mlflow.lightgbm
mlflow.lightgbm.save_model(lightgbm.Booster(model_file=sys.argv[1]), sys.argv[2])
"""
_BENTO = """
import bentoml, lightgbm, numpy as np

@bentoml.service(workers=1)
class Scores:
    def __init__(self) -> None:
        self.booster = lightgbm.Booster(model_file={model!r})

    @bentoml.api
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.booster.predict(rows, num_threads=1)
"""


@dataclass(frozen=True)
class Peer:
    """Another server: how it is started, and where it answers."""

    name: str
    command: list[str]
    folder: Path
    ready: str
    path: str
    field: str
    """What it calls the rows."""

    def body(self, rows: Sequence[Sequence[float]]) -> bytes:
        """Encoded rows as it takes them."""
        return json.dumps({self.field: [list(row) for row in rows]}).encode()


def environment(program: str | Path) -> dict[str, str]:
    """Variables for a program, which may start others that lie beside it; it tells nobody that it runs."""
    return {**os.environ, **QUIET, "PATH": os.pathsep.join((str(Path(program).parent), os.environ.get("PATH", "")))}


def install() -> Path | None:
    """The folder of their programs; None, with a word, when they cannot be had."""
    programs = PLACE / ("Scripts" if os.name == "nt" else "bin")
    if (programs / "mlflow").exists() and (programs / "bentoml").exists():
        return programs
    uv = str(Path(sys.executable).with_name("uv"))
    for words in (
        ["venv", "--quiet", str(PLACE)],
        ["pip", "install", "--python", str(PLACE), "--group", "bench-serving"],
    ):
        try:
            done = subprocess.run([uv, *words], cwd=ROOT, capture_output=True, text=True, check=False)
        except OSError as error:
            print(f"MLflow and BentoML are left out: uv does not run ({error}).")
            return None
        if done.returncode:
            print(f"MLflow and BentoML are left out, as they cannot be installed here: {done.stderr.strip()[-300:]}")
            return None
    return programs


def peers(model: Path, folder: Path, ports: tuple[int, int]) -> list[Peer]:
    """Both of them with a model (LightGBM's text), ready to be started; none when they cannot be had."""
    programs = install()
    if programs is None:
        return []
    saved = folder / "mlflow"
    save = [programs / "python", "-c", _SAVE, model, saved]
    subprocess.run(save, env=environment(save[0]), check=True, capture_output=True, cwd=folder)
    (folder / "bento").mkdir()
    (folder / "bento" / "scores.py").write_text(_BENTO.format(model=str(model)))
    local = ["--host", "127.0.0.1", "--port"]
    mlflow = [str(programs / "mlflow"), "models", "serve", "-m", str(saved), "--env-manager", "local", "--workers", "1"]
    bentoml = [str(programs / "bentoml"), "serve", "scores:Scores"]
    return [
        Peer("MLflow", [*mlflow, *local, str(ports[0])], folder, "/ping", "/invocations", "inputs"),
        Peer("BentoML", [*bentoml, *local, str(ports[1])], folder / "bento", "/readyz", "/predict", "rows"),
    ]
