"""Push an image that was built here to ECR, once, and print it by digest: publish.py IMAGE REPOSITORY TAG.

REPOSITORY is a name or a whole address. Tags of the repository are immutable: where the tag is there already, as when a
workflow is run again, that image is the one, and nothing is pushed. On GitHub the step gets the output ``digest``, and
not the address: that may have a secret in it, and GitHub hands no such output to another job.
Region, login and endpoint are what boto3 finds.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def main(image: str, repository: str, tag: str) -> str:
    """Push the image; return it as ``address@sha256:...``."""
    ecr = boto3.client("ecr")
    login = ecr.get_authorization_token()["authorizationData"][0]
    host, _, rest = repository.partition("/")
    if "." not in host:
        host, rest = login["proxyEndpoint"].removeprefix("https://"), repository
    if digest(ecr, rest, tag) is None:
        push(login, image, host, f"{host}/{rest}:{tag}")
    else:
        print(f"{tag} is in {rest} already; nothing is pushed twice", file=sys.stderr)
    return f"{host}/{rest}@{digest(ecr, rest, tag)}"


def digest(ecr: Any, name: str, tag: str) -> str | None:
    """Digest of the image with a tag."""
    try:
        found = ecr.describe_images(repositoryName=name, imageIds=[{"imageTag": tag}])["imageDetails"]
    except ecr.exceptions.ImageNotFoundException:
        return None
    return str(found[0]["imageDigest"]) if found else None


def push(login: dict[str, Any], image: str, host: str, target: str) -> None:
    """Push with a login that lasts as long as the push."""
    user, _, password = base64.b64decode(login["authorizationToken"]).decode().partition(":")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DOCKER_CONFIG": folder}

        def docker(*words: str, given: str | None = None) -> None:
            subprocess.run(["docker", *words], check=True, env=environment, input=given, text=True, stdout=sys.stderr)

        docker("login", "--username", user, "--password-stdin", host, given=password)
        docker("tag", image, target)
        docker("push", target)


if __name__ == "__main__":
    if len(sys.argv) != 4 or not all(sys.argv[1:]):
        sys.exit("usage: publish.py IMAGE REPOSITORY TAG (in a workflow: is ECR_REPO set?)")
    try:
        pushed = main(*sys.argv[1:])
    except (BotoCoreError, ClientError, subprocess.CalledProcessError) as error:
        sys.exit(f"{sys.argv[1]} was not pushed to {sys.argv[2]}: {error}")
    print(pushed)
    if os.environ.get("GITHUB_OUTPUT"):
        with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
            file.write(f"digest={pushed.rpartition('@')[2]}\n")
