"""Addresses of stores taken apart, put together again, and refused with what was meant."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vehins.errors import SettingsError
from vehins.remote.address import Address, has_scheme, parse

FORM = "mssql://HOST/DATABASE?table=SCHEMA.TABLE"
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


def refused(url: str, options: tuple[str, ...] | None = None) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        parse(url, FORM, options)
    assert FORM in caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("mssql://h", ("mssql", "h", "", None, None, {})),
        ("MSSQL://h:1/db?a=1&a=2&b=", ("mssql", "h:1", "db", None, None, {"a": "2", "b": ""})),
        ("a://u@h/db/c", ("a", "h", "db/c", "u", None, {})),
        ("a://u:@h", ("a", "h", "", "u", "", {})),
        ("a://:p@h", ("a", "h", "", None, "p", {})),
        ("a://u:p%40%2F@h1:1,h2:2/d%20b", ("a", "h1:1,h2:2", "d b", "u", "p@/", {})),
        ("a://u:p:q@r@[::1]:5/db", ("a", "[::1]:5", "db", "u", "p:q@r", {})),
    ],
)
def test_the_parts(url: str, parts: tuple[object, ...]) -> None:
    found = parse(url, FORM)
    assert (found.scheme, found.hosts, found.path, found.user, found.password, found.options) == parts


@given(user=TEXTS, password=TEXTS, path=TEXTS, option=TEXTS)
def test_what_is_quoted_comes_back(user: str, password: str, path: str, option: str) -> None:
    def q(text: str) -> str:
        return quote(text, safe="")

    found = parse(f"a://{q(user)}:{q(password)}@h:1/{q(path)}?{urlencode({'o': option})}", FORM)
    wanted = Address("a", "h:1", path, user, password, {"o": option}, found.label)
    assert found == wanted
    assert found.label.startswith(f"a://{q(user)}:***@h:1/")


@pytest.mark.parametrize(
    ("hosts", "host", "port"),
    [
        ("h", "h", 99),
        ("h:5", "h", 5),
        ("h1:5,h2:6", "h1", 5),
        ("[::1]", "::1", 99),
        ("[fe80::1]:7", "fe80::1", 7),
        ("[::1]:7,h2", "::1", 7),
    ],
)
def test_host_and_port(hosts: str, host: str, port: int) -> None:
    found = parse(f"a://{hosts}/db", FORM)
    assert (found.host, found.port(99)) == (host, port)


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1", "1.5", "²"])
def test_a_port_that_cannot_be(port: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(f"a://u:geheim@h:{port}/db", FORM).port(99)
    assert caught.value.headline == f"There is no port {port}"
    assert "geheim" not in str(caught.value.as_dict())
    assert "99" in caught.value.hint


@pytest.mark.parametrize("url", ["a://h/db?x", "a://h/db?x=1&y", "a://[::1/db", "a://u:geheim@[h/db"])
def test_what_is_no_address(url: str) -> None:
    error = refused(url)
    assert error.headline.endswith(" is no address")
    assert "geheim" not in str(error.as_dict())


@pytest.mark.parametrize(("written", "meant"), [("tabel", "table"), ("Table", "table"), ("zzz", None)])
def test_an_unknown_option(written: str, meant: str | None) -> None:
    error = refused(f"a://u:geheim@h/db?{written}=1&password=geheim", ("table", "schema", "password"))
    assert error.headline == f"An address of this kind has no option `{written}`"
    assert (f"Did you mean `{meant}`?" in error.hint) == (meant is not None)
    assert "geheim" not in str(error.as_dict())


def test_neither_its_text_nor_its_label_has_the_password() -> None:
    found = parse("a://u:geheim@h/db?password=geheim2", FORM)
    assert "geheim" not in repr(found) + found.label + str(found)


@pytest.mark.parametrize(
    ("url", "has"),
    [("a://h", True), ("A://h", True), ("b+c://h", True), ("a:h", False), ("d://a://", False), ("a", False)],
)
def test_schemes(url: str, has: bool) -> None:
    assert has_scheme(url, "a", "b+c") is has
