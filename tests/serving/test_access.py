"""Who is answered: keys, rates, proxies, and pages of other sites."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from serving_models import GOOD, ask, guarded
from test_http import error_of

from vehins.errors import CredentialsError, SettingsError
from vehins.masking import masked_words, redacted
from vehins.serving.access import CLIENT, OPEN_PATHS, Access
from vehins.serving.buckets import _CLIENTS, Buckets
from vehins.serving.clients import Proxies, neighbourhood, origins
from vehins.serving.keys import Keys, is_loopback, keys_for
from vehins.settings import ServeSettings, Settings

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

    from vehins.serving.predictor import Predictor

KEY, NEXT = "a-key-of-one-client-0123", "9f" * 32
GUARDED = ["/", "/v1/model", "/v1/predict", "/metrics", "/docs", "/docs/style.css", "/openapi.json", "/nothing"]


def basic(key: str, name: str = "anybody") -> str:
    return "Basic " + base64.b64encode(f"{name}:{key}".encode()).decode()


@pytest.fixture(scope="module")
def app(predictor: Predictor) -> FastAPI:
    return guarded(predictor, [KEY, NEXT])


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, NEXT])
@pytest.mark.parametrize(
    "form",
    [
        lambda key: {"Authorization": f"Bearer {key}"},
        lambda key: {"Authorization": f"bearer  {key} "},
        lambda key: {"X-API-Key": key},
        lambda key: {"Authorization": basic(key)},
        lambda key: {"Authorization": basic(key, "")},
    ],
)
def test_each_key_opens_in_each_form(app: FastAPI, key: str, form: Any) -> None:
    assert ask(app, "POST", "/v1/predict", json={"rows": [GOOD]}, headers=form(key)).status_code == 200


def test_a_key_may_hold_a_colon(predictor: Predictor) -> None:
    key = "a:key:with:colons"
    assert ask(guarded(predictor, [key]), "GET", "/v1/model", headers={"Authorization": basic(key)}).status_code == 200


@pytest.mark.parametrize("path", GUARDED)
def test_everything_but_the_probes_needs_a_key(app: FastAPI, path: str) -> None:
    response = ask(app, "GET", path)
    assert error_of(response, 401)["headline"] == "An API key is needed"
    challenges = response.headers.get_list("www-authenticate")
    assert [challenge.split()[0] for challenge in challenges] == ["Bearer", "Basic"]
    assert all('realm="vehins"' in challenge for challenge in challenges)


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_probes_need_no_key(app: FastAPI, path: str) -> None:
    assert ask(app, "GET", path).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY},{NEXT}"},
        {"Authorization": "Bearer "},
        {"X-API-Key": KEY.upper()},
        {"X-API-Key": "x" * 5_000},
        {"X-API-Key": "", "Authorization": f"Bearer {KEY}"},
        {"Authorization": basic("")},
        {"Authorization": basic(KEY[1:])},
    ],
    ids=str,
)
def test_wrong_keys(predictor: Predictor, headers: dict[str, str]) -> None:
    response = ask(guarded(predictor, [KEY, NEXT]), "GET", "/v1/model", headers=headers)
    assert error_of(response, 401)["headline"] == "The API key is not valid"
    assert KEY[:8] not in response.text


@pytest.mark.parametrize("value", ["Basic !!!", "Basic =", "Digest x", KEY, "", "Bearer"])
def test_what_is_no_key_at_all(app: FastAPI, value: str) -> None:
    response = ask(app, "GET", "/v1/model", headers={"Authorization": value})
    assert response.status_code == 401


def test_a_key_in_the_address_is_none(app: FastAPI) -> None:
    assert ask(app, "GET", f"/v1/model?api_key={KEY}&key={KEY}").status_code == 401


def test_guessing_is_ended_and_even_a_right_key_is_not_looked_at(predictor: Predictor) -> None:
    app = guarded(predictor, [KEY])
    answers = [ask(app, "GET", "/v1/model", headers={"X-API-Key": f"{number:032}"}) for number in range(25)]
    assert [answer.status_code for answer in answers[:20]] == [401] * 20
    assert error_of(answers[-1], 429)["headline"] == "Too many wrong API keys"
    right = ask(app, "GET", "/v1/model", headers={"X-API-Key": KEY})
    assert right.status_code == 429
    assert 1 <= int(right.headers["retry-after"]) <= 3
    assert ask(app, "GET", "/healthz").status_code == 200


def test_a_browser_that_has_not_asked_for_the_key_yet_is_not_guessing(predictor: Predictor) -> None:
    app = guarded(predictor, [KEY])
    assert {ask(app, "GET", "/docs").status_code for _ in range(50)} == {401}
    assert ask(app, "GET", "/docs", headers={"Authorization": basic(KEY)}).status_code == 200


@pytest.mark.parametrize(
    ("keys", "headline"),
    [
        (["tiny"], "An API key is too short"),
        ([KEY, ""], "An API key is too short"),
        ([KEY, KEY], "An API key is repeated"),
        (["with a blank in between"], "An API key cannot stand in a header"),
        (["ein-schlüssel-mit-umlaut"], "An API key cannot stand in a header"),
    ],
)
def test_keys_that_will_not_do(keys: list[str], headline: str) -> None:
    settings = Settings(api_keys=SecretStr(",".join(keys)))
    with pytest.raises(SettingsError) as caught:
        keys_for(settings)
    assert caught.value.headline == headline
    assert caught.value.exit_code == 3
    shown = "".join(map(str, caught.value.as_dict().values()))
    assert not any(key and key in shown for key in keys)


def test_the_name_of_a_client_is_a_short_hash() -> None:
    keys = Keys([KEY, NEXT])
    names = [keys.client(key.encode()) for key in (KEY, NEXT)]
    assert all(name is not None and len(name) == len("key-") + 8 for name in names)
    assert len(set(names)) == 2
    assert keys.client(b"x" * 20) is None


def test_a_key_that_was_read_is_masked_wherever_it_would_be_shown() -> None:
    keys_for(Settings(api_keys=SecretStr(f" {KEY} , {NEXT} ")))
    assert redacted(f"got {KEY} and {NEXT}.") == "got *** and ***."
    assert masked_words(["--set", f"api_keys={KEY}"]) == ["--set", "api_keys=***"]
    assert masked_words([f"--set=api_keys={KEY},{NEXT}"]) == ["--set=api_keys=***"]


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)),
        *(("::", False), ("10.0.0.1", False), ("example.com", False), ("localhost.example.com", False), ("", False)),
    ],
)
def test_beyond_this_machine_a_key_is_needed(host: str, is_here: bool) -> None:
    assert is_loopback(host) == is_here
    settings = Settings(serve=ServeSettings(host=host))
    if is_here:
        assert not keys_for(settings)
        return
    with pytest.raises(CredentialsError) as caught:
        keys_for(settings)
    assert "--allow-anonymous" in caught.value.hint
    assert "VEHINS_API_KEYS" in caught.value.hint
    assert not keys_for(Settings(serve=ServeSettings(host=host, allow_anonymous=True)))
    assert keys_for(Settings(serve=ServeSettings(host=host), api_keys=SecretStr(KEY)))


# --- rates ------------------------------------------------------------------------------------------------------------


def test_a_client_that_asks_too_often(predictor: Predictor) -> None:
    app = guarded(predictor, [KEY, NEXT], rate_limit=0.001)
    first, second = (ask(app, "GET", "/v1/model", headers={"X-API-Key": KEY}) for _ in range(2))
    assert first.status_code == 200
    assert error_of(second, 429)["headline"] == "Too many requests"
    assert 900 <= int(second.headers["retry-after"]) <= 1_000
    assert ask(app, "GET", "/v1/model", headers={"X-API-Key": NEXT}).status_code == 200
    assert {ask(app, "GET", "/readyz").status_code for _ in range(5)} == {200}


def test_a_bucket() -> None:
    now = [0.0]
    buckets = Buckets(rate=2, burst=3, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert (buckets.wait("a"), buckets.wait("b")) == (0.5, 0)
    now[0] = 0.5
    assert [buckets.take("a") for _ in range(2)] == [0, 0.5]
    now[0] = 1_000
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_bucket_of_less_than_one_a_second_still_has_a_token() -> None:
    buckets = Buckets(rate=0.1, burst=0.1, clock=lambda: 0.0)
    assert [buckets.take("a") for _ in range(2)] == [0, 10]


def test_buckets_are_bounded_and_forget_the_least_recent() -> None:
    buckets = Buckets(rate=1, burst=1, clock=lambda: 0.0)
    for number in range(_CLIENTS):
        buckets.take(str(number))
    assert buckets.take("0") == 1
    assert buckets.take("another") == 0
    assert (buckets.wait("0"), buckets.wait("1"), buckets.wait("2")) == (1, 0, 1)
    assert len(buckets._full) == _CLIENTS


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # not a proxy: whatever it says is its own invention
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, nonsense, 10.2.2.2"], "10.2.2.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", [", ".join(["1.1.1.1"] * 10_000)], "1.1.1.1"),
    ],
)
def test_the_address_of_a_client(peer: str, forwarded: list[str], client: str) -> None:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope = {"client": (peer, 1), "headers": headers}
    assert Proxies("10.0.0.0/8, fd00::1").client(scope) == client
    assert Proxies(None).client(scope) == peer


def test_a_scope_without_an_address() -> None:
    assert Proxies("10.0.0.1").client({"client": None, "headers": []}) == "unknown"


@pytest.mark.parametrize("text", ["nonsense", "10.0.0.0/33", "10.0.0.1/8", "*"])
def test_proxies_that_cannot_be(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Proxies(f"10.0.0.1, {text}")
    assert text in caught.value.headline


def test_the_neighbours_of_an_address() -> None:
    assert neighbourhood("192.0.2.1") == "192.0.2.1"
    assert neighbourhood("2001:db8:1:2:3::4") == neighbourhood("2001:db8:1:2:ffff::") == "2001:db8:1:2::/64"
    assert neighbourhood("::ffff:192.0.2.1") == "::ffff:192.0.2.1"
    assert neighbourhood("not:an:address") == "not:an:address"


def test_the_scope_tells_who_asked(predictor: Predictor) -> None:
    seen: list[dict[str, Any]] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    keys = Keys([KEY])
    app: Any = Access(inner, keys, ServeSettings(trusted_proxies="127.0.0.1"))
    ask(app, "GET", "/x", headers={"X-API-Key": KEY, "X-Forwarded-For": "192.0.2.7"})
    ask(app, "GET", "/healthz", headers={"X-Forwarded-For": "192.0.2.7"})
    assert [scope[CLIENT] for scope in seen] == [keys.client(KEY.encode()), "192.0.2.7"]


# --- other sites ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # no browser
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "HTTPS://LOCALHOST"}, 200),  # as behind a proxy that speaks https
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "https://crm.example"}, 200),  # named in the settings
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://crm.example"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://public.example"}, 200),  # a proxy that rewrites Host
    ],
    ids=str,
)
def test_pages_of_other_sites_may_not_ask(predictor: Predictor, headers: dict[str, str], status: int) -> None:
    app = guarded(predictor, [KEY], cors_origins="https://crm.example, http://other.example:8080/")
    headers = {"Authorization": basic(KEY), **headers}
    response = ask(app, "POST", "/v1/predict", json={"rows": [GOOD]}, headers=headers)
    assert response.status_code == status
    if status == 403:
        assert "serve.cors_origins" in error_of(response, 403)["hint"]
    assert ask(app, "GET", "/v1/model", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "text", ["*", "crm.example", "https://crm.example/path", "ftp://x", "https://", "http://[", "null"]
)
def test_origins_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        origins(f"https://crm.example,{text}")
    assert text in caught.value.headline


# --- in a browser -----------------------------------------------------------------------------------------------------

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def page_of(response: httpx.Response, status: int) -> str:
    """The page that a browser shows in place of an answer, once it is certain that it may be one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'; style-src 'self'" in response.headers["content-security-policy"]
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["cache-control"] == "no-store"
    assert not re.search(r"\sstyle=|<style|\son\w+=|<script|(src|href)=\"(https?:)?//", response.text)
    assert '<section class="verdict bad" role="alert"' in response.text
    assert len(response.content) == int(response.headers["content-length"])
    return response.text


