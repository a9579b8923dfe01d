"""Aliases: moved by compare-and-swap, with a history that tells every move."""

import pytest
from registry_processes import point_at_each, publish, run_together
from registry_stores import Watched, fail_once

from vehins.errors import ArtifactDamagedError, ConfigurationError, ConflictError, NotFoundError, UnreachableError
from vehins.registry import objects as objects_module
from vehins.registry.folder import FolderStore
from vehins.registry.registry import AliasMove, Registry

CHAMPION = "models/car/aliases/champion.json"
HISTORY = "models/car/history/champion/"


@pytest.fixture
def watched(store):
    return Watched(store)


@pytest.fixture
def registry(watched, tmp_path):
    registry = Registry(watched, "car")
    for number in range(1, 4):
        publish(registry, tmp_path / f"b{number}", f"text {number}")
    watched.written.clear()
    return registry


def assert_chain(moves):
    assert [move.sequence for move in moves] == list(range(1, len(moves) + 1))
    assert [move.previous for move in moves] == [None, *(move.version for move in moves[:-1])][: len(moves)]
    assert len({move.token for move in moves}) == len(moves)


def test_an_alias_that_points_nowhere(registry):
    assert registry.alias("champion") is None
    assert registry.resolve("champion") is None
    assert registry.history("champion") == []


def test_promotion_and_rollback(registry, store):
    first, moved = registry.point("champion", 1, reason="the first")
    assert moved
    assert (first.alias, first.version, first.previous, first.sequence, first.reason) == (
        "champion",
        1,
        None,
        1,
        "the first",
    )
    assert "@" in first.actor
    second, _ = registry.point("champion", 3, reason="better")
    third, _ = registry.point("champion", 1, reason="worse after all")
    assert registry.alias("champion") == third
    assert registry.resolve("champion") == registry.version(1)
    assert registry.history("champion") == [first, second, third]
    assert_chain([first, second, third])
    assert store.keys(HISTORY) == [f"{HISTORY}0000000{number}.json" for number in (1, 2, 3)]
    assert AliasMove.model_validate_json(store.get(CHAMPION).data) == third


def test_who_looks_often_is_told_of_moves_alone(registry):
    assert registry.look("production", None) == (None, None)
    first, _ = registry.point("production", 1, reason="first")
    look = registry.look("production", None)
    assert look.move == first
    assert registry.look("production", look.etag) is None
    second, _ = registry.point("production", 2, reason="second")
    assert registry.look("production", look.etag).move == second
    assert registry.target(second).version == 2


def test_who_looks_often_is_told_that_an_alias_is_gone(tmp_path):
    registry = Registry(FolderStore(tmp_path / "store"), "car")
    publish(registry, tmp_path / "b1", "text 1")
    registry.point("production", 1, reason="first")
    look = registry.look("production", None)
    (tmp_path / "store/models/car/aliases/production.json").unlink()
    assert registry.look("production", look.etag) == (None, None)


def test_pointing_again_writes_nothing(registry, watched):
    move, _ = registry.point("champion", 1, reason="first")
    before = list(watched.written)
    assert registry.point("champion", 1, reason="again") == (move, False)
    assert watched.written == before


def test_it_moves_only_from_where_it_is_expected(registry, watched):
    with pytest.raises(ConflictError):
        registry.point("champion", 1, reason="", instead_of=frozenset({2}))
    assert registry.alias("champion") is None
    registry.point("champion", 1, reason="", instead_of=frozenset({None}))
    watched.written.clear()
    with pytest.raises(ConflictError):
        registry.point("champion", 3, reason="", instead_of=frozenset({None, 2}))
    assert registry.point("champion", 1, reason="", instead_of=frozenset({2}))[1] is False
    assert watched.written == []
    assert registry.point("champion", 3, reason="", instead_of=frozenset({1}))[1] is True


def test_aliases_are_apart(registry):
    registry.point("champion", 1, reason="")
    registry.point("champion-old", 2, reason="")
    assert registry.resolve("champion").version == 1
    assert registry.resolve("champion-old").version == 2
    assert len(registry.history("champion")) == len(registry.history("champion-old")) == 1


@pytest.mark.parametrize("name", ["", "../car", "a/b", "a" * 101])
def test_alias_names_are_checked(registry, name):
    for call in [
        registry.alias,
        registry.resolve,
        registry.history,
        lambda name: registry.point(name, 1, reason=""),
        lambda name: registry.point(name, 99, reason=""),
    ]:
        with pytest.raises(ConfigurationError):
            call(name)


