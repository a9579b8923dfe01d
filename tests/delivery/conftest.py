"""The daemon's fixtures, and what the tests of the service know, for the tests of what is delivered."""

from __future__ import annotations

import sys
from pathlib import Path

from docker_daemon import docker, docker_base

sys.path.append(str(Path(__file__).parents[1] / "serving"))  # serving_models, a real model to serve

__all__ = ["docker", "docker_base"]
