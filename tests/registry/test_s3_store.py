"""What is particular to S3: pages, checksums, etags, sizes."""

import base64
import hashlib
import tracemalloc

import pytest
from registry_stores import opened, place_in
from s3_faults import faulty

from vehins.errors import ConfigurationError, ConflictError, NotFoundError, UnreachableError
from vehins.registry.s3 import MARKER


@pytest.fixture
def store(bucket):
    return opened(place_in(bucket))


@pytest.fixture
def line(s3_server):
    with faulty(s3_server.endpoint) as faults:
        yield faults


def behind(line, bucket):
    return opened(place_in(bucket, server=bucket.server.at(line.endpoint)))


def test_a_listing_of_many_pages_is_whole(store):
    names = sorted(f"a/{number:03}" for number in range(11))
    for name in names:
        store.put(name, b"")
    seen = []

    def shorten(params, **_):
        seen.append(params)
        params["MaxKeys"] = 3

    store.client.meta.events.register("before-parameter-build.s3.ListObjectsV2", shorten)
    assert store.keys("a/") == names
    assert len(seen) == 4


def test_a_look_at_what_has_not_changed_is_one_request(store):
    etag = store.put("a", b"one")
    answers = []
    store.client.meta.events.register(
        "response-received.s3", lambda response_dict, **_: answers.append(response_dict["status_code"])
    )
    assert store.get_if_changed("a", etag) is None
    assert answers == [304]


def test_what_is_not_the_registrys_is_not_listed(store, bucket):
    store.put("a/b", b"", if_absent=True)
    for key in (".lock", "a/.tmp-1", "folder/", "a/b/"):
        bucket.put(f"team/registry/{key}", b"")
    bucket.put("team/registry2/c", b"")
    bucket.put("team/c", b"")
    assert store.keys("") == ["a/b"]
    assert f"team/registry/{MARKER}" in bucket.keys()  # noqa: SIM118 - a bucket is no dictionary


def test_a_store_without_a_prefix(bucket):
    store = opened(place_in(bucket, prefix=""))
    assert store.url == bucket.url
    store.put("a/b", b"1", if_absent=True)
    assert store.keys("") == ["a/b"]
    assert bucket.get("a/b") == b"1"


@pytest.mark.parametrize("checksums", ["sha256", "none"])
def test_the_sha256_goes_with_the_bytes(bucket, tmp_path, checksums):
    store = opened(place_in(bucket), checksums=checksums)
    sent = []
    store.client.meta.events.register("before-send.s3.PutObject", lambda request, **_: sent.append(request.headers))
    (tmp_path / "in").write_bytes(b"file")
    store.put("a", b"data", if_absent=True)
    store.put_file("b", tmp_path / "in")
    expected = [base64.b64encode(hashlib.sha256(data).digest()) for data in (b"data", b"file")]
    found = [headers.get("x-amz-checksum-sha256") for headers in sent[-2:]]
    assert found == (expected if checksums == "sha256" else [None, None])
    assert not [name for headers in sent for name in headers if "crc" in name.lower()]
    assert store.get("a").data == b"data"
    store.get_file("b", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"file"


@pytest.mark.parametrize("call", ["put", "put_file"])
def test_bytes_that_change_on_their_way_there_are_refused(line, bucket, store, tmp_path, call):
    (tmp_path / "in").write_bytes(b"data")
    line.always("spoilt", lambda request: request.method == "PUT")
    sender = behind(line, bucket)
    with pytest.raises(UnreachableError):
        sender.put("a", b"data") if call == "put" else sender.put_file("a", tmp_path / "in")
    with pytest.raises(NotFoundError):
        store.get("a")


def test_a_store_that_wants_its_etags_bare(line, bucket):
    line.always("bare etags")
    store = behind(line, bucket)
    first = store.put("a", b"one", if_absent=True)
    second = store.put("a", b"two", if_match=first)
    asked = len(line.seen)
    third = store.put("a", b"three", if_match=second)
    assert len(line.seen) == asked + 1  # it has learned
    for etag in (first, second):
        with pytest.raises(ConflictError):
            store.put("a", b"four", if_match=etag)
    assert store.get("a") == (b"three", third)


def test_files_are_copied_in_constant_memory(store, tmp_path):
    size = 48 << 20
    with (tmp_path / "in").open("wb") as file:
        file.truncate(size)
    store.put("warm", b"", if_absent=True)
    store.get("warm")
    tracemalloc.start()
    try:
        store.put_file("a", tmp_path / "in", if_absent=True)
        store.get_file("a", tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out").stat().st_size == size
    assert peak < size / 4


def test_a_file_that_one_request_cannot_put_is_refused_before_it_is_read(store, tmp_path):
    with (tmp_path / "model.txt").open("wb") as file:
        file.truncate(5 * 1024**3 + 1)
    with pytest.raises(ConfigurationError, match="is larger than S3 takes") as caught:
        store.put_file("a", tmp_path / "model.txt", if_absent=True)
    assert "5.4 GB" in caught.value.detail
    assert "model.txt" in caught.value.headline
    assert store.keys("") == []


def test_a_source_that_is_missing_is_named(store, tmp_path):
    with pytest.raises(UnreachableError) as caught:
        store.put_file("a", tmp_path / "none")
    assert str(tmp_path / "none") in caught.value.detail


def test_a_target_that_cannot_be_written_is_named(store, tmp_path):
    store.put("a", b"1")
    (tmp_path / "file").touch()
    with pytest.raises(UnreachableError) as caught:
        store.get_file("a", tmp_path / "file" / "out")
    assert not isinstance(caught.value, NotFoundError)
    assert str(tmp_path / "file") in caught.value.detail
