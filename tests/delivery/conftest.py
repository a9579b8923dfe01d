"""The daemon's fixtures, a box of the stand-in, and what the tests of the service know, for what is delivered."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from box_machine import running_box
from docker_daemon import BASE, STANDIN, docker, docker_base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from box_machine import Box
    from docker_daemon import Daemon

sys.path.append(str(Path(__file__).parents[1] / "serving"))  # serving_models, a real model to serve

__all__ = ["docker", "docker_base"]
_DOCKERFILE = f"""FROM {BASE}
COPY standin.py /standin.py
ARG MODE
ENV MODE=$MODE
ENTRYPOINT ["/usr/bin/python3", "/standin.py"]
"""


@pytest.fixture(scope="module")
def machine(docker: Daemon, docker_base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    context = tmp_path_factory.mktemp("standin")
    context.joinpath("Dockerfile").write_text(_DOCKERFILE)
    shutil.copy(STANDIN, context)
    for mode in ("good", "never", "dies", "wrong"):
        docker.build(f"standin:{mode}", context, "--build-arg", f"MODE={mode}")
    docker("tag", "standin:good", "standin:next")
    with running_box(docker) as box:
        yield box


@pytest.fixture
def fresh(machine: Box) -> Box:
    """A box on which nothing runs."""
    machine.reset()
    return machine


@pytest.fixture
def box(machine: Box) -> Box:
    """A box that serves version 1."""
    machine.write_settings()
    current = machine.status()["current"]
    if not current or (current["image"], current["version"]) != ("standin:good", "1"):
        machine("standin:good", "1")
    return machine
