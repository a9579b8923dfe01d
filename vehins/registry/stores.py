"""From the address of a registry to its object store; every kind of store has a line here and a file of its own."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from vehins.errors import ConfigurationError
from vehins.registry.folder import FolderStore
from vehins.registry.objects import ObjectStore

SUPPORTED = "This version of vehins keeps its registry in a folder: `--registry PATH`, or file:///absolute/path."
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: C: is a drive of Windows


def open_store(url: str) -> ObjectStore:
    """Open the store at ``url``: a path or ``file://`` for a folder.

    Nothing is read or made yet. Raises `ConfigurationError` when the kind of store is not one that vehins knows.
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        return FolderStore(_local_path(url, url))
    if scheme[1].lower() != "file":
        raise ConfigurationError("The registry is at an address of an unknown kind", detail=_safe(url), hint=SUPPORTED)
    host, _, path = url[len("file:") :].removeprefix("//").partition("/")
    if host not in ("", "localhost") or not path:
        raise ConfigurationError("A file:// address needs an absolute path", detail=_safe(url), hint=SUPPORTED)
    drive = os.name == "nt" and path[1:2] == ":"
    return FolderStore(_local_path(unquote(path if drive else f"/{path}"), url))


def _local_path(path: str, url: str) -> Path:
    if not path.strip() or "\0" in path:
        raise ConfigurationError("The registry has no address", detail=f"It reads {url!r}.", hint=SUPPORTED)
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(
            "The registry is in a home folder that is unknown", detail=url, hint=SUPPORTED
        ) from error


def _safe(url: str) -> str:
    """Leave out what may be a password: all between the scheme and the host, and after a question mark."""
    scheme, slashes, rest = re.split("(:/*)", url.partition("?")[0], maxsplit=1)
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"
