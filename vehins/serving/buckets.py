"""Token buckets: how often each of many clients may do something."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_CLIENTS = 10_000


class Buckets:
    """A bucket for each client: it holds ``burst`` tokens and gets ``rate`` new ones a second.

    What is kept of a client is one number: the time at which its bucket will be full again (the generic cell rate
    algorithm). Those who were heard of least recently are forgotten when there are too many; most of them have a full
    bucket, which is what a stranger has.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / rate
        self._slack = (max(burst, 1.0) - 1) * self._interval
        self._clock = clock
        self._full: dict[str, float] = {}

    def wait(self, client: str) -> float:
        """Seconds until a client has a token; 0 when it has one."""
        full = self._full.get(client)
        return 0.0 if full is None else max(0.0, full - self._clock() - self._slack)

    def take(self, client: str) -> float:
        """Take a token, and return 0; when there is none, the seconds until there is one."""
        now = self._clock()
        full = max(self._full.pop(client, now), now)  # and back at the end: the order is that of the last use
        wait = full - now - self._slack
        self._full[client] = full + self._interval if wait <= 0 else full
        if len(self._full) > _CLIENTS:
            del self._full[next(iter(self._full))]
        return max(wait, 0.0)
