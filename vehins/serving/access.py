"""The layer that decides who is answered: names, keys, the rate of each client, and what other sites' pages ask."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vehins.serving.answers import Fault
from vehins.serving.buckets import Buckets
from vehins.serving.clients import Proxies, is_foreign, neighbourhood, origins
from vehins.serving.failures import Prepared
from vehins.serving.hosts import hosts_for, misdirected
from vehins.serving.keys import shown_key
from vehins.serving.page.render import STATIC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from vehins.serving.keys import Keys
    from vehins.settings.sections import ServeSettings

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""What a load balancer asks: it has no key, and an answer that it must get however much there is to do."""
CLIENT = "vehins.client"
"""Where a scope has the name of its client for the log: a short hash of its key, or its address."""
# A person who mistypes a key gets on, and a machine that guesses gets nowhere.
_GUESSES, _GUESSES_A_SECOND = 20, 1 / 3
_CHALLENGES = (
    ("www-authenticate", 'Bearer realm="vehins"'),
    ("www-authenticate", 'Basic realm="vehins", charset="UTF-8"'),  # lets a browser ask for the key
)
_SEND_KEY = "Send it as `Authorization: Bearer KEY`; in a browser it is the password, with any name."
NO_KEY = Prepared(
    401, Fault(headline="An API key is needed", detail="The request shows none.", hint=_SEND_KEY), *_CHALLENGES
)
WRONG_KEY = Prepared(
    401,
    Fault(
        headline="The API key is not valid",
        detail="The key that the request shows is none of this service's.",
        hint=_SEND_KEY,
    ),
    *_CHALLENGES,
)
GUESSING = Prepared(
    429,
    Fault(
        headline="Too many wrong API keys",
        detail="So many came from this address that no key from there is looked at for a moment.",
        hint="Mend the key, and wait as long as `Retry-After` says.",
    ),
)
TOO_OFTEN = Prepared(
    429,
    Fault(
        headline="Too many requests",
        detail="This client asks more often than the service lets it.",
        hint="Wait as long as `Retry-After` says, or send more rows in one request.",
    ),
)
FOREIGN = Prepared(
    403,
    Fault(
        headline="Another site's page may not ask this",
        detail="The browser says that the request was made by a page of another origin.",
        hint="Use the page of this service; whoever runs it can name other origins: `serve.cors_origins`.",
    ),
)


class Access:
    """Answers those who may ask, as often as they may; ``scope["vehins.client"]`` is who it was.

    Raises:
        SettingsError: the hosts, the proxies or the origins of the settings cannot be.
    """

    def __init__(self, app: ASGIApp, keys: Keys, settings: ServeSettings) -> None:
        self._app = app
        self._keys = keys
        self._hosts = hosts_for(settings, keys)
        self._proxies = Proxies(settings.trusted_proxies)
        self._origins = frozenset(origin.encode() for origin in origins(settings.cors_origins))
        self._guesses = Buckets(_GUESSES_A_SECOND, _GUESSES)
        rate = settings.rate_limit
        self._requests = Buckets(rate, rate) if rate else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            scope[CLIENT] = self._proxies.client(scope)
            if scope["path"] not in OPEN_PATHS and await self._is_refused(scope, dict(scope["headers"]), send):
                return
        await self._app(scope, receive, send)

    async def _is_refused(self, scope: Scope, headers: Mapping[bytes, bytes], send: Send) -> bool:
        host = headers.get(b"host")
        if self._hosts is not None and not self._hosts.know(host) and not _is_static(scope):
            await misdirected(host or b"").answer(scope, send)
            return True
        if is_foreign(scope["method"], headers, self._origins):
            await FOREIGN(send)  # not a page, which could ask on
            return True
        if self._keys and await self._has_no_key(scope, headers, send):
            return True
        if self._requests is None:
            return False
        wait = self._requests.take(neighbourhood(scope[CLIENT]))
        if wait:
            await TOO_OFTEN.answer(scope, send, _retry_after(wait))
        return bool(wait)

    async def _has_no_key(self, scope: Scope, headers: Mapping[bytes, bytes], send: Send) -> bool:
        key = shown_key(headers)
        if key is None:
            if _is_static(scope):
                return False
            await NO_KEY.answer(scope, send)
            return True
        source = neighbourhood(scope[CLIENT])
        wait = self._guesses.wait(source)
        if wait:  # not even a right key is looked at, or guessing would go on
            await GUESSING.answer(scope, send, _retry_after(wait))
            return True
        client = self._keys.client(key)
        if client is None:
            self._guesses.take(source)
            await WRONG_KEY.answer(scope, send)
            return True
        scope[CLIENT] = client
        return False


def _is_static(scope: Scope) -> bool:
    """Whether it is but how a page looks, which a page that refuses needs as well."""
    return bool(scope["path"].startswith(STATIC))


def _retry_after(seconds: float) -> tuple[bytes, bytes]:
    return b"retry-after", str(math.ceil(seconds)).encode()
