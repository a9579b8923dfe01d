"""What the registry on S3 takes beside a bare client that puts and gets the same bytes, on the same server."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vehins.artifacts.files import record_file
from vehins.registry.registry import Registry
from vehins.registry.stores import open_store
from vehins.settings import RemoteSettings, S3Settings

SIZES = {"model.txt": 1_000_000, "features.json": 4_000, "golden.jsonl": 8_000, "signature.json": 6_000}
_LOGIN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret", "AWS_REGION": "us-east-1"}


@contextmanager
def _server() -> Iterator[str]:
    """A server that speaks S3; gives its endpoint."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    beside = Path(sys.executable).with_name("ministack")
    variables = {**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([beside], env=variables, **quiet) as process:
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


class Bench:
    """Each step by the registry and by the bare client, in turn."""

    def __init__(self, endpoint: str, folder: Path) -> None:
        import boto3

        os.environ.update(_LOGIN)
        self._folder = folder
        self._client: Any = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        self._client.create_bucket(Bucket="bench")
        remote = RemoteSettings()
        self._store: Any = open_store("s3://bench/registry", S3Settings(endpoint_url=endpoint, path_style=True), remote)
        self._registry = Registry(self._store, "car")
        self.requests = 0
        self._store.client.meta.events.register("before-send.s3", self._count)

    def _count(self, **_: Any) -> None:
        self.requests += 1

    def bundle(self) -> Path:
        """A new bundle: no two hold the same bytes."""
        folder = self._folder / secrets.token_hex(8)
        folder.mkdir()
        for name, size in SIZES.items():
            (folder / name).write_bytes(secrets.token_hex(size // 2).encode())
        return folder

    def publish(self, folder: Path) -> int:
        files = [record_file(folder, path) for path in sorted(folder.iterdir())]
        facts: dict[str, Any] = {"champion": None, "evaluation": {}, "approved": None, "lineage": {}}
        return self._registry.publish(folder, files, bundle=folder.name, **facts)[0].version

    def promote(self, version: int) -> None:
        assert self._registry.point("production", version, reason="benchmark")[1]

    def fetch(self, version: int) -> None:
        self._registry.fetch(version, self._folder / "copy")
        shutil.rmtree(self._folder / "copy")

    def list(self, _: int) -> None:
        self._registry.versions()

    def bare_publish(self, folder: Path) -> None:
        for path in (*folder.iterdir(), folder / "model.txt"):  # as many objects as a version has
            self._client.put_object(Bucket="bench", Key=f"bare/{folder.name}/{path.name}", Body=path.read_bytes())

    def bare_promote(self, folder: Path) -> None:
        self._client.put_object(Bucket="bench", Key="bare/alias.json", Body=folder.name.encode())

    def bare_fetch(self, folder: Path) -> None:
        for name in SIZES:
            body = self._client.get_object(Bucket="bench", Key=f"bare/{folder.name}/{name}")["Body"]
            (self._folder / name).write_bytes(body.read())

    def bare_list(self, _: Path) -> None:
        prefix = "registry/models/car/versions/"
        for entry in self._client.list_objects_v2(Bucket="bench", Prefix=prefix)["Contents"]:
            if entry["Key"].endswith("/manifest.json"):
                self._client.get_object(Bucket="bench", Key=entry["Key"])["Body"].read()


STEPS = ("publish", "promote", "fetch", "list")


def registry(runs: int, folder: Path, _: Path | None) -> None:
    """Publish, promote, fetch and list, beside bare puts and gets."""
    with _server() as endpoint:
        bench = Bench(endpoint, folder)
        times: dict[str, list[tuple[float, float]]] = {step: [] for step in STEPS}
        for number in range(4 * runs + 1):
            requests, found = _round(bench)
            if number:  # the first is a warm-up
                for step in STEPS:
                    times[step].append(found[step])
        for step in STEPS:
            print(_line(step, requests[step], times[step]))


def _round(bench: Bench) -> tuple[dict[str, int], dict[str, tuple[float, float]]]:
    """One new bundle through every step: the requests of ours, and the seconds of ours and of the bare client."""
    given, plain = bench.bundle(), bench.bundle()
    requests, found = {}, {}
    for step in STEPS:
        before = bench.requests
        begin = time.perf_counter()
        given = getattr(bench, step)(given) or given
        middle = time.perf_counter()
        getattr(bench, f"bare_{step}")(plain)
        found[step] = (middle - begin, time.perf_counter() - middle)
        requests[step] = bench.requests - before
    return requests, found


def _line(step: str, requests: int, times: list[tuple[float, float]]) -> str:
    ours, bare = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
    ratios = sorted(mine / other for mine, other in times)
    extent = f"range {ratios[0]:.2f} to {ratios[-1]:.2f}"
    return (
        f"{step:<8} {requests:3} requests  {ours:7.1f} ms, bare {bare:7.1f} ms, "
        f"ratio {statistics.median(ratios):5.2f} ({extent})"
    )
