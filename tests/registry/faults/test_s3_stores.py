"""A store in S3 that is not there, or that does not keep conditions, is said to be so."""

from __future__ import annotations

import pytest
from registry_processes import publish
from registry_stores import opened, place_in
from s3_line import READS, behind, needs_no_signature
from server_process import free_port

from vehins.errors import ConfigurationError, ConflictError, NotFoundError, UnreachableError
from vehins.registry.registry import Registry
from vehins.registry.s3 import MARKER
from vehins.settings import RemoteSettings


def test_nobody_listens(bucket, tmp_path):
    server = bucket.server.at(f"http://127.0.0.1:{free_port()}")
    store = opened(place_in(bucket, server=server), RemoteSettings(connect_timeout=1, attempts=2))
    for call in READS.values():
        with pytest.raises(UnreachableError, match="does not answer") as caught:
            call(store, tmp_path / "out")
        assert not isinstance(caught.value, NotFoundError | ConflictError)
    with pytest.raises(UnreachableError, match="does not answer"):
        store.put("models/a", b"", if_absent=True)


def test_a_bucket_that_is_not_there_is_no_empty_registry(bucket, tmp_path):
    store = opened(place_in(bucket).replace(bucket.name, "no-such-bucket-here"))
    calls = [*(lambda call=call: call(store, tmp_path / "out") for call in READS.values())]
    calls += [lambda: store.put("models/a", b""), lambda: store.put("models/a", b"", if_absent=True)]
    for call in calls:
        with pytest.raises(UnreachableError, match="no bucket no-such-bucket-here") as caught:
            call()
        assert type(caught.value) is UnreachableError
        assert "aws s3 mb" in caught.value.hint


@needs_no_signature
@pytest.mark.parametrize("fault", ["careless", "501"])
def test_a_store_without_conditional_writes_is_refused_before_anything_is_written(line, bucket, store, tmp_path, fault):
    line.always(fault, lambda request: request.is_conditional)
    with pytest.raises(ConfigurationError, match="does not keep the conditions") as caught:
        publish(Registry(store, "car"), tmp_path / "b", "one")
    assert "docs/registry.md" in caught.value.hint
    stored = bucket.keys()
    assert [key for key in stored if not key.endswith(MARKER)] == []


@needs_no_signature
def test_a_store_that_keeps_only_if_none_match_is_refused(line, bucket, tmp_path):
    store = behind(line, bucket)
    conditional = []

    def plan(request):
        conditional.extend([request] if request.is_conditional else [])
        return "careless" if len(conditional) == 3 else None

    line.plan = plan
    with pytest.raises(ConfigurationError, match="does not keep the conditions") as caught:
        store.put("models/a", b"", if_absent=True)
    assert "If-Match" in caught.value.detail
