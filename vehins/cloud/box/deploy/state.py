"""What the box remembers: the state file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vehins.cloud.box.deploy.errors import FailureError, now


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


class State:
    """The state file. It is replaced as a whole: a reader sees it as it was or as it is."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.json"
        try:
            kept = json.loads(self._path.read_bytes()) if self._path.exists() else {}
            self.current = self._deployment(kept.get("current"))
            self.previous = self._deployment(kept.get("previous"))
        except (ValueError, TypeError, AttributeError) as error:
            text = f"{self._path} does not hold a state ({error}): move it away, and the next deployment begins afresh."
            raise FailureError(text, 3) from None
        self.pending: dict[str, Any] | None = kept.get("pending")
        self.last: dict[str, Any] | None = kept.get("last")
        self.images: list[str] = kept.get("images", [])
        """Ids of images to remove once no deployment here has them: fetched, or replaced."""

    @staticmethod
    def _deployment(kept: dict[str, Any] | None) -> Deployment | None:
        return Deployment(**kept) if kept else None

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
            old, before = self.current, self.previous
            if old and (old.image_id, old.version) != (fresh.image_id, fresh.version):  # else rollback leads nowhere
                self.images = [*self.images, *([before.image_id] if before else [])]
                self.previous = old
            self.current = fresh
            self._ended("done", None)

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
