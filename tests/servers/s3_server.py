"""A server that speaks S3, and a new bucket for each test that asks for one.

VEHINS_TEST_S3_URL names one that runs already, with its login: ``http://KEY:SECRET@HOST:PORT``. Its user must be
allowed to create buckets; they stay there.
"""

from __future__ import annotations

import os

import pytest
from s3_client import Bucket, S3Server, new_bucket


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """One server does for all services of AWS."""
    given = os.environ.get("VEHINS_TEST_S3_URL")
    return S3Server.of(given) if given else S3Server(request.getfixturevalue("secrets_server"))


@pytest.fixture
def aws_login(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that the server takes."""
    log_in(s3_server, monkeypatch)


def log_in(server: S3Server, patch: pytest.MonkeyPatch) -> None:
    """Let AWS's chain find the login of a server."""
    patch.delenv("AWS_PROFILE", raising=False)
    for name, value in server.variables.items():
        patch.setenv(name, value)


@pytest.fixture
def bucket(s3_server: S3Server, aws_login: None) -> Bucket:
    """An empty bucket."""
    return new_bucket(s3_server)
