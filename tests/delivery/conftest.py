"""The daemon's fixture, for the tests of what is delivered."""

from __future__ import annotations

from docker_daemon import docker

__all__ = ["docker"]
