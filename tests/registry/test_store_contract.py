"""What every object store promises, whatever it is made of."""

import random
import time

import pytest
from registry_processes import create, create_from_file, increment, kill, put_many, run_together, start
from registry_stores import is_s3, opened

from vehins.errors import ConfigurationError, ConflictError, NotFoundError
from vehins.registry.objects import put_file_once, put_once


def test_a_store_that_is_absent_is_empty(store):
    assert store.keys("") == []
    assert store.keys("models/") == []
    with pytest.raises(NotFoundError) as caught:
        store.get("models/a.json")
    assert "models/a.json" in caught.value.headline
    assert store.url in caught.value.detail
    assert "vehins models list" in caught.value.hint


def test_what_is_put_is_read(store):
    etag = store.put("a/b.json", b"one")
    assert store.get("a/b.json") == (b"one", etag)
    again = store.put("a/b.json", b"two")
    assert again != etag
    assert store.get("a/b.json") == (b"two", again)


def test_an_object_that_has_not_changed_is_not_sent_again(store):
    etag = store.put("a", b"one")
    assert store.get_if_changed("a", etag) is None
    again = store.put("a", b"two")
    assert store.get_if_changed("a", etag) == (b"two", again)
    assert store.get_if_changed("a", again) is None
    with pytest.raises(NotFoundError):
        store.get_if_changed("none", etag)


def test_an_object_may_be_empty(store):
    store.put("empty", b"")
    assert store.get("empty").data == b""


def test_another_reader_sees_it(store, store_url):
    store.put("a", b"one")
    assert opened(store_url).get("a") == store.get("a")


def test_files_go_in_and_come_out(store, tmp_path):
    data = random.Random(1).randbytes(3 << 20)
    (tmp_path / "in").write_bytes(data)
    etag = store.put_file("deep/er/object", tmp_path / "in")
    assert store.get("deep/er/object") == (data, etag)
    store.get_file("deep/er/object", tmp_path / "x" / "y" / "out")
    assert (tmp_path / "x" / "y" / "out").read_bytes() == data
    assert [path.name for path in (tmp_path / "x" / "y").iterdir()] == ["out"]


def test_a_file_that_is_not_there_leaves_the_target_alone(store, tmp_path):
    target = tmp_path / "out"
    target.write_text("mine")
    with pytest.raises(NotFoundError):
        store.get_file("none", target)
    assert target.read_text() == "mine"


def test_an_object_does_not_follow_its_source(store, tmp_path):
    path = tmp_path / "in"
    path.write_text("one")
    store.put_file("a", path)
    path.write_text("two")
    store.get_file("a", tmp_path / "out")
    (tmp_path / "out").write_text("three")
    assert store.get("a").data == b"one"


def test_put_file_replaces(store, tmp_path):
    (tmp_path / "in").write_text("two")
    store.put("a", b"one")
    store.put_file("a", tmp_path / "in")
    assert store.get("a").data == b"two"


def test_if_absent_creates_once(store, tmp_path):
    (tmp_path / "in").write_text("two")
    etag = store.put("a", b"one", if_absent=True)
    assert store.get("a").etag == etag
    with pytest.raises(ConflictError) as caught:
        store.put("a", b"two", if_absent=True)
    assert "a" in caught.value.headline
    assert caught.value.hint
    with pytest.raises(ConflictError):
        store.put_file("a", tmp_path / "in", if_absent=True)
    assert store.get("a").data == b"one"


def test_if_match_swaps_only_what_was_read(store):
    first = store.put("a", b"one")
    second = store.put("a", b"two", if_match=first)
    with pytest.raises(ConflictError):
        store.put("a", b"three", if_match=first)
    assert store.get("a") == (b"two", second)


def test_if_match_needs_an_object(store):
    with pytest.raises(ConflictError):
        store.put("a", b"one", if_match="0" * 64)
    with pytest.raises(NotFoundError):
        store.get("a")


def test_conditions_exclude_each_other(store):
    with pytest.raises(ValueError, match="exclude"):
        store.put("a", b"", if_absent=True, if_match="x")


