"""A rollback takes back the last move that still stands, and of several writers at once each knows how it went."""

import pytest
from registry_processes import publish, run_together
from registry_stores import Watched

from vehins.errors import ArtifactDamagedError, ConflictError, NotFoundError
from vehins.registry.registry import Registry
from vehins.registry.stores import open_store

CHAMPION = "models/car/aliases/champion.json"


@pytest.fixture
def watched(store):
    return Watched(store)


@pytest.fixture
def registry(watched, tmp_path):
    registry = Registry(watched, "car")
    for number in range(1, 6):
        publish(registry, tmp_path / f"b{number}", f"text {number}")
    watched.written.clear()
    return registry


def promote(registry, *numbers):
    for number in numbers:
        registry.point("champion", number, reason=f"promote {number}")


def roll_back(registry):
    """The version that a rollback leads to."""
    move, moved = registry.rollback("champion", reason="bad")
    assert moved
    assert move.reason == "bad"
    assert registry.alias("champion") == move
    return move.version


def test_twice_goes_back_by_two_moves_and_not_forth_again(registry):
    promote(registry, 1, 2, 3)
    assert [roll_back(registry), roll_back(registry)] == [2, 1]
    assert [move.undoes for move in registry.history("champion")] == [None, None, None, 3, 2]
    with pytest.raises(NotFoundError) as caught:
        registry.rollback("champion", reason="bad")
    assert "version 1, with no version before it" in caught.value.detail


def test_a_promotion_after_a_rollback_is_what_the_next_one_takes_back(registry):
    promote(registry, 1, 2, 3)
    assert roll_back(registry) == 2
    promote(registry, 4, 5)
    assert [roll_back(registry), roll_back(registry), roll_back(registry)] == [4, 2, 1]


def test_a_promotion_of_an_old_version_is_a_move_like_any_other(registry):
    promote(registry, 1, 2, 1)
    assert [roll_back(registry), roll_back(registry)] == [2, 1]


def test_where_nothing_was_moved_there_is_no_way_back(registry, watched):
    with pytest.raises(NotFoundError) as caught:
        registry.rollback("champion", reason="bad")
    assert caught.value.detail == "It points nowhere."
    promote(registry, 4)
    watched.written.clear()
    with pytest.raises(NotFoundError, match="no version to roll champion of car back to"):
        registry.rollback("champion", reason="bad")
    assert watched.written == []


def test_only_an_intact_version_is_gone_back_to(registry, store, watched):
    promote(registry, 1, 2)
    store.put("models/car/versions/1/bundle/model.txt", b"other")
    watched.written.clear()
    with pytest.raises(ArtifactDamagedError):
        registry.rollback("champion", reason="bad")
    assert watched.written == []
    assert registry.alias("champion").version == 2


def test_an_alias_restored_from_a_backup(registry, store):
    promote(registry, 1)
    backup = store.get(CHAMPION).data
    promote(registry, 2)
    store.put(CHAMPION, backup)
    promote(registry, 3)
    assert roll_back(registry) == 1
    with pytest.raises(NotFoundError):
        registry.rollback("champion", reason="bad")


def test_a_move_that_was_overtaken_says_by_whom(registry, watched, store):
    promote(registry, 1, 2)

    def overtake(key):
        if "aliases" in key:
            watched.before = lambda key: None
            Registry(store, "car").point("champion", 3, reason="theirs")

    for act in (
        lambda: registry.point("champion", 4, reason="mine", after=2),
        lambda: registry.rollback("champion", reason="mine"),
    ):
        watched.before = overtake
        with pytest.raises(ConflictError) as caught:
            act()
        assert caught.value.headline == "champion of car was moved to version 3 meanwhile"
        assert caught.value.detail.startswith("By ")
        assert caught.value.detail.endswith("UTC: theirs.")
        Registry(store, "car").rollback("champion", reason="again")
        watched.before = lambda key: None
        assert registry.alias("champion").version == 2


def test_after_a_move_that_is_not_the_last_nothing_is_moved(registry, watched):
    promote(registry, 1)
    watched.written.clear()
    for number in (0, 2):
        with pytest.raises(ConflictError):
            registry.point("champion", 2, reason="", after=number)
    with pytest.raises(ConflictError):
        registry.point("other", 2, reason="", after=1)
    assert watched.written == []
    registry.point("champion", 2, reason="", after=1)
    registry.point("other", 2, reason="", after=0)


def test_every_alias_is_listed(registry):
    assert registry.aliases() == {}
    promote(registry, 1, 2)
    registry.point("trial", 3, reason="")
    assert registry.aliases() == {"champion": 2, "trial": 3}


def roll_back_once(url):
    try:
        return Registry(open_store(url), "car").rollback("champion", reason="bad")[1]
    except ConflictError:
        return False


def test_rollbacks_at_once_take_back_a_move_each_or_none(registry, store_url):
    """Those who looked at the same moment take back one move together."""
    promote(registry, 1, 2, 3, 4, 5)
    moved = run_together(roll_back_once, [(store_url,)] * 4)
    moves = registry.history("champion")
    assert len(moves) == 5 + sum(moved)
    assert sum(moved) >= 1
    assert moves[-1].version == 5 - sum(moved)
    undone = [move.undoes for move in moves[5:]]
    assert undone == list(range(5, 5 - len(undone), -1))
