"""Which names a request may ask the service by.

A service that only this machine reaches, and that asks for no key, is open to whatever runs here, browsers among it. A
page from elsewhere can let its own name lead to this machine (DNS rebinding): the browser takes the service for that
page's own site and lets it read the answers. The name gives it away, as browsers send it in ``Host``.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from vehins.errors import SettingsError
from vehins.serving.answers import Fault
from vehins.serving.clients import listed
from vehins.serving.failures import Prepared
from vehins.serving.keys import is_loopback

if TYPE_CHECKING:
    from vehins.serving.keys import Keys
    from vehins.settings.sections import ServeSettings

_LONGEST = 300  # of a name with its port; DNS has none of more than 253 characters
_SHOWN_CHARACTERS = 100
_PORT = re.compile(r":\d{0,5}$")
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


class Hosts:
    """The names of a service: those of this machine and those that are listed; ``*.a`` is any name that ends in ``.a``.

    Raises:
        SettingsError: one of them is no name.
    """

    def __init__(self, named: str | None) -> None:
        found = [_checked(name) for name in listed(named)]
        self._names = frozenset(found)
        self._ends = tuple(name.removeprefix("*") for name in found if name.startswith("*"))
        # What comes is nearly always the same.
        self._look = lru_cache(64)(self._is_known)

    def know(self, host: bytes | None) -> bool:
        """Whether a ``Host`` is one of them; HTTP/1.0 may send none, and browsers always do."""
        return host is None or (len(host) <= _LONGEST and self._look(host))

    def _is_known(self, host: bytes) -> bool:
        name = _plain(_PORT.sub("", host.decode("latin-1").strip().lower()))
        is_here = is_loopback(name) or name.endswith(".localhost")
        return is_here or name in self._names or name.endswith(self._ends)


def hosts_for(settings: ServeSettings, keys: Keys) -> Hosts | None:
    """The names by which it is to be asked; None where any will do: others reach it by names that nobody knows here.

    Raises:
        SettingsError: one of those in the settings is no name.
    """
    if settings.hosts is None and (keys or not is_loopback(settings.host)):
        return None
    return Hosts(settings.hosts)


def misdirected(host: bytes) -> Prepared:
    """The answer to who asks by another name (421)."""
    shown = host[:_SHOWN_CHARACTERS].decode("latin-1")
    fault = Fault(
        headline="The service is not asked by this name",
        detail=f"The request names the host `{shown}`, which is neither this machine nor one of the settings.",
        hint="Ask `localhost`, or let whoever runs the service name others: `serve.hosts`.",
    )
    return Prepared(421, fault)


def _plain(name: str) -> str:
    """A name without the point that may end it, and an IPv6 address without its brackets."""
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name.removesuffix(".")


def _checked(text: str) -> str:
    name = _plain(text.lower())
    if not (_NAME.fullmatch(name) or _is_address(name)):
        raise SettingsError(
            f"`{text}` is not the name of a host",
            detail="Setting `serve.hosts` has names as they stand in addresses, without scheme and port.",
            hint="Write `predict.example.com` or `*.example.com`; several are separated by commas.",
        )
    return name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
