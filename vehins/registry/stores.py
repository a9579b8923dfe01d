"""From the address of a registry to its object store; every kind of store has a line here and a file of its own."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from vehins.errors import ConfigurationError
from vehins.registry.folder import FolderStore
from vehins.registry.s3 import S3Store

if TYPE_CHECKING:
    from vehins.registry.objects import ObjectStore
    from vehins.settings import RemoteSettings, S3Settings

SUPPORTED = "A registry is a folder (`--registry PATH`, or file:///absolute/path) or `--registry s3://BUCKET/PREFIX`."
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: C: is a drive of Windows
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def open_store(url: str, s3: S3Settings, remote: RemoteSettings) -> ObjectStore:
    """Open the store at ``url``: a path or ``file://`` for a folder, or ``s3://``.

    Nothing is read or made yet. Raises `ConfigurationError` when the kind of store is not one that vehins knows.
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        return FolderStore(_local_path(url, url))
    if scheme[1].lower() == "file":
        return FolderStore(_file_path(url))
    if scheme[1].lower() == "s3":
        return S3Store(*_bucket_and_prefix(url), s3, remote)
    raise ConfigurationError("The registry is at an address of an unknown kind", detail=_safe(url), hint=SUPPORTED)


def _file_path(url: str) -> Path:
    host, _, path = url[len("file:") :].removeprefix("//").partition("/")
    if host not in ("", "localhost") or not path:
        raise ConfigurationError("A file:// address needs an absolute path", detail=_safe(url), hint=SUPPORTED)
    drive = os.name == "nt" and path[1:2] == ":"
    return _local_path(unquote(path if drive else f"/{path}"), url)


def _local_path(path: str, url: str) -> Path:
    if not path.strip() or "\0" in path:
        raise ConfigurationError("The registry has no address", detail=f"It reads {url!r}.", hint=SUPPORTED)
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(
            "The registry is in a home folder that is unknown", detail=url, hint=SUPPORTED
        ) from error


def _bucket_and_prefix(url: str) -> tuple[str, str]:
    bucket, _, prefix = url[len("s3:") :].removeprefix("//").partition("/")
    prefix = prefix.removesuffix("/")
    steps = prefix.split("/") if prefix else []
    if not url[len("s3:") :].startswith("//") or not _BUCKET.fullmatch(bucket):
        raise _no_place(url, "it names no bucket")
    if not prefix.isprintable() or "?" in prefix or any(step in ("", ".", "..") for step in steps):
        raise _no_place(url, "its prefix is none that a registry can have")
    return bucket, prefix


def _no_place(url: str, what: str) -> ConfigurationError:
    hint = "Write it as `s3://BUCKET/PREFIX`. Logins come from AWS's own chain, other stores from `s3.endpoint_url`."
    return ConfigurationError(f"The registry cannot be there: {what}", detail=_safe(url), hint=hint)


def _safe(url: str) -> str:
    """Leave out what may be a password: all between the scheme and the host, and after a question mark."""
    scheme, slashes, rest = re.split("(:/*)", url.partition("?")[0], maxsplit=1)
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"