def test_keys_are_sorted_and_start_with_the_prefix(store):
    for key in ["b/2", "a/10", "a/9/x", "ab/1", "a/b.json"]:
        store.put(key, b"")
    assert store.keys("") == ["a/10", "a/9/x", "a/b.json", "ab/1", "b/2"]
    assert store.keys("a") == ["a/10", "a/9/x", "a/b.json", "ab/1"]
    assert store.keys("a/") == ["a/10", "a/9/x", "a/b.json"]
    assert store.keys("a/9/") == ["a/9/x"]
    assert store.keys("a/1") == ["a/10"]
    assert store.keys("a/b.json") == ["a/b.json"]
    assert store.keys("c/") == []
    assert store.keys("a/c/d/") == []


BAD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    ".a",
    "a/.tmp-1",
    "a\\b",
    "C:a",
    "a\nb",
    "a\0b",
    "\udc80",
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_are_refused(store, tmp_path, key):
    (tmp_path / "in").write_text("x")
    calls = [
        lambda: store.get(key),
        lambda: store.put(key, b""),
        lambda: store.put(key, b"", if_absent=True),
        lambda: store.put_file(key, tmp_path / "in"),
        lambda: store.get_file(key, tmp_path / "out"),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert repr(key) in caught.value.detail
    assert store.keys("") == []


@pytest.mark.parametrize("prefix", ["/", "../", "a/../", "a//", ".tmp"])
def test_bad_prefixes_are_refused(store, prefix):
    with pytest.raises(ConfigurationError):
        store.keys(prefix)


def test_put_once_tells_what_stands(store, tmp_path):
    assert put_once(store, "a", b"one") == b"one"
    assert put_once(store, "a", b"one") == b"one"
    assert put_once(store, "a", b"two") == b"one"
    (tmp_path / "in").write_text("two")
    put_file_once(store, "a", tmp_path / "in")
    put_file_once(store, "b", tmp_path / "in")
    assert (store.get("a").data, store.get("b").data) == (b"one", b"two")


def test_one_of_eight_processes_creates(store, store_url, tmp_path):
    for attempt in range(2 if is_s3(store_url) else 3):
        key = f"race/{attempt}"
        contents = [bytes([65 + number]) * 200_000 for number in range(8)]
        for number, content in enumerate(contents):
            (tmp_path / f"in{number}").write_bytes(content)
        if attempt:
            won = run_together(create, [(store_url, key, content) for content in contents])
        else:
            won = run_together(create_from_file, [(store_url, key, tmp_path / f"in{number}") for number in range(8)])
        assert sorted(won) == [False] * 7 + [True]
        assert store.get(key).data == contents[won.index(True)]
        assert store.keys("race/") == [f"race/{number}" for number in range(attempt + 1)]


def test_no_increment_is_lost(store, store_url):
    store.put("counter", b"0")
    conflicts = run_together(increment, [(store_url, "counter", 5 if is_s3(store_url) else 25)] * 4)
    assert all(isinstance(count, int) for count in conflicts), conflicts
    assert store.get("counter").data == (b"20" if is_s3(store_url) else b"100")


def test_a_killed_writer_leaves_whole_objects(store, store_url, tmp_path):
    sizes = {"a": 300_000, "b": 500_000}
    dice = random.Random(7)
    store.put("object", b"a" * sizes["a"])

    def look() -> str:
        data, _ = store.get("object")
        letter = chr(data[0])
        assert data == letter.encode() * sizes[letter]
        return letter

    for _ in range(3 if is_s3(store_url) else 6):
        writers = [start(tmp_path, put_many, store_url, "object", letter, size) for letter, size in sizes.items()]
        seen = set()
        until = time.monotonic() + 60
        while seen != {"a", "b"} and time.monotonic() < until:
            seen.add(look())
        assert seen == {"a", "b"}
        until = time.monotonic() + dice.uniform(0.05, 0.2)
        while time.monotonic() < until:
            look()
        for writer in writers:
            kill(writer)
        look()
        assert store.keys("") == ["object"]
    etag = store.get("object").etag
    store.put("object", b"after", if_match=etag)  # no lock has outlived its holder
    assert store.get("object").data == b"after"
