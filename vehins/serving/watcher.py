"""Keeps the model in service the one that the alias names.

A thread looks at the alias, which costs one small request as long as it has not moved. When it has, the version that
it points to is copied, opened on trial in a process of its own (see `trial`), loaded beside the model in service, and
takes its place between two requests. A version that fails its verification is not tried again until the alias moves or
its manifest changes; what may pass by itself (a registry that does not answer, a full disk) is tried again, ever more
rarely.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vehins.errors import (
    ArtifactDamagedError,
    BundleRefusedError,
    DataError,
    StorageError,
    UnreachableError,
    VehinsError,
)
from vehins.masking import redacted
from vehins.registry import copies
from vehins.registry.registry import Registry
from vehins.registry.stores import open_store
from vehins.serving import kept, trial
from vehins.serving.predictor import Predictor, copied, opened
from vehins.serving.status import Check, Source, SwapOutcome, in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vehins.registry.registry import AliasMove, ModelVersion
    from vehins.serving.holder import Holder, Ready
    from vehins.serving.observer import Observer
    from vehins.settings import Settings

_SHORTEST, _SHORT, _LONGEST = 0.5, 5.0, 60.0  # seconds until the second try (without a model, with one), and the last
_MENDED = 600.0  # seconds after which an object that arrived damaged may have been restored
_JITTER = 0.1
_log = logging.getLogger(__name__)


class Watcher:
    """The thread that looks after a holder's model.

    Raises:
        ConfigurationError: the registry has an address that cannot be.
    """

    def __init__(self, settings: Settings, holder: Holder, observers: Sequence[Observer] = ()) -> None:
        self._settings, self._holder, self._observers = settings, holder, observers
        store = open_store(settings.registry_url, settings.s3, settings.remote)
        self._registry = Registry(store, settings.model_name)
        self._threads = max(1, settings.thread_count // settings.serve.workers)
        self._place = kept.Place.of(settings, store.url)
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._stop = threading.Event()
        self._seat = threading.Lock()  # whoever puts a model into service has it
        self._ink = threading.Lock()  # whoever writes the status
        self._opening = threading.Lock()  # whoever is in native code
        self.looked = threading.Event()
        """Set when the first look has come to an end."""
        self.found = threading.Event()
        """Set when the registry has told of a version; it may still have to be copied and verified."""
        self.fault: Exception | None = None
        """What the first look failed with."""
        self._etag: str | None = None
        self._move: AliasMove | None = None
        self._settled = False
        """Whether there is nothing to do until the alias moves."""
        self._refused: ModelVersion | None = None
        self._again = 0.0
        """When to try once more what failed."""
        self._failures = 0
        """Tries in a row that have failed to let the version answer."""
        self._misses = 0
        """Looks in a row that have told nothing."""
        self._replaced: Ready | None = None
        holder.pinned = settings.serve.version is not None

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; does not wait for a registry that hangs."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(0.5)
        # A process must not end in the middle of native code; from here on, nothing is opened.
        self._opening.acquire(timeout=_LONGEST)

    def stand_in(self) -> bool:
        """Let the version that answered last answer again, from its copy, and tell whether it does.

        For a start at which the registry does not give a model; where it has, nothing is done.
        """
        found = kept.find(self._place)
        if found is None:
            return False
        started = time.monotonic()
        predictor = kept.restored(found, self._place, self._threads, self._stop.is_set)
        if predictor is None:
            return False
        with self._seat:
            if self._holder.ready is None:
                _log.warning(
                    "Version %s answers from the cache, verified last at %s",
                    predictor.version,
                    f"{found.verified_at:%Y-%m-%d %H:%M:%S} UTC",
                )
                self._seated(predictor, "cache", started)
        return True

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            fault = self._look()
            if not self.looked.is_set():
                self.fault = fault
                self.looked.set()
            if self._settled and self._holder.pinned:
                return
            self._stop.wait(self._pause())
            self._replaced = None

    def _look(self) -> Exception | None:
        """Find out what should answer, and see to it that it does; what went wrong is returned."""
        number = self._settings.serve.version
        if number is not None:
            return self._follow(lambda: self._registry.version(number)) if self._is_due() else None
        try:
            self._look_at_alias()
        except Exception as error:
            self._unanswered(error)
            return error
        move = self._move
        if move is None:
            self._unnamed()
            return None
        self._checked(None)
        return self._follow(lambda: self._registry.target(move)) if self._is_due() else None

    def _look_at_alias(self) -> None:
        look = self._registry.look(self._settings.alias, self._etag)
        if look is None:
            return
        self._move, self._etag = look
        self._settled, self._refused, self._again, self._failures = False, None, 0.0, 0

    def _is_due(self) -> bool:
        # Of a version that was refused the manifest is looked at, each time: it may have been mended.
        return not self._settled and (self._refused is not None or time.monotonic() >= self._again)

    def _follow(self, target: Callable[[], ModelVersion]) -> Exception | None:
        """Let the version that should answer do so; what kept it from that is returned."""
        started = time.monotonic()
        version: ModelVersion | None = None
        try:
            version = target()
            self.found.set()
            if version == self._refused and time.monotonic() < self._again:
                return None
            self._let_answer(version, started)
        except Exception as error:
            if version is None and self._refused is not None:  # it was only to be seen whether that one was mended
                self._unanswered(error)
            elif not self._stop.is_set():
                self._not_swapped(version, error, started)
            return error
        self._settled, self._refused, self._failures = True, None, 0
        self._checked(None)
        return None

    def _let_answer(self, version: ModelVersion, started: float) -> None:
        if self._answers(version):
            self._update(source="registry")
        else:
            predictor = self._verified(version, self._folder(version))
            with self._seat:
                self._seated(predictor, "registry", started)
        kept.keep(self._place, version)

    def _answers(self, version: ModelVersion) -> bool:
        ready = self._holder.ready
        return ready is not None and (ready.predictor.version, ready.predictor.bundle.digest) == (
            version.version,
            version.bundle,
        )

    def _folder(self, version: ModelVersion) -> Path:
        folder = copied(self._registry, version, self._settings.workspace)
        kept.touch(folder)
        return folder

    def _verified(self, version: ModelVersion, folder: Path) -> Predictor:
        try:
            return self._opened(version, folder)
        except BundleRefusedError:
            if copies.intact(folder, version.files):
                raise
        # Somebody has tidied up, or the disk has lost something: that is no fault of the version.
        return self._opened(version, self._folder(version))

    def _opened(self, version: ModelVersion, folder: Path) -> Predictor:
        trial.run(folder, self._stop.is_set)
        with self._opening:
            return opened(version, folder, self._threads)

    def _seated(self, predictor: Predictor, source: Source, started: float) -> None:
        """Put a model into service, and tell of it."""
        ready = self._holder.prepared(predictor)
        # Held for one more look: so it is freed on this thread, and not in the middle of a request.
        self._replaced = old = self._holder.take(ready)
        now = datetime.now(UTC)
        self._update(source=source, since=now, swaps=self._holder.status.swaps + 1)
        previous = old.predictor.version if old is not None else None
        seconds = time.monotonic() - started
        before = "none" if previous is None else f"version {previous}"
        _log.info("Version %s answers now (before: %s), after %.1f s", predictor.version, before, seconds)
        self._tell(SwapOutcome(predictor.version, previous, None, source, now, seconds))

    # --- what goes wrong ----------------------------------------------------------------------------------------------

    def _unanswered(self, error: Exception) -> None:
        """A look at the alias has told nothing."""
        self._misses += 1
        words = in_words(error)
        before = self._holder.status.check
        if not self._stop.is_set() and (before is None or before.fault != words):  # said once, not with each try
            _log.warning("No word from the registry: %s", _said(error), exc_info=_bug(error))
        self._checked(words)

    def _unnamed(self) -> None:
        """The alias names no version: nobody has promoted one yet, or the alias or the whole registry has gone."""
        ready, before = self._holder.ready, self._holder.status.check
        none = f"No version of {self._settings.model_name} is in {self._settings.alias}"
        if ready is None:
            words, effect = f"{none} yet.", "Nothing is predicted until one is"
        else:
            words, effect = f"{none}.", f"Version {ready.predictor.version} stays in service"
        if before is None or before.fault != words:
            _log.warning("%s %s", words, effect)
        self._misses = 0  # it has answered
        self._checked(words)

    def _not_swapped(self, version: ModelVersion | None, error: Exception, started: float) -> None:
        """Remember what failed, when to try it again, and tell of it."""
        self._failures += 1
        self._again = time.monotonic() + self._back_off(self._failures)
        if version is not None and isinstance(error, DataError):
            self._refused = version
            self._again = time.monotonic() + _MENDED if isinstance(error, ArtifactDamagedError) else math.inf
        ready, words = self._holder.ready, in_words(error)
        previous = ready.predictor.version if ready is not None else None
        number = version.version if version is not None else self._wanted()
        now, seconds = datetime.now(UTC), time.monotonic() - started
        outcome = SwapOutcome(number, previous, words, "registry", now, seconds)
        self._update(failure=outcome, failed=self._holder.status.failed + 1, why=f"Version {number}: {words}")
        if isinstance(error, UnreachableError) and not isinstance(error, StorageError):
            self._checked(words)
        stays = "none answers" if previous is None else f"version {previous} stays in service"
        _log.error("Version %s cannot take over, %s: %s", number, stays, _said(error), exc_info=_bug(error))
        self._tell(outcome)

    def _wanted(self) -> int | None:
        return self._move.version if self._move is not None else self._settings.serve.version

    # --- what is known ------------------------------------------------------------------------------------------------

    def _checked(self, fault: str | None) -> None:
        before = self._holder.status.check
        if fault is None and before is not None and before.fault is not None:
            _log.info("The registry names a version to serve")
        self._misses = self._misses if fault else 0
        self._update(check=Check(datetime.now(UTC), fault), **({"why": fault} if fault else {}))

    def _update(self, **changes: Any) -> None:
        with self._ink:
            self._holder.status = replace(self._holder.status, **changes)

    def _tell(self, outcome: SwapOutcome) -> None:
        for observer in self._observers:
            observer.swapped(outcome)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _back_off(self, failures: int) -> float:
        """Seconds until the next try: doubled with each failure in a row; quick at first while nothing answers."""
        first = min(self._settings.serve.poll_seconds, _SHORT if self._holder.ready is not None else _SHORTEST)
        return float(min(first * 2 ** min(failures - 1, 16), _LONGEST))

    def _pause(self) -> float:
        """Seconds until the next look, a little more or less, so that many services do not ask at the same moment."""
        seconds = self._back_off(self._misses) if self._misses else self._settings.serve.poll_seconds
        if not self._settled and not self._misses and self._again:
            seconds = min(seconds, max(self._again - time.monotonic(), _SHORTEST))
        return seconds * (1 + _JITTER * (2 * secrets.randbelow(1001) / 1000 - 1))


def _bug(error: Exception) -> Exception | None:
    """The error, when its stack is worth a look."""
    return None if isinstance(error, VehinsError) else error


def _said(error: Exception) -> str:
    """An error as one line of a log."""
    if not isinstance(error, VehinsError):
        return redacted(f"{type(error).__name__}: {error}")
    return " ".join(filter(None, (f"{error.headline}.", error.detail)))