def test_only_whole_versions_can_be_pointed_to(registry, store, watched):
    store.put("models/car/versions/4/claim.json", b"{}")
    for number in (0, -1, 4, 5):
        with pytest.raises(NotFoundError):
            registry.point("champion", number, reason="")
    assert watched.written == []


def test_only_intact_versions_can_be_pointed_to(registry, store, watched):
    registry.point("champion", 2, reason="")
    watched.written.clear()
    store.put("models/car/versions/2/bundle/model.txt", b"damaged")
    with pytest.raises(ArtifactDamagedError) as caught:
        registry.point("champion", 2, reason="it points there already, but ask again")
    assert "models/car/versions/2/bundle/model.txt" in caught.value.detail
    assert "vehins models list" in caught.value.hint
    with pytest.raises(ArtifactDamagedError):
        registry.point("other", 2, reason="")
    assert watched.written == []
    assert registry.point("champion", 1, reason="away from it")[1]


def test_an_alias_to_a_version_that_is_gone_is_an_error(registry, store):
    move, _ = registry.point("champion", 1, reason="")
    store.put(CHAMPION, move.model_copy(update={"version": 9}).model_dump_json().encode())
    with pytest.raises(ArtifactDamagedError) as caught:
        registry.resolve("champion")
    assert "version 9" in caught.value.headline
    store.put(CHAMPION, move.model_dump_json().encode())
    store.put("models/car/versions/1/manifest.json", b"")
    with pytest.raises(ArtifactDamagedError):
        registry.resolve("champion")


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b'{"alias": "champion"}'])
def test_a_damaged_alias_is_an_error(registry, store, watched, data):
    registry.point("champion", 1, reason="")
    watched.written.clear()
    store.put(CHAMPION, data)
    for call in [
        lambda: registry.alias("champion"),
        lambda: registry.resolve("champion"),
        lambda: registry.history("champion"),
        lambda: registry.point("champion", 2, reason=""),
    ]:
        with pytest.raises(ArtifactDamagedError) as caught:
            call()
        assert CHAMPION in caught.value.headline
        assert "vehins push" in caught.value.hint
    assert watched.written == []


def test_an_alias_in_the_wrong_place_is_damaged(registry, store):
    registry.point("champion", 1, reason="")
    store.put("models/car/aliases/other.json", store.get(CHAMPION).data)
    with pytest.raises(ArtifactDamagedError) as caught:
        registry.resolve("other")
    assert "champion" in caught.value.detail


@pytest.mark.parametrize("swap", [False, True])
def test_a_damaged_history_is_an_error(registry, store, swap):
    registry.point("champion", 1, reason="")
    registry.point("champion", 2, reason="")
    data = store.get(f"{HISTORY}00000002.json").data if swap else b"{"
    store.put(f"{HISTORY}00000001.json", data)
    with pytest.raises(ArtifactDamagedError) as caught:
        registry.history("champion")
    assert f"{HISTORY}00000001.json" in caught.value.headline


