"""A server that speaks S3 as tests see it, in any process. Nothing here imports pytest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from vehins.settings import RemoteSettings, S3Settings

if TYPE_CHECKING:
    from pathlib import Path

REGION = "us-east-1"  # that of a bucket without a location, which every server knows


@dataclass(frozen=True)
class S3Server:
    """A server, and the login of somebody who may do everything."""

    endpoint: str
    user: str = "test"
    password: str = "test-secret"

    @property
    def variables(self) -> dict[str, str]:
        """The login as AWS's chain finds it."""
        login = {"AWS_ACCESS_KEY_ID": self.user, "AWS_SECRET_ACCESS_KEY": self.password}
        return {**login, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}

    @property
    def s3(self) -> S3Settings:
        return S3Settings(endpoint_url=self.endpoint, path_style=True)

    def client(self) -> Any:
        return _client(self)

    def at(self, endpoint: str) -> S3Server:
        """The same, behind another address."""
        return S3Server(endpoint, self.user, self.password)

    @classmethod
    def of(cls, url: str) -> S3Server:
        """The server at an address with a login."""
        parts = urlsplit(url)
        endpoint = f"{parts.scheme}://{parts.hostname}:{parts.port}"
        return cls(endpoint, unquote(parts.username or ""), unquote(parts.password or ""))


@cache
def _client(server: S3Server) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"})
    session = boto3.session.Session(server.user, server.password, region_name=REGION)
    return session.client("s3", endpoint_url=server.endpoint, config=config)


@dataclass(frozen=True)
class Bucket:
    """A new bucket."""

    server: S3Server
    name: str
    client: Any

    @property
    def endpoint(self) -> str:
        return self.server.endpoint

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    @property
    def options(self) -> dict[str, Any]:
        """Of `ReadOptions`, `WriteOptions` and `open_store`."""
        return {"s3": self.server.s3, "remote": RemoteSettings(connect_timeout=2, read_timeout=10, attempts=3)}

    @property
    def words(self) -> list[str]:
        """Of a command line."""
        return ["--set", f"s3.endpoint_url={self.endpoint}", "--set", "s3.path_style=true"]

    def put(self, key: str, body: bytes | Path) -> str:
        """Write an object; return its address."""
        data = body if isinstance(body, bytes) else body.read_bytes()
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        return f"{self.url}/{key}"

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def new_bucket(server: S3Server) -> Bucket:
    client = server.client()
    name = f"test-{uuid4().hex}"
    client.create_bucket(Bucket=name)
    return Bucket(server, name, client)
