"""An image is built by `make image`, and pushed once by `.ci/run publish` to a registry that speaks ECR."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from github_runner import ROOT
from s3_client import REGION, S3Server
from vehins_runner import child_environment

if TYPE_CHECKING:
    from pathlib import Path

    from docker_daemon import Daemon

# As small as an image can be; what matters here is the way, and the real one is built by the tests of the image.
DOCKERFILE = """FROM scratch
ARG VERSION REVISION CREATED
LABEL version=$VERSION revision=$REVISION created=$CREATED
COPY README.md /
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the Makefile of this one and an image of its own."""
    files = {
        "docker/Dockerfile": DOCKERFILE,
        "README.md": str(tmp_path),
        "vehins/__init__.py": '__version__ = "1.2.3"\n',
    }
    for name, text in {**files, "Makefile": (ROOT / "Makefile").read_text(encoding="utf-8")}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    return tmp_path


@pytest.fixture
def repository(secrets_server: str) -> tuple[Any, str]:
    """A client of ECR, and a new repository whose tags are immutable."""
    import boto3

    ecr = boto3.client("ecr", region_name=REGION, endpoint_url=secrets_server, **_login(secrets_server))
    name = f"vehins-{uuid.uuid4().hex[:8]}"
    ecr.create_repository(repositoryName=name, imageTagMutability="IMMUTABLE")
    return ecr, name


def with_docker(docker: Daemon, **more: str) -> dict[str, str]:
    """Variables for a process that speaks to the daemon; Debian's client builds with BuildKit as it is."""
    return child_environment(DOCKER_HOST=docker.socket, PATH=f"/usr/bin:{os.environ['PATH']}", **more)


def _login(server: str) -> dict[str, str]:
    found = S3Server(server)
    return {"aws_access_key_id": found.user, "aws_secret_access_key": found.password}


def make_image(checkout: Path, docker: Daemon, name: str) -> dict[str, Any]:
    """Build as the workflow does; return the image's configuration."""
    environment = with_docker(docker, IMAGE=name)
    done = subprocess.run(
        ["bash", "-c", "make image"], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(docker("image", "inspect", name))[0]["Config"]


def publish(docker: Daemon, server: str, output: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """Push as the workflow does."""
    variables = {**S3Server(server).variables, "AWS_ENDPOINT_URL": server, "GITHUB_OUTPUT": str(output)}
    environment = with_docker(docker, **variables, **given)
    return subprocess.run(
        ["bash", "-c", ".ci/run publish"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_the_image_says_what_it_was_made_from(checkout: Path, docker: Daemon) -> None:
    labels = make_image(checkout, docker, "vehins:labelled")["Labels"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
    assert labels["version"] == "1.2.3"
    assert labels["revision"] == commit.stdout.strip()
    assert labels["created"][:4].isdecimal()


def test_an_image_is_pushed_once_and_told_by_digest(
    checkout: Path, docker: Daemon, repository: tuple[Any, str], secrets_server: str, tmp_path: Path
) -> None:
    ecr, name = repository
    address = f"{secrets_server.removeprefix('http://')}/{name}"
    make_image(checkout, docker, "vehins:pushed")
    given = {"IMAGE": "vehins:pushed", "ECR_REPO": address, "TAG": "0123abc"}
    first = publish(docker, secrets_server, tmp_path / "first", **given)
    assert first.returncode == 0, first.stderr
    [detail] = ecr.describe_images(repositoryName=name)["imageDetails"]
    assert detail["imageTags"] == ["0123abc"]
    # The address may have a secret in it (ECR_REPO, AWS_DEFAULT_REGION): such an output reaches no other job.
    assert (tmp_path / "first").read_text() == f"digest={detail['imageDigest']}\n"
    assert first.stdout == f"{address}@{detail['imageDigest']}\n"

    (checkout / "README.md").write_text("another")
    make_image(checkout, docker, "vehins:pushed")
    again = publish(docker, secrets_server, tmp_path / "again", **given)
    assert again.returncode == 0, again.stderr
    assert "nothing is pushed twice" in again.stderr
    assert (tmp_path / "again").read_text() == (tmp_path / "first").read_text()

    docker("image", "rm", "--force", "vehins:pushed", f"{address}:0123abc")
    docker("pull", "--quiet", f"{address}@{detail['imageDigest']}")  # as the box does


def test_what_cannot_be_pushed_is_told_without_the_login(
    docker: Daemon, repository: tuple[Any, str], secrets_server: str, tmp_path: Path
) -> None:
    address = f"{secrets_server.removeprefix('http://')}/{repository[1]}"
    done = publish(docker, secrets_server, tmp_path / "none", IMAGE="vehins:never-built", ECR_REPO=address, TAG="1")
    assert done.returncode == 1
    assert "vehins:never-built was not pushed" in done.stderr
    assert not (tmp_path / "none").exists()
    unset = publish(docker, secrets_server, tmp_path / "none", IMAGE="vehins:never-built", ECR_REPO="", TAG="1")
    assert unset.returncode == 1
    assert "is ECR_REPO set?" in unset.stderr
