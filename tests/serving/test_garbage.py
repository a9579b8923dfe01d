"""The garbage collector rests while a service starts, and only then."""

from __future__ import annotations

import gc

from vehins.serving import garbage


def test_nothing_is_collected_until_the_service_is_ready() -> None:
    with garbage.at_rest():
        assert not gc.isenabled()
        garbage.resume()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_a_start_that_fails_leaves_the_collector_at_work() -> None:
    try:
        with garbage.at_rest():
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert gc.isenabled()


def test_who_has_not_let_it_rest_keeps_it_as_it_is() -> None:
    garbage.resume()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
