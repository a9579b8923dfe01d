"""What a container tells of itself: by its labels, for the day on which the state file does not tell."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from vehins.cloud.box.deploy.state import Deployment

SLOT = "vehins.slot"
_IMAGE, _PREVIOUS = "vehins.image", "vehins.previous"
KEPT = "unless-stopped"  # the restart policy of what serves; a container gets it when HAProxy sends it requests


def options(it: Deployment, previous: Deployment | None) -> list[str]:
    """For `docker create`: its slot, the image as it was asked for, and what to go back to once it serves."""
    told = {SLOT: it.slot, _IMAGE: it.image, _PREVIOUS: json.dumps(asdict(previous) if previous else None)}
    return [word for name, text in told.items() for word in ("--label", f"{name}={text}")]


def is_kept(container: dict[str, Any]) -> bool:
    """Whether Docker starts it again when it has ended: so it serves, or is about to be replaced."""
    return bool(container["HostConfig"]["RestartPolicy"]["Name"] == KEPT)


def told_by(container: dict[str, Any]) -> tuple[Deployment, Deployment | None]:
    """The deployment that a container is of, by what `docker container inspect` says; and what to go back to."""
    name, config, previous = container["Name"].removeprefix("/"), container["Config"], None
    labels, pinned = config["Labels"], "VEHINS_SERVE_VERSION="
    versions = [line.removeprefix(pinned) for line in config["Env"] or [] if line.startswith(pinned)]
    image_id, since = container["Image"], f"{container['Created'][:19]}+00:00"
    found = Deployment(
        id=name.rpartition("-")[2],
        image=labels.get(_IMAGE, image_id),
        image_id=image_id,
        version=versions[0] if versions else "production",
        slot=labels[SLOT],
        container=name,
        since=since,
    )
    with suppress(ValueError, TypeError, AttributeError):
        previous = Deployment.of(json.loads(labels.get(_PREVIOUS, "null")))
    return found, previous