def test_a_crash_before_the_history_is_healed_by_the_next_move(registry, watched, store):
    watched.before = fail_once("history", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        registry.point("champion", 1, reason="first")
    assert store.keys(HISTORY) == []
    assert [move.reason for move in registry.history("champion")] == ["first"]
    assert registry.point("champion", 1, reason="again")[1] is False
    registry.point("champion", 2, reason="second")
    assert [move.reason for move in registry.history("champion")] == ["first", "second"]
    assert len(store.keys(HISTORY)) == 2
    assert_chain(registry.history("champion"))


@pytest.mark.parametrize("place", ["aliases", "history"])
def test_a_lost_reply_is_ones_own_success(registry, watched, place):
    registry.point("champion", 1, reason="first")
    watched.after = fail_once(place)
    move, moved = registry.point("champion", 2, reason="second")
    assert moved
    assert registry.alias("champion") == move
    assert [move.reason for move in registry.history("champion")] == ["first", "second"]


@pytest.mark.parametrize("start", [None, 1])
@pytest.mark.parametrize("error", [UnreachableError("timeout"), ConflictError("412 on the second try")])
def test_a_lost_reply_is_ones_own_success_even_when_another_has_moved_on(registry, watched, store, start, error):
    if start:
        registry.point("champion", start, reason="first")
    lose = fail_once("aliases", error)

    def overtake(key):
        if "aliases" in key:
            watched.after = lambda key: None
            Registry(store, "car").point("champion", 3, reason="overtaken")
            lose(key)

    watched.after = overtake
    move, moved = registry.point("champion", 2, reason="mine")
    assert (move.version, moved) == (2, True)
    reasons = [move.reason for move in registry.history("champion")]
    assert reasons == (["first"] if start else []) + ["mine", "overtaken"]
    assert registry.resolve("champion").version == 3


def test_a_write_that_fails_is_an_error(registry, watched):
    registry.point("champion", 1, reason="first")
    watched.before = fail_once("aliases")
    with pytest.raises(UnreachableError, match="reply was lost"):
        registry.point("champion", 2, reason="second")
    assert registry.resolve("champion").version == 1
    assert_chain(registry.history("champion"))


@pytest.mark.parametrize("other", [2, 3])
@pytest.mark.parametrize("start", [None, 1])
def test_on_a_conflict_it_decides_again(registry, watched, store, start, other):
    if start:
        registry.point("champion", start, reason="first")

    def overtake(key):
        if "aliases" in key:
            watched.before = lambda key: None
            Registry(store, "car").point("champion", other, reason="other")

    watched.before = overtake
    move, moved = registry.point("champion", 2, reason="mine")
    assert moved is (other == 3)
    assert move.reason == ("mine" if other == 3 else "other")
    assert move.previous == (3 if other == 3 else start)
    assert_chain(registry.history("champion"))


def test_endless_conflicts_end(registry, watched, monkeypatch):
    monkeypatch.setattr(objects_module.time, "sleep", lambda seconds: None)

    def refuse(key):
        raise ConflictError("409")

    watched.before = refuse
    with pytest.raises(ConflictError) as caught:
        registry.point("champion", 1, reason="")
    assert CHAMPION in caught.value.headline
    assert registry.alias("champion") is None


def test_an_alias_deleted_by_hand_goes_on_where_its_history_ends(tmp_path):
    registry = Registry(FolderStore(tmp_path / "registry"), "car")
    for number in range(1, 4):
        publish(registry, tmp_path / f"b{number}", f"text {number}")
    registry.point("champion", 1, reason="first")
    registry.point("champion", 2, reason="second")
    (tmp_path / "registry" / CHAMPION).unlink()
    assert registry.alias("champion") is None
    assert len(registry.history("champion")) == 2
    move, _ = registry.point("champion", 3, reason="third")
    assert (move.sequence, move.previous) == (3, None)
    assert [move.sequence for move in registry.history("champion")] == [1, 2, 3]


def test_an_alias_restored_from_a_backup_goes_on_where_its_history_ends(registry, store):
    registry.point("champion", 1, reason="first")
    backup = store.get(CHAMPION).data
    registry.point("champion", 2, reason="second")
    store.put(CHAMPION, backup)
    move, _ = registry.point("champion", 3, reason="third")
    assert (move.sequence, move.previous) == (3, 1)
    assert [move.reason for move in registry.history("champion")] == ["first", "second", "third"]


def test_a_history_that_tells_of_another_move_is_an_error(registry, store):
    move, _ = registry.point("champion", 1, reason="first")
    store.put(f"{HISTORY}00000001.json", move.model_copy(update={"token": "other"}).model_dump_json().encode())
    with pytest.raises(ArtifactDamagedError) as caught:
        registry.point("champion", 2, reason="second")
    assert f"{HISTORY}00000001.json" in caught.value.headline
    assert registry.resolve("champion").version == 1


def test_a_listing_that_is_torn_by_two_moves_leaves_no_gap(registry, watched, store):
    registry.point("champion", 1, reason="first")

    def tear(keys):
        other = Registry(store, "car")
        other.point("champion", 2, reason="missed by the listing")
        other.point("champion", 3, reason="seen by the listing")
        return [*keys, store.keys(HISTORY)[-1]]

    watched.listed = tear
    moves = registry.history("champion")
    assert [move.sequence for move in moves] == [1, 2, 3]
    watched.listed = lambda keys: keys
    assert [move.sequence for move in registry.history("champion")] == [1, 2, 3, 4, 5]


def test_every_move_of_a_race_is_told(registry, store_url):
    moved = run_together(
        point_at_each, [(store_url, [1, 2, 3] * 3), (store_url, [3, 2, 1] * 3), (store_url, [2, 3, 1] * 3)]
    )
    assert all(isinstance(count, int) for count in moved), moved
    moves = registry.history("champion")
    assert len(moves) == sum(moved)
    assert_chain(moves)
    assert registry.alias("champion") == moves[-1]
