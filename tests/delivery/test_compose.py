"""docker/compose.yml: Compose takes it, images are pinned, and nothing but the service can be reached from outside."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

DOCKER = Path(__file__).parents[2] / "docker"


def test_compose_takes_it(tmp_path: Path) -> None:
    shutil.copytree(DOCKER, tmp_path / "docker")
    (tmp_path / "docker" / "compose.env.example").rename(tmp_path / "docker" / "compose.env")
    for command in (["docker", "compose"], ["docker-compose"]):
        known = shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True, check=False)
        if known and known.returncode == 0:
            file = str(tmp_path / "docker" / "compose.yml")
            subprocess.run([*command, "-f", file, "config", "--quiet"], check=True)
            return
    pytest.skip("Compose is not installed (apt-get install docker-compose)")


def test_images_are_pinned_and_ports_are_of_this_machine() -> None:
    text = (DOCKER / "compose.yml").read_text()
    images = re.findall(r"image: (\S+)", text)
    assert sorted(name.partition(":")[0] for name in images) == [
        "ministackorg/ministack",
        "mongo",
        "vehins",
        "vehins-pipeline",
    ]
    assert all(re.search(r":(local|\d+\.\d+\.\d+)$", name) for name in images)
    assert re.findall(r"ports: (.+)", text) == ['["127.0.0.1:8000:8000"]']


def test_no_command_has_to_name_a_profile() -> None:
    """`build` makes every image, and `down` finds what others depend on, which stays when it has ended."""
    services = yaml.safe_load((DOCKER / "compose.yml").read_text())["services"]
    always = {name for name, service in services.items() if not service.get("profiles")}
    built = {service["image"] for service in services.values() if "build" in service}
    assert built == {services[name]["image"] for name in always if "build" in services[name]}
    assert {needed for service in services.values() for needed in service.get("depends_on", {})} <= always
