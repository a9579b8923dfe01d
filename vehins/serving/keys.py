"""API keys: which there are, whether they will do, and which one a request shows."""

from __future__ import annotations

import binascii
import hashlib
import hmac
import ipaddress
from typing import TYPE_CHECKING

from vehins.errors import CredentialsError, SettingsError
from vehins.masking import remember

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vehins.settings import Settings

SHORTEST = 16
_LONGEST_SHOWN = 4096  # of what a client shows as its key; more is not worth a hash
_SHOWN_CHARACTERS = 8
_MAKE = "Make one of 32 random bytes: `openssl rand -hex 32`."
_HINT = "Name one in VEHINS_API_KEYS (`openssl rand -hex 32` makes one), or answer everybody: `--allow-anonymous`."


class Keys:
    """The keys that open the service; none means that it is open to everybody.

    Raises:
        SettingsError: a key is too short, repeated, or has a sign that a header cannot hold.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        for number, key in enumerate(keys, 1):
            _check(key, number)
            remember(key)  # each by itself: the list of them all is not what a message would quote
        if len(set(keys)) < len(keys):
            hint = "Leave each in the list once; a key that is being replaced stands beside its successor."
            raise SettingsError("An API key is repeated", detail=f"`api_keys` has {len(keys)} keys.", hint=hint)
        digests = [_digest(key.encode()) for key in keys]
        self._clients = [(digest, f"key-{digest.hex()[:_SHOWN_CHARACTERS]}") for digest in digests]

    def __bool__(self) -> bool:
        return bool(self._clients)

    def client(self, shown: bytes) -> str | None:
        """Name of the client that shows this key, a short hash of the key; None when the key opens nothing.

        Both sides are hashed and all keys are compared, so that the time tells neither how much of a key is right nor
        which one it is.
        """
        if len(shown) > _LONGEST_SHOWN:
            return None
        digest = _digest(shown)
        found = None
        for known, client in self._clients:
            if hmac.compare_digest(known, digest):
                found = client
        return found


def keys_for(settings: Settings) -> Keys:
    """The keys of these settings.

    Raises:
        SettingsError: they will not do.
        CredentialsError: there are none, and others than this machine would be answered.
    """
    given = settings.api_keys.get_secret_value() if settings.api_keys is not None else ""
    keys = Keys([key.strip() for key in given.split(",")] if given.strip() else [])
    serve = settings.serve
    if not keys and not serve.allow_anonymous and not is_loopback(serve.host):
        detail = f"It would listen on {serve.host}, where others than this machine can ask, and there is no API key."
        raise CredentialsError("The service needs an API key here", detail=detail, hint=_HINT)
    return keys


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host; a name that is not `localhost` is taken for one that others reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The key that a request shows: a bearer token, X-API-Key, or the password that a browser has asked for."""
    plain = headers.get(b"x-api-key")
    if plain is not None:
        return plain
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    scheme = scheme.lower()
    if scheme == b"bearer":
        return value.strip()
    if scheme != b"basic":
        return None
    try:
        return binascii.a2b_base64(value.strip(), strict_mode=True).partition(b":")[2]
    except binascii.Error:
        return None


def _check(key: str, number: int) -> None:
    where = f"Key {number} of `api_keys`"
    if not all("!" <= sign <= "~" for sign in key):
        detail = f"{where} has a blank, or a sign that is not ASCII."
        raise SettingsError("An API key cannot stand in a header", detail=detail, hint=_MAKE)
    if len(key) < SHORTEST:
        detail = f"{where} has {len(key)} characters; at least {SHORTEST} are needed."
        raise SettingsError("An API key is too short", detail=detail, hint=_MAKE)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
