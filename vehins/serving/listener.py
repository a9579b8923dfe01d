"""The socket that the service listens on, taken before the server starts, so that a refusal has a good message."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import Any

from vehins.errors import ConfigurationError, UnreachableError, VehinsError

_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Take a port; 0 takes a free one.

    Raises:
        UnreachableError: something else listens there.
        ConfigurationError: the host is not of this machine, or the port not for this user.
    """
    family, address = _address(host, port)
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere the option lets two servers take one port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(_BACKLOG)  # two that start at once are told apart here, not by bind
        found.setblocking(False)
    except OSError as error:
        found.close()
        raise _refused(error, host, port) from None
    return found


def _address(host: str, port: int) -> tuple[int, Any]:
    """What to bind to; of a name with several addresses the IPv4 one, which every client tries."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, ValueError) as error:
        raise ConfigurationError(
            f"The host `{host}` is not known",
            detail=f"{getattr(error, 'strerror', None) or error}.",
            hint="Name an address of this machine: `--host 127.0.0.1`.",
        ) from None
    family, _, _, _, address = min(found, key=lambda item: item[0] != socket.AF_INET)
    return family, address


def _refused(error: OSError, host: str, port: int) -> VehinsError:
    where = f"On {host}: {os.strerror(error.errno) if error.errno else error}."
    if error.errno == errno.EADDRINUSE:
        hint = "Stop what listens there, or take another one: `--port 8001` (0 takes a free one)."
        return UnreachableError(f"Port {port} is in use", detail=where, hint=hint)
    if error.errno in {errno.EACCES, errno.EPERM}:
        hint = "Ports below 1024 are the system's: `--port 8000`."
        return ConfigurationError(f"This user may not listen on port {port}", detail=where, hint=hint)
    if error.errno == errno.EADDRNOTAVAIL:
        hint = "Name an address of this machine: `--host 127.0.0.1`, or `--host 0.0.0.0` for all."
        return ConfigurationError(f"`{host}` is not an address of this machine", detail=where, hint=hint)
    return UnreachableError(f"Cannot listen on port {port}", detail=where, hint="Try another one: `--port 0`.")


def url(listener: socket.socket) -> str:
    """The address to open; where all addresses are listened on, the one of this machine."""
    host, port = listener.getsockname()[:2]
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a look-up, nothing is bound here
    host = everywhere.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def close(listener: socket.socket) -> None:
    """Let the port go; a server that has stopped has done so already."""
    with suppress(OSError):
        listener.close()