def test_a_browser_without_a_key_is_shown_a_page_and_asked_for_the_key(app: FastAPI) -> None:
    for path in ("/", "/v1/model"):
        response = ask(app, "GET", path, headers={"Accept": BROWSER})
        text = page_of(response, 401)
        assert "An API key is needed" in text
        assert "in a browser it is the password" in text
        assert [line.split()[0] for line in response.headers.get_list("www-authenticate")] == ["Bearer", "Basic"]
        loaded = re.findall(r'"(/static/[^"]+)"', text)
        assert len(loaded) == 2
        assert {ask(app, "GET", address).status_code for address in loaded} == {200}


def test_a_browser_is_shown_each_refusal(predictor: Predictor) -> None:
    app = guarded(predictor, [KEY], rate_limit=0.001, max_body_bytes=2_048)
    headers = {"Accept": BROWSER, "Authorization": basic(KEY)}
    assert "2,048 bytes" in page_of(ask(app, "POST", "/", content=b" " * 3_000, headers=headers), 413)
    assert ask(app, "GET", "/", headers=headers).status_code == 200
    often = ask(app, "POST", "/", data={}, headers=headers)
    assert "Too many requests" in page_of(often, 429)
    assert 900 <= int(often.headers["retry-after"]) <= 1_000


def test_what_another_site_asked_for_is_shown_as_data(app: FastAPI) -> None:
    """A page of this service could ask on, with the password that the browser knows."""
    headers = {"Accept": BROWSER, "Authorization": basic(KEY), "Origin": "https://evil.example"}
    assert error_of(ask(app, "POST", "/", data={}, headers=headers), 403)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html;q=0.9", "text/csv", ""])
def test_programs_are_answered_in_json(app: FastAPI, accept: str) -> None:
    response = ask(app, "GET", "/", headers={"Accept": accept})
    assert error_of(response, 401)["headline"] == "An API key is needed"
