"""Checks of the way to a store, one step after the other: what `vehins doctor` shows.

A kind of store has a generator of checks, ``probe(...)``. The first that fails ends it, for those behind it would only
fail for the same reason; ``CHECKS`` in the same module names all of them in order, so that the ones that were not tried
can be shown, and the one that never ends can be named. A generator raises nothing that a user can cause: `failed` makes
a check of an error.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Literal, NamedTuple

from vehins.errors import ConfigurationError, UnreachableError, VehinsError

Verdict = Literal["ok", "failed", "skipped"]


class Check(NamedTuple):
    """One thing that must be right, and the mend when it is not; an ``ok`` with a mend is a piece of advice."""

    name: str
    verdict: Verdict
    found: str
    mend: str = ""
    exit_code: int = UnreachableError.exit_code
    """How `vehins doctor` ends when it failed: 3 for driver, login, settings and rights, 4 for data, 6 for the rest."""

    @property
    def failed(self) -> bool:
        """Whether it stops the way to the store."""
        return self.verdict == "failed"


def failed(name: str, error: VehinsError) -> Check:
    """The check that an error makes fail, with the words and the exit code of the error."""
    found = f"{error.headline}. {error.detail}" if error.detail else error.headline
    return Check(name, "failed", found, error.hint, error.exit_code)


def network(host: str, port: int, timeout: float) -> Iterator[Check]:
    """Check that a name has an address, and that something listens at its port."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # a label of more than 63 letters is a UnicodeError
        said = getattr(error, "strerror", None) or error
        mend = f"Check the spelling of {host}, and that this machine can look it up."
        yield Check("DNS", "failed", f"{host}: {said}", mend)
        return
    yield Check("DNS", "ok", f"{host} is {found[0][4][0]}")
    try:
        with socket.create_connection((host, port), timeout):
            pass
    except OSError as error:
        mend = f"Check that the server runs, and that firewalls and security groups let this machine reach port {port}."
        yield Check("port", "failed", f"{port}: {error.strerror or error}", mend)
        return
    yield Check("port", "ok", f"{port} is open")


def tls(host: str, port: int, timeout: float, authorities: str | None = None) -> Check:
    """Check that a server which speaks TLS from its first byte shows a certificate for its name that is trusted.

    ``authorities`` is a file of certificates to trust beside those of the system.
    """
    context = ssl.create_default_context()
    try:
        if authorities:
            context.load_verify_locations(authorities)
    except OSError as error:
        mend = f"Name a file of certificates in PEM: {authorities} is none."
        return Check("TLS", "failed", f"{authorities}: {error.strerror or error}", mend, ConfigurationError.exit_code)
    try:
        with (
            socket.create_connection((host, port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            return Check("TLS", "ok", f"{wrapped.version()}, certificate trusted")
    except ssl.SSLCertVerificationError as error:
        mend = "Trust the authority that signed it, or use the name that it was issued for."
        return Check("TLS", "failed", error.verify_message, mend)
    except OSError as error:  # ssl.SSLError is one
        return Check("TLS", "failed", str(error), "Check that the server speaks TLS at this port.")
