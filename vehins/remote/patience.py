"""Calls into drivers that can wait for ever, with an end: a limit in seconds, or Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
_LAST_CHANCE = 5.0  # seconds that a cancelled call has to come to its end


class TooSlow(Exception):  # noqa: N818
    """A call took longer than it may."""

    def __init__(self, *, ended: bool) -> None:
        super().__init__("too slow")
        self.ended = ended
        """Whether the call came to an end when it was cancelled; if not, its objects must not be touched."""


class _Answer(Generic[T]):
    """What a call came to."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.value: T | None = None
        self.error: BaseException | None = None
        try:
            self.value = call()
        except BaseException as error:  # handed over to the thread that waits
            self.error = error


def patiently(
    call: Callable[[], T], seconds: float, cancel: Callable[[], object], *, cancel_when_slow: bool = True
) -> T:
    """Make a call on another thread and wait for it; ``cancel`` is called when it takes too long, or on Ctrl-C.

    ``cancel_when_slow=False`` is for drivers whose cancelling waits for a server that hangs.

    Raises:
        TooSlow: it took longer than ``seconds``.
    """
    answers: SimpleQueue[_Answer[T]] = SimpleQueue()
    # A daemon: a call that never returns must not keep the program from ending.
    threading.Thread(target=lambda: answers.put(_Answer(call)), daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        raise TooSlow(ended=cancel_when_slow and _cancelled(answers, cancel)) from None
    except BaseException:
        _cancelled(answers, cancel)
        raise
    if answer.error is not None:
        raise answer.error
    return answer.value  # type: ignore[return-value]  # there is a value where there is no error


def _cancelled(answers: SimpleQueue[_Answer[T]], cancel: Callable[[], object]) -> bool:
    """Cancel a call and give it a little time; whether it ended."""

    def quietly() -> None:
        with suppress(Exception):
            cancel()

    # Cancelling speaks to the server too, and may hang just as well.
    threading.Thread(target=quietly, daemon=True).start()
    with suppress(Empty):
        answers.get(timeout=_LAST_CHANCE)
        return True
    return False
