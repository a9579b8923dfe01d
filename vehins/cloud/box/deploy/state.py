"""What the box remembers: the state file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vehins.cloud.box.deploy.errors import now, say
from vehins.cloud.box.deploy.settings import SLOTS


@dataclass(frozen=True)
class Deployment:
    """A container that serves, or is to."""

    id: str
    image: str
    image_id: str
    version: str
    slot: str
    container: str
    model_version: int | None = None
    since: str | None = None

    @classmethod
    def of(cls, kept: dict[str, Any] | None) -> Deployment | None:
        """The one that was kept; raises ValueError, TypeError or AttributeError for what is none."""
        found = cls(**kept) if kept else None
        if found and found.slot not in SLOTS:
            raise ValueError(f"no slot is called {found.slot}")
        return found


class State:
    """The state file. It is replaced as a whole: a reader sees it as it was or as it is."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.json"
        self.lost: str | None = None
        """Why the file tells nothing: it is not there, as on a new box, or it is damaged."""
        try:
            self._take(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            self.lost = f"{self._path} is not there"
        except (ValueError, TypeError, AttributeError) as error:
            self.lost = f"{self._path} does not hold a state ({error})"
        if self.lost:
            self._take({})

    def _take(self, kept: dict[str, Any]) -> None:
        self.current = Deployment.of(kept.get("current"))
        self.previous = Deployment.of(kept.get("previous"))
        self.pending: dict[str, Any] | None = dict(kept.get("pending") or {}) or None
        self.last: dict[str, Any] | None = dict(kept.get("last") or {}) or None
        self.images: list[str] = [str(image) for image in kept.get("images", [])]
        """Ids of images to remove once no deployment here has them: fetched, or replaced."""

    def as_dict(self) -> dict[str, Any]:
        """What the file holds."""
        current, previous = (asdict(it) if it else None for it in (self.current, self.previous))
        return {"current": current, "previous": previous, "pending": self.pending, "last": self.last}

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Save what the block changes; where that fails (a full disk), all is as it was before the block."""
        before = dict(vars(self))
        try:
            yield
            self.save()
        except OSError:
            vars(self).update(before)
            raise

    def begin(self, action: str, image: str, version: str) -> None:
        """Note what is under way."""
        with self.changing():
            self.pending = {"action": action, "image": image, "version": version, "began": now()}

    def end(self, outcome: str, reason: str | None = None) -> None:
        """Note how it ended."""
        with self.changing():
            self._ended(outcome, reason)

    def commit(self, fresh: Deployment) -> None:
        """Note that this one serves from here on, and the one before it is what to go back to."""
        with self.changing():
            before = self.before(fresh)
            if self.previous and before != self.previous:
                self.images = [*self.images, self.previous.image_id]
            self.current, self.previous = fresh, before
            self._ended("done", None)

    def before(self, fresh: Deployment) -> Deployment | None:
        """What to go back to once this one serves; the same again is none, else rollback would lead nowhere."""
        old = self.current
        differs = old and (old.image_id, old.version) != (fresh.image_id, fresh.version)
        return old if differs else self.previous

    def found(self, current: Deployment, previous: Deployment | None) -> None:
        """Note what serves as it turned out: the file did not tell, or what it told does not answer."""
        with self.changing():
            self.current, self.previous = current, previous

    def renew(self) -> None:
        """Write a file again where it was lost; what is there and damaged is put aside."""
        with self.changing():
            if self._path.exists():
                self._path.replace(self._path.with_suffix(".damaged"))
                say(f"{self.lost}: it is state.damaged from now on")
            self.lost = None

    def fetched(self, image_id: str) -> None:
        """Note that an image came here for a deployment."""
        with self.changing():
            self.images = [*self.images, image_id]

    def unused(self) -> list[str]:
        """The images to remove that no deployment here has."""
        kept = {it.image_id for it in (self.current, self.previous) if it}
        return [image for image in dict.fromkeys(self.images) if image not in kept]

    def removed(self, images: list[str]) -> None:
        """Note that these are gone."""
        with self.changing():
            self.images = [image for image in dict.fromkeys(self.images) if image not in images]

    def _ended(self, outcome: str, reason: str | None) -> None:
        self.last = {**(self.pending or {}), "outcome": outcome, "reason": reason, "ended": now()}
        self.pending = None

    def save(self) -> None:
        """Write it, to the disk."""
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump({**self.as_dict(), "images": self.images}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
