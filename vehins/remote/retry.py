"""Trying again, with growing and random pauses, and only what may be repeated without harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from vehins.settings import RemoteSettings

T = TypeVar("T")
Faults = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
_FIRST_PAUSE, _LONGEST_PAUSE, _JITTER = 0.1, 5.0, 1.0  # seconds


def retried(call: Callable[[], T], settings: RemoteSettings, on: Faults) -> T:
    """Call until it succeeds, fails with an error that ``on`` does not name, or has used up `remote.attempts`.

    The pauses double and have a random part (exponential back-off with jitter). ``call`` must be safe to repeat: a
    read, or a write that comes to the same however often it is made. The last error is raised as it is.
    """
    import stamina

    # It logs each fault, which may quote a password; and what nobody listens to, Python prints on stderr.
    stamina.instrumentation.set_on_retry_hooks([])
    caller = stamina.RetryingCaller(
        attempts=settings.attempts,
        timeout=None,
        wait_initial=_FIRST_PAUSE,
        wait_max=_LONGEST_PAUSE,
        wait_jitter=_JITTER,
    )
    if isinstance(on, (type, tuple)):
        return caller(on, call)
    named = on  # a function is asked about Ctrl-C too, which nobody means
    return caller(lambda error: isinstance(error, Exception) and named(error), call)
