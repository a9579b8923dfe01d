"""What the box remembers: the state file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vehins.cloud.box.deploy.errors import now


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
        kept = json.loads(self._path.read_bytes()) if self._path.exists() else {}
        self.current = self._deployment(kept.get("current"))
        self.previous = self._deployment(kept.get("previous"))
        self.pending: dict[str, Any] | None = kept.get("pending")
        self.last: dict[str, Any] | None = kept.get("last")

    @staticmethod
    def _deployment(kept: dict[str, Any] | None) -> Deployment | None:
        return Deployment(**kept) if kept else None

    def as_dict(self) -> dict[str, Any]:
        """What the file holds."""
        current, previous = (asdict(it) if it else None for it in (self.current, self.previous))
        return {"current": current, "previous": previous, "pending": self.pending, "last": self.last}

    def begin(self, action: str, image: str, version: str) -> None:
        """Note what is under way."""
        self.pending = {"action": action, "image": image, "version": version, "began": now()}
        self.save()

    def end(self, outcome: str, reason: str | None = None) -> None:
        """Note how it ended."""
        self.last = {**(self.pending or {}), "outcome": outcome, "reason": reason, "ended": now()}
        self.pending = None
        self.save()

    def save(self) -> None:
        """Write it, to the disk."""
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(self.as_dict(), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
