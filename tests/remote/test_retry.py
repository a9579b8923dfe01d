"""What is tried again, how often, and after which pauses."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
import stamina

from vehins.remote import retry
from vehins.remote.retry import retried
from vehins.settings import RemoteSettings

if TYPE_CHECKING:
    from collections.abc import Iterator


class Flaky:
    """Fails as often as it is told, then answers."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self.times, self.error, self.calls = times, error or ConnectionError("cut"), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "answer"


@pytest.fixture
def without_pauses() -> Iterator[None]:
    """Stamina's own mode for tests; the attempts stay those that were asked for."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.mark.parametrize("times", [0, 1, 4])
@pytest.mark.usefixtures("without_pauses")
def test_it_is_tried_until_it_succeeds(times: int) -> None:
    call = Flaky(times)
    assert retried(call, RemoteSettings(attempts=5), ConnectionError) == "answer"
    assert call.calls == times + 1


@pytest.mark.parametrize("attempts", [1, 2, 5])
@pytest.mark.usefixtures("without_pauses")
def test_not_more_often_than_the_settings_say(attempts: int) -> None:
    call = Flaky(100)
    with pytest.raises(ConnectionError) as caught:
        retried(call, RemoteSettings(attempts=attempts), ConnectionError)
    assert caught.value is call.error, "the last error as it is"
    assert call.calls == attempts


@pytest.mark.parametrize(
    ("on", "calls"),
    [
        (ConnectionError, 5),
        (OSError, 5),
        ((ValueError, ConnectionError), 5),
        (ValueError, 1),
        ((), 1),
        (lambda error: "cut" in str(error), 5),
        (lambda error: "other" in str(error), 1),
    ],
)
@pytest.mark.usefixtures("without_pauses")
def test_only_faults_that_are_named(on: retry.Faults, calls: int) -> None:
    call = Flaky(100)
    with pytest.raises(ConnectionError):
        retried(call, RemoteSettings(attempts=5), on)
    assert call.calls == calls


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@pytest.mark.usefixtures("without_pauses")
def test_a_wish_to_stop_is_never_tried_again(stop: type[BaseException]) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise stop

    with pytest.raises(stop):
        retried(call, RemoteSettings(), lambda _: True)
    assert calls == [1]


def slept(monkeypatch: pytest.MonkeyPatch, attempts: int) -> list[float]:
    """The pauses that it really makes, without making them."""
    pauses: list[float] = []
    plain, here = time.sleep, threading.get_ident()
    # Threads of others sleep as they do.
    monkeypatch.setattr("time.sleep", lambda s: pauses.append(s) if threading.get_ident() == here else plain(s))
    with pytest.raises(ConnectionError):
        retried(Flaky(100), RemoteSettings(attempts=attempts), ConnectionError)
    return pauses


def test_pauses_grow_are_bounded_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = [slept(monkeypatch, 12) for _ in range(20)]
    assert {len(some) for some in pauses} == {11}
    for number in range(11):
        least = min(retry._FIRST_PAUSE * 2**number, retry._LONGEST_PAUSE)
        ours = [some[number] for some in pauses]
        assert all(least <= pause <= min(least + retry._JITTER, retry._LONGEST_PAUSE) for pause in ours)
        assert least == retry._LONGEST_PAUSE or len({round(pause, 6) for pause in ours}) > 10, "no two alike"


def test_it_says_nothing(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing below the terminal prints, and a fault may quote an address."""
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(retry, "_JITTER", 0.001)
    assert retried(Flaky(2), RemoteSettings(), ConnectionError) == "answer"
    assert capfd.readouterr() == ("", "")
