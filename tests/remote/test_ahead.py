"""An iterator that works ahead: the same items in the same order, its errors, and an end when nobody reads on."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from vehins.remote.ahead import ahead

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize("count", [1, 3])
def test_items_come_in_order(count: int) -> None:
    assert list(ahead(iter(range(50)), count)) == list(range(50))
    assert list(ahead(iter(()), count)) == []


def test_it_works_while_its_reader_does_something_else() -> None:
    begun = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    with closing(ahead(items())) as found:
        assert next(found) == 0
        assert begun[1].wait(30), "the second is made although nobody has asked for it"


def test_it_is_not_further_ahead_than_it_may_be() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    with closing(ahead(items(), 2)) as found:
        for number in found:
            assert made[-1] <= number + 4
            if number == 50:
                break


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_an_error_comes_after_what_came_before_it(error: BaseException) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise error

    seen = []
    with pytest.raises(type(error)):
        seen.extend(ahead(items()))
    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(type(error)):
        next(found)


def test_a_reader_that_goes_away_ends_it() -> None:
    ended = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            ended.set()

    with closing(ahead(items())) as found:
        next(found)
    assert ended.wait(30)
