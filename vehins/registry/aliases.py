"""Where the aliases of a model point, and every move that they have made."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from vehins.errors import ConflictError, NotFoundError, UnreachableError
from vehins.registry.objects import conflict, pause, put_once
from vehins.registry.records import AliasMove, actor, check_name, damaged, dump, new_token, parse

if TYPE_CHECKING:
    from vehins.registry.objects import ObjectStore

_TRIES = 40
_ENTRY = re.compile(r"([0-9]{8})\.json")


class Look(NamedTuple):
    """Where an alias points, and the tag that its object has as long as it does."""

    move: AliasMove | None
    etag: str | None


class Aliases:
    """The aliases of one model.

    An alias is one object, replaced by compare-and-swap. The history entry of a move is written after the move, by its
    writer or, should that one have been killed in between, by the writer of the next move before it moves. So the
    entries are written in order, and only that of the last move can be missing.
    """

    def __init__(self, store: ObjectStore, model: str) -> None:
        self._store = store
        self._model = model

    def current(self, alias: str) -> AliasMove | None:
        """The last move of an alias; None when it points nowhere."""
        return self._read(alias)[0]

    def look(self, alias: str, etag: str | None) -> Look | None:
        """Where an alias points, unless its object still has the ``etag`` of an earlier look: then None."""
        if etag is None:
            return Look(*self._read(alias))
        key = self._key(alias)
        try:
            stored = self._store.get_if_changed(key, etag)
        except NotFoundError:
            return Look(None, None)
        return None if stored is None else Look(self._parse(alias, stored.data), stored.etag)

    def history(self, alias: str) -> list[AliasMove]:
        """Every move of an alias, oldest first, without a gap up to the moment of the call."""
        current = self.current(alias)
        # A listing is no snapshot: while it runs, it may see an entry and miss the one before, which was written just
        # ahead of it. A second listing has that one too.
        top = max(self._sequences(alias), default=0)
        moves = {number: self._entry(alias, number) for number in self._sequences(alias) if number <= top}
        if current is not None:
            moves.setdefault(current.sequence, current)
        return [moves[number] for number in sorted(moves)]

    def names(self) -> list[str]:
        """The aliases that there are, in alphabetical order."""
        prefix = f"models/{self._model}/aliases/"
        keys = (key.removeprefix(prefix) for key in self._store.keys(prefix))
        return sorted(key.removesuffix(".json") for key in keys if key.endswith(".json"))

    def move(
        self,
        alias: str,
        version: int,
        *,
        reason: str,
        instead_of: frozenset[int | None] | None = None,
        after: int | None = None,
        undoes: int | None = None,
    ) -> tuple[AliasMove, bool]:
        """Let an alias point to a version, and tell whether that moved it; when it points there, nothing is written.

        With ``instead_of``, only when it points to one of those versions (None: nowhere yet); with ``after``, only when
        its last move is the one of that number (0: there is none yet). Raises `ConflictError` when that is not so, and
        when other writers keep moving it.
        """
        for attempt in range(_TRIES):
            current, etag = self._read(alias)
            if current is not None and current.version == version:
                return current, False
            if instead_of is not None and (current.version if current else None) not in instead_of:
                raise conflict(self._store, self._key(alias))
            if after is not None and (current.sequence if current else 0) != after:
                raise self._overtaken(alias, current)
            if current is not None:
                self._record(current)
            move = self._next(alias, version, current, reason).model_copy(update={"undoes": undoes})
            if self._swap(move, etag):
                self._record(move)
                return move, True
            pause(attempt)
        raise conflict(self._store, self._key(alias))

    def _key(self, alias: str) -> str:
        return f"models/{self._model}/aliases/{check_name('an alias', alias)}.json"

    def _prefix(self, alias: str) -> str:
        return f"models/{self._model}/history/{check_name('an alias', alias)}/"

    def _entry_key(self, alias: str, sequence: int) -> str:
        return f"{self._prefix(alias)}{sequence:08}.json"

    def _read(self, alias: str) -> tuple[AliasMove | None, str | None]:
        key = self._key(alias)
        try:
            stored = self._store.get(key)
        except NotFoundError:
            return None, None
        return self._parse(alias, stored.data), stored.etag

    def _parse(self, alias: str, data: bytes) -> AliasMove:
        key = self._key(alias)
        move = parse(AliasMove, data, key, self._store.url)
        if move.alias != alias:
            raise damaged(AliasMove, key, self._store.url, f"It describes the alias {move.alias}")
        return move

    def _entry(self, alias: str, sequence: int) -> AliasMove:
        key = self._entry_key(alias, sequence)
        return self._parse_entry(self._store.get(key).data, key, alias, sequence)

    def _parse_entry(self, data: bytes, key: str, alias: str, sequence: int) -> AliasMove:
        move = parse(AliasMove, data, key, self._store.url)
        if (move.alias, move.sequence) != (alias, sequence):
            what = f"It describes move {move.sequence} of the alias {move.alias}"
            raise damaged(AliasMove, key, self._store.url, what)
        return move

    def _sequences(self, alias: str) -> list[int]:
        """The numbers of the moves that are in the history."""
        prefix = self._prefix(alias)
        entries = (_ENTRY.fullmatch(key.removeprefix(prefix)) for key in self._store.keys(prefix))
        return [int(entry[1]) for entry in entries if entry]

    def _next(self, alias: str, version: int, current: AliasMove | None, reason: str) -> AliasMove:
        # An alias that was deleted by hand, or restored from a backup, goes on where its history ends.
        last = max([*self._sequences(alias), current.sequence if current else 0])
        return AliasMove(
            alias=alias,
            version=version,
            previous=current.version if current else None,
            sequence=last + 1,
            at=datetime.now(UTC),
            actor=actor(),
            reason=reason,
            token=new_token(),
        )

    def _overtaken(self, alias: str, current: AliasMove | None) -> ConflictError:
        """The error for a move that was decided on before somebody else made another."""
        if current is None:
            return conflict(self._store, self._key(alias))
        return ConflictError(
            f"{alias} of {self._model} was moved to version {current.version} meanwhile",
            detail=f"By {current.actor} at {current.at:%Y-%m-%d %H:%M:%S} UTC: {current.reason}.",
            hint="Look (`vehins models history`), and decide again: this command has changed nothing.",
        )

    def _swap(self, move: AliasMove, etag: str | None) -> bool:
        """Write a move over the one that was read; False when somebody else was first."""
        try:
            self._store.put(self._key(move.alias), dump(move), if_absent=etag is None, if_match=etag)
        except UnreachableError as error:
            if self._has_landed(move, error):
                return True
            if isinstance(error, ConflictError):
                return False
            raise
        return True

    def _has_landed(self, move: AliasMove, error: UnreachableError) -> bool:
        """Whether a move was made although its write failed with ``error``: the reply may have been lost on its way."""
        try:
            current = self.current(move.alias)
            if current is not None and current.token == move.token:
                return True
            # Somebody may have moved on from ours; whoever does so puts ours into the history first.
            return self._entry(move.alias, move.sequence).token == move.token
        except NotFoundError:
            return False
        except UnreachableError:
            raise error from None

    def _record(self, move: AliasMove) -> None:
        """Put a move into the history, unless it is there."""
        key = self._entry_key(move.alias, move.sequence)
        standing = put_once(self._store, key, dump(move))
        if self._parse_entry(standing, key, move.alias, move.sequence).token != move.token:
            raise damaged(AliasMove, key, self._store.url, "It tells of another move than the one that was made")
