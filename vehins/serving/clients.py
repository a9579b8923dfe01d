"""Who asks: the address of a client, also behind proxies, and whether a browser asks for another site."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vehins.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_HOPS = 32


class Proxies:
    """The proxies whose word on the address of a client is taken.

    Raises:
        SettingsError: one of them is neither an address nor a network.
    """

    def __init__(self, trusted: str | None) -> None:
        self._networks = [_network(text) for text in listed(trusted)]

    def client(self, scope: Scope) -> str:
        """The address of the client.

        Each proxy adds the address that it was asked from at the end of X-Forwarded-For, so that the client is the last
        one there that is not of a trusted proxy; whatever stands before was sent by the client and can be anything.
        """
        peer = scope.get("client")
        address = str(peer[0]) if peer else "unknown"
        if not self._networks or not self._trusts(address):
            return address
        values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        for hop in reversed(b",".join(values).decode("latin-1").split(",")[-_MOST_HOPS:]):
            found = _address(hop)
            if found is None:  # no address, so that the last proxy is all that is known
                return address
            address = str(found)
            if not self._trusts(address):
                return address
        return address

    def _trusts(self, address: str) -> bool:
        found = _address(address)
        return found is not None and any(found in network for network in self._networks)


def neighbourhood(address: str) -> str:
    """What is counted as one client: an address, or the network of 64 bits that an IPv6 one can be chosen from."""
    if ":" not in address:
        return address
    found = _address(address)
    return str(ipaddress.ip_network((found, 64), strict=False)) if found is not None and found.version == 6 else address


def origins(text: str | None) -> list[str]:
    """The origins that are named in a setting.

    Raises:
        SettingsError: one of them is none.
    """
    found = listed(text)
    for origin in found:
        if not _is_origin(origin.removesuffix("/")):
            raise SettingsError(
                f"`{origin}` is not an origin",
                detail="Setting `serve.cors_origins` names each by scheme and host, with a port where it has one.",
                hint="Write `https://crm.example.com`; several are separated by commas.",
            )
    return [origin.removesuffix("/") for origin in found]


def is_foreign(method: str, headers: Mapping[bytes, bytes], allowed: frozenset[bytes]) -> bool:
    """Whether a browser asks on behalf of another site's page, and not only to read.

    A browser shows the password that it knows whoever made it ask; where a request comes from, no page can forge.
    """
    if method in _READING:
        return False
    origin = headers.get(b"origin")
    if origin in allowed:
        return False
    site = headers.get(b"sec-fetch-site")  # only sent to https and to this machine
    if site is not None:
        return site not in {b"same-origin", b"none"}
    return origin is not None and origin.partition(b"://")[2].lower() != headers.get(b"host", b"").lower()


def listed(text: str | None) -> list[str]:
    """What a setting lists, separated by commas."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and text == f"{parts.scheme}://{parts.netloc}" and bool(parts.hostname)
    except ValueError:
        return False


def _network(text: str) -> _Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise SettingsError(
            f"`{text}` is neither an address nor a network",
            detail=f"Setting `serve.trusted_proxies`: {error}.",
            hint="Write `10.0.0.0/16` or `10.0.3.7`; several are separated by commas.",
        ) from None


def _address(text: str) -> Any:
    """An address without blanks and port; an IPv4 one in the clothes of an IPv6 one is plain. None when it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
