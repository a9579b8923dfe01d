"""A registry behind a line on which things go wrong, and the same registry reached directly."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import stamina
from registry_processes import with_two_versions
from registry_stores import opened, place_in
from s3_faults import faulty
from s3_line import IMPATIENT, behind


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """The pauses between tries are cut out; the tries are as they are."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))
    with stamina.set_testing(True, attempts=IMPATIENT.attempts, cap=True):
        yield


@pytest.fixture
def line(s3_server):
    with faulty(s3_server.endpoint) as faults:
        yield faults


@pytest.fixture
def store(line, bucket):
    return behind(line, bucket)


@pytest.fixture
def direct(bucket):
    return opened(place_in(bucket))


@pytest.fixture
def model(store, tmp_path):
    return with_two_versions(store, tmp_path)
