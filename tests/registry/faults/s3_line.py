"""A store in S3 that is reached over a line on which things go wrong."""

from __future__ import annotations

import os

import pytest
from registry_stores import opened, place_in

from vehins.settings import RemoteSettings

IMPATIENT = RemoteSettings(connect_timeout=5, read_timeout=20, attempts=4)

needs_checksums = pytest.mark.skipif(
    "VEHINS_TEST_S3_URL" in os.environ, reason="not every server keeps the checksums that it is sent"
)
needs_no_signature = pytest.mark.skipif(
    "VEHINS_TEST_S3_URL" in os.environ, reason="takes a signed header away, which a server may notice"
)
needs_one_answer = pytest.mark.skipif(
    "VEHINS_TEST_S3_URL" in os.environ, reason="whether a server wants its etags bare is learned from an answer"
)

READS = {
    "get": lambda store, path: store.get("models/a"),
    "get_file": lambda store, path: store.get_file("models/a", path),
    "keys": lambda store, path: store.keys("models/"),
}


def behind(line, bucket, **more):
    """A store in the bucket that is reached over the line."""
    return opened(place_in(bucket, server=bucket.server.at(line.endpoint)), **{"remote": IMPATIENT, **more})


def about(part, method="PUT"):
    """Requests of a method whose key has a part."""
    return lambda request: part in request.key and request.method == method
