"""A bucket for each test that asks for one, on a server that speaks S3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import redshift_data_double

from vehins.settings import RemoteSettings, S3Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import polars as pl

_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_REGION": "eu-central-1",
    "AWS_DEFAULT_REGION": "eu-central-1",
}


@dataclass(frozen=True)
class Store:
    """A new bucket."""

    endpoint: str
    name: str
    client: Any

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    @property
    def options(self) -> dict[str, Any]:
        """Of `ReadOptions`."""
        return {
            "s3": S3Settings(endpoint_url=self.endpoint, path_style=True),
            "remote": RemoteSettings(connect_timeout=2, read_timeout=5, attempts=3),
        }

    @property
    def words(self) -> list[str]:
        """Of a command line."""
        return ["--set", f"s3.endpoint_url={self.endpoint}", "--set", "s3.path_style=true"]

    def put(self, key: str, body: bytes | Path) -> str:
        """Write an object; return its address."""
        data = body if isinstance(body, bytes) else body.read_bytes()
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        return f"{self.url}/{key}"

    def keys(self) -> list[str]:
        return [entry["Key"] for entry in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]


@pytest.fixture
def aws_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that every test server takes."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def store(secrets_server: str, aws_login: None) -> Store:
    """An empty bucket; one server does for all services of AWS."""
    import boto3
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"})
    client = boto3.session.Session().client("s3", endpoint_url=secrets_server, config=config)
    name = f"test-{uuid4().hex}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return Store(secrets_server, name, client)


@pytest.fixture
def redshift_data(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[redshift_data_double.RedshiftData]:
    """What answers instead of Redshift's Data API, without a table yet."""
    tables: dict[str, pl.DataFrame] = {}
    with redshift_data_double.serving(store.client, tables) as double:
        monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_DATA", double.url)
        yield double
