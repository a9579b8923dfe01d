"""Reads of a registry in S3 while things go wrong: what is said is true, and what does not answer is never empty."""

from __future__ import annotations

import random

import pytest
from s3_line import READS, needs_checksums

from vehins.errors import ConflictError, CredentialsError, NotFoundError, UnreachableError
from vehins.registry.registry import Registry


@pytest.mark.parametrize("call", READS)
@pytest.mark.parametrize("fault", ["500", "503", "reset", "lost", "lost in 500", "cut", "slow"])
def test_a_passing_fault_of_a_read_is_read_over(line, store, direct, tmp_path, call, fault):
    data = random.Random(3).randbytes(3_000_000)
    direct.put("models/a", data)
    line.first(2, fault)
    found = READS[call](store, tmp_path / "out")
    assert len(line.happened) == (1 if fault == "slow" else 2)
    if call == "get":
        assert found == direct.get("models/a")
    elif call == "keys":
        assert found == ["models/a"]
    else:
        assert (tmp_path / "out").read_bytes() == data
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("call", READS)
@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("500", UnreachableError, 6),
        ("503", UnreachableError, 6),
        ("reset", UnreachableError, 6),
        ("lost", UnreachableError, 6),
        ("403", CredentialsError, 3),
        ("bad login", CredentialsError, 3),
        ("bad signature", CredentialsError, 3),
        ("clock", CredentialsError, 3),
    ],
)
def test_a_lasting_fault_of_a_read_is_an_error_and_never_nothing(
    line, store, direct, tmp_path, call, fault, kind, code
):
    if (call, fault) == ("get", "broken page") or (call, fault) == ("get_file", "broken page"):
        pytest.skip("an object may hold a page; its content is checked by those who read it")
    direct.put("models/a", b"1")
    line.always(fault)
    with pytest.raises(kind) as caught:
        READS[call](store, tmp_path / "out")
    assert not isinstance(caught.value, NotFoundError | ConflictError)
    assert caught.value.exit_code == code
    assert caught.value.hint
    assert store.url in caught.value.headline + caught.value.detail
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["page", "broken page"])
def test_a_page_of_something_else_is_no_empty_registry(line, store, fault):
    line.always(fault)
    with pytest.raises(UnreachableError) as caught:
        Registry(store, "car").versions()
    assert not isinstance(caught.value, NotFoundError)
    assert caught.value.hint
    with pytest.raises(UnreachableError) as caught:
        store.put("models/a", b"")
    assert type(caught.value) is UnreachableError
    with pytest.raises(UnreachableError, match="does not speak S3") as caught:
        Registry(store, "car").alias("champion")
    assert "s3.endpoint_url" in caught.value.hint


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_a_download_goes_on_where_it_broke_off(line, store, direct, tmp_path, size):
    data = random.Random(4).randbytes(size)
    direct.put("models/a", data)
    line.first(2, "cut")
    store.get_file("models/a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert len(line.seen) == 3


def test_a_download_begins_anew_when_the_object_has_changed(line, store, direct, tmp_path):
    direct.put("models/a", b"old" * 1000)

    def plan(request):
        if len(line.seen) == 1:
            return "cut"
        if len(line.seen) == 2:
            direct.put("models/a", b"newer" * 1000)
        return None

    line.plan = plan
    store.get_file("models/a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"newer" * 1000


@needs_checksums
@pytest.mark.parametrize("call", ["get", "get_file"])
@pytest.mark.parametrize("times", [1, 100])
def test_bytes_that_change_on_the_way_are_noticed(line, store, direct, tmp_path, call, times):
    data = random.Random(5).randbytes(300_000)
    direct.put("models/a", data)
    line.first(times, "flip")
    if times == 1:
        READS[call](store, tmp_path / "out")
        assert len(line.seen) == 2
        return
    with pytest.raises(UnreachableError, match="arrives damaged"):
        READS[call](store, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@needs_checksums
def test_bytes_that_change_after_a_break_are_noticed(line, store, direct, tmp_path):
    data = random.Random(6).randbytes(300_000)
    direct.put("models/a", data)
    faults = ["flip", "cut"]
    line.plan = lambda request: faults.pop() if faults else None
    store.get_file("models/a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert [fault for fault, _ in line.happened] == ["cut", "flip"]
    assert len(line.seen) == 3
