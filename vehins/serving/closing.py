"""Connections that end so that their clients can read what they were answered, and in a bounded time.

uvicorn closes a connection at once, which destroys an answer that crosses what its client still sends; and it waits for
ever for one that does not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from asyncio import TimerHandle
    from collections.abc import Iterable

    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Plain
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
else:
    Plain = object

_LINGER_SECONDS, _LONGEST_LINGER = 1.0, 5.0  # of silence, and of a client that goes on sending
_READ_SECONDS = 30.0  # in which a client reads something of what waits for it


class Closing(Plain):
    """A connection of the server, as far as its end is concerned."""

    read_seconds: float = _READ_SECONDS

    _is_ended = False  # nothing more is read
    _is_heard = False  # whether something came all the same
    _expectation: TimerHandle | None = None
    _together: Iterable[RequestResponseCycle] = ()  # requests of which one is being answered, and the others wait

    def connection_lost(self, exc: Exception | None) -> None:
        """Let no request wait for more, nor be answered."""
        self._drop_expectation()
        self._give_up()
        super().connection_lost(exc)

    def is_receiving(self) -> bool:
        """Whether the client may go on sending."""
        return self._is_ended

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        self.close()

    def close(self) -> None:
        """Close once the client has read what it was answered; who does not read is given up."""
        if not self.transport.is_closing():
            self.transport.close()
            self._expect_reading()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """It has read most of it."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._drop_expectation()

    def _expect_reading(self) -> None:
        """Give the client up once it has read nothing for a while; nothing is added to what waits for it meanwhile."""
        self._drop_expectation()
        left = self._left()
        if left:
            self._expectation = self.loop.call_later(self.read_seconds, self._look_at, left)

    def _look_at(self, before: int) -> None:
        if self._left() < before:
            self._expect_reading()
        else:
            self.transport.abort()

    def _drop_expectation(self) -> None:
        if self._expectation is not None:
            self._expectation.cancel()
            self._expectation = None

    def _left(self) -> int:
        """Bytes that the client has yet to read, but those that the system holds."""
        return self.transport.get_write_buffer_size() if self.parser is not None else 0

    def _join(self, before: RequestResponseCycle) -> None:
        """Note that the request that has just come waits for the one before it."""
        if len(self.pipeline) == 1:
            self._together = {before}
        self._together = WeakSet((*self._together, self.cycle))  # an answered one is nobody's any more

    def linger(self) -> None:
        """Close once the client has had a moment to read: a close amid what it sends could destroy the answer.

        See RFC 9112, section 9.6.
        """
        if self.transport.is_closing():
            return
        self._is_ended = True
        self.pipeline.clear()
        self._give_up()
        self.transport.write_eof()
        self.flow.resume_reading()
        self._linger_on(self.loop.time() + _LONGEST_LINGER, self._left())

    def _linger_on(self, until: float, left: int) -> None:
        self._is_heard = False
        self.loop.call_later(_LINGER_SECONDS, self._look_whether_silent, until, left)

    def _look_whether_silent(self, until: float, before: int) -> None:
        left, now = self._left(), self.loop.time()
        if left < before:
            until = now + _LONGEST_LINGER
        if (left or self._is_heard) and now < until and not self.transport.is_closing():
            self._linger_on(until, left)
        else:
            self.transport.abort()

    def _give_up(self) -> None:
        """Let every request know that nobody reads its answer."""
        for cycle in {*self._together, self.cycle} - {None}:
            cycle.disconnected = cycle.disconnected or not cycle.response_complete
            cycle.waiting_for_100_continue = False
            cycle.message_event.set()

    def _end_gently(self) -> None:
        gentle: Any = _Lingering(self)
        self.cycle.transport = gentle


class _Lingering:
    """The transport of an answer after which the client may have more to send."""

    def __init__(self, connection: Closing) -> None:
        self._connection = connection
        self._transport = connection.transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """Close, and take what still comes of the request until then."""
        if self._connection.is_receiving():
            self._connection.linger()
        else:
            self._connection.close()
