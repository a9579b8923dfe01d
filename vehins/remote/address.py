"""Addresses of stores: ``scheme://user:password@host:port/path?option=value``, taken apart and safe to print."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from vehins.errors import SettingsError
from vehins.masking import masked_address, remember


@dataclass(frozen=True)
class Address:
    """One address in its parts; user, password and path are decoded."""

    scheme: str
    hosts: str
    """Host and port as written; MongoDB allows several, with commas between."""
    path: str
    """Without its first slash."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)
    label: str = ""
    """The whole address, safe to print: without its password."""

    @property
    def host(self) -> str:
        """The first host, without its port."""
        first = self.hosts.partition(",")[0]
        return first.partition("]")[0].removeprefix("[") if first.startswith("[") else first.partition(":")[0]

    def port(self, default: int) -> int:
        """The port of the first host.

        Raises:
            SettingsError: it is no number of a port.
        """
        text = self.hosts.partition(",")[0].rpartition("]")[2].partition(":")[2]
        if not text:
            return default
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise SettingsError(
                f"There is no port {text}", detail=f"In {self.label}.", hint=f"Leave it out for {default}."
            )
        return int(text)


def has_scheme(url: str, *schemes: str) -> bool:
    """Whether an address starts with one of these schemes."""
    return url.partition("://")[0].lower() in schemes and "://" in url


def parse(url: str, form: str, options: Collection[str] | None = None) -> Address:
    """Take an address apart.

    ``form`` is an example of a right one, for messages; ``options`` are those that may stand behind the question mark
    (None: any). The last of several equal options counts.

    Raises:
        SettingsError: it has an option that is not known, or no form at all.
    """
    label = masked_address(url)
    try:
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise SettingsError(f"{label} is no address", detail=f"{error}.", hint=f"Write it as `{form}`.") from None
    if options is not None:
        _refuse_unknown([name for name, _ in given], options, label, form)
    login, _, hosts = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    remember(unquote(password))
    return Address(
        scheme=parts.scheme.lower(),
        hosts=hosts,
        path=unquote(parts.path.removeprefix("/")),
        user=unquote(user) or None,
        password=unquote(password) if colon else None,
        options=dict(given),
        label=label,
    )


def _refuse_unknown(given: list[str], options: Collection[str], label: str, form: str) -> None:
    unknown = next((name for name in given if name not in options), None)
    if unknown is None:
        return
    near = difflib.get_close_matches(unknown, list(options), n=1, cutoff=0.5)
    hint = f"Did you mean `{near[0]}`? Write it as `{form}`." if near else f"Write it as `{form}`."
    raise SettingsError(f"An address of this kind has no option `{unknown}`", detail=f"In {label}.", hint=hint)
