"""Passwords made unreadable: in addresses, in messages, in command lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
_SHORTEST = 4
"""A known secret that is shorter would blank out half of any text."""
_known: set[str] = set()

# Each pattern begins where a word does: from anywhere within one, a long word would take the square of its length.
_SCHEME = r"(?P<scheme>(?<![a-z0-9+.-])[a-z0-9+.-]+://)"
_HOST = r"(?:\[[^\]\s]*\]|[^\s/@:?#,\[\]]+)(?::\d{1,5})?"
# What may stand behind the scheme without a login: hosts, then a path without an @. Only then is an @ further on one of
# an option; anywhere else all between the first colon and the last @ is taken for the password, whatever it has in it.
_NO_LOGIN = rf"(?!{_HOST}(?:,{_HOST})*(?:/[^\s@?#]*)?(?:[?#]|\s|$))"
# Where the text is one address from end to end, a blank is no end of it: `user:000 @host` has a password.
_NO_LOGIN_OF_ONE = rf"(?!{_HOST}(?:,{_HOST})*(?:/[^@?#]*)?(?:[?#]|$))"
_NAMES = r"(?:passw(?:or)?d|auth_?mechanism_?properties|pwd|secret|token|signature|sig|access_?key|api_?keys?)"
_KEY = rf"[\w-]*{_NAMES}"
_LOGIN = re.compile(rf"{_SCHEME}{_NO_LOGIN}(?P<user>[^/@:\s]*):\S*@", re.I)
_LOGIN_OF_ONE = re.compile(rf"^{_SCHEME}{_NO_LOGIN_OF_ONE}(?P<user>[^/@:]*):.*@", re.I | re.S)
_OPTION = re.compile(rf"(?P<key>[?&]{_KEY}=)[^&\s]*", re.I)
_OPTION_OF_ONE = re.compile(rf"(?P<key>[?&]{_KEY}=)[^&]*", re.I)
_PAIR = re.compile(rf"(?P<key>(?:^|[^\w?&;-]){_KEY}=)(?![\"'])[^&;\s]*", re.I)
_ODBC = re.compile(rf"(?P<key>;\s*{_KEY}=)[^;\n]*", re.I)
_SECRET_NAME = re.compile(rf"(?:-*|[\w.]*\.){_KEY}", re.I)
_QUOTED = re.compile(
    rf"(?P<key>{_NAMES}[\"']?\s*[:=]\s*)(?P<quote>[\"'])(?:\\.|(?P=quote){{2}}|(?!(?P=quote)).)*(?P=quote)",
    re.I | re.S,
)
_IS_ADDRESS = re.compile(rf"{_SCHEME}", re.I)


def masked(value: Any) -> Any:
    """Hide the passwords of addresses and of `password=...` in a text; other values pass through."""
    if not isinstance(value, str):
        return value
    if "@" in value:
        value = _LOGIN.sub(rf"\g<scheme>\g<user>:{MASK}@", value)
    value = _OPTION.sub(rf"\g<key>{MASK}", value)
    value = _ODBC.sub(rf"\g<key>{MASK}", value)
    value = _QUOTED.sub(rf"\g<key>\g<quote>{MASK}\g<quote>", value)
    return _PAIR.sub(rf"\g<key>{MASK}", value)


def masked_address(url: str) -> str:
    """Hide the password of a text that is one address or path from end to end, also one with blanks in it."""
    if not _IS_ADDRESS.match(url):
        return str(masked(url))
    url = _LOGIN_OF_ONE.sub(rf"\g<scheme>\g<user>:{MASK}@", url)
    return str(masked(_OPTION_OF_ONE.sub(rf"\g<key>{MASK}", url)))


def masked_words(words: Iterable[str]) -> list[str]:
    """Hide the passwords of a command line: those of addresses, and settings that are secret."""
    return list(_masked_words(words))


def _masked_words(words: Iterable[str]) -> Iterator[str]:
    before = ""
    for word in words:
        option, sign, value = word.partition("=")
        if before == "--set":
            yield _masked_setting(word)
        elif sign and option == "--set":
            yield f"--set={_masked_setting(value)}"
        elif sign and option.startswith("-") and "://" not in option:
            yield _masked_setting(word)
        else:
            glued = word[:2] if word.startswith("-s") else ""
            yield glued + masked_address(word[len(glued) :])
        before = word


def _masked_setting(assignment: str) -> str:
    name, sign, value = assignment.partition("=")
    is_secret = name.strip().startswith("credentials.") or _SECRET_NAME.fullmatch(name.strip())
    if value and is_secret and not name.strip().endswith(("_user", "_secret")):
        return f"{name}{sign}{MASK}"
    return f"{name}{sign}{masked_address(value)}"


def remember(secret: str | None) -> None:
    """Have `redacted` hide a secret wherever it stands, in every form in which an address could have it."""
    if secret and len(secret) >= _SHORTEST:
        _known.update({secret, quote(secret), quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]})


def redacted(text: str) -> str:
    """A text from elsewhere (the message of a driver, a traceback) without the secrets of this process."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return str(masked(text))
