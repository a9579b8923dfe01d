"""A server that speaks as AWS's Secrets Manager does, and the variables that lead everybody there."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from server_process import HOST, answers, free_port, program, running

if TYPE_CHECKING:
    from collections.abc import Iterator

REGION = "eu-central-1"


@pytest.fixture(scope="session")
def secrets_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    port = free_port()
    variables = {**os.environ, "BIND_HOST": HOST, "GATEWAY_PORT": str(port)}
    log = tmp_path_factory.mktemp("aws") / "log"
    with running([program("ministack")], log, lambda: answers(port), variables):
        yield f"http://{HOST}:{port}"


@pytest.fixture
def secrets_manager(secrets_server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of it; who asks AWS for a secret during the test asks this server."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return boto3.client("secretsmanager", region_name=REGION)


def new_secret(manager: Any, value: str | bytes | dict[str, str]) -> str:
    """Store a secret; return its ARN."""
    text = json.dumps(value) if isinstance(value, dict) else value
    given = {"SecretBinary": text} if isinstance(text, bytes) else {"SecretString": text}
    return str(manager.create_secret(Name=f"vehins/{time.time_ns()}", **given)["ARN"])
