"""By which names the service is asked: a page whose own name leads to this machine must not read what it answers."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from service_process import serving
from serving_models import GOOD, ask, guarded
from test_http import error_of

from vehins.errors import SettingsError
from vehins.serving.hosts import Hosts, hosts_for
from vehins.serving.keys import Keys
from vehins.settings import ServeSettings

if TYPE_CHECKING:
    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

KEY = "k" * 20
REBOUND = {"Host": "evil.example:8000", "Origin": "http://evil.example:8000", "Sec-Fetch-Site": "same-origin"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        ("localhost", True),
        ("localhost:8000", True),
        ("LocalHost.:8000", True),
        ("vehins.localhost:1", True),
        ("127.0.0.1:8000", True),
        ("127.255.1.2", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("predict.example.com", True),  # named in the settings, as the next ones
        ("PREDICT.example.com.:443", True),
        ("a.b.example.org", True),
        ("10.0.0.7:8000", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("notlocalhost", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1:8000:9000", False),
        ("example.org", False),
        ("evilexample.org", False),
        ("10.0.0.8", False),
        ("128.0.0.1", False),
        ("0.0.0.0", False),
        ("[::2]", False),
        ("", False),
        ("\xff", False),
        ("localhost" + "." * 300, False),
    ],
)
def test_which_names_are_known(host: str, is_known: bool) -> None:
    hosts = Hosts("predict.example.com, *.example.org, 10.0.0.7")
    assert hosts.know(host.encode("latin-1")) == is_known


def test_who_names_no_host_is_no_browser() -> None:
    assert Hosts(None).know(None)


@pytest.mark.parametrize(
    ("host", "keys", "named", "is_looked_at"),
    [
        ("127.0.0.1", (), None, True),
        ("localhost", (), None, True),
        ("::1", (), None, True),
        ("127.0.0.1", (KEY,), None, False),
        ("0.0.0.0", (), None, False),
        ("10.0.0.7", (KEY,), None, False),
        ("127.0.0.1", (KEY,), "a.example", True),
        ("10.0.0.7", (), "a.example", True),
    ],
)
def test_where_names_are_looked_at(host: str, keys: tuple[str, ...], named: str | None, is_looked_at: bool) -> None:
    assert (hosts_for(ServeSettings(host=host, hosts=named), Keys(keys)) is not None) == is_looked_at


@pytest.mark.parametrize("text", ["http://a.example", "a.example/", "a.example:80", "*", "*a.example", "a b", "[::1"])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Hosts(f"a.example,{text}")
    assert text in caught.value.headline
    assert "serve.hosts" in (caught.value.detail or "")


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/model"), ("POST", "/v1/predict"), ("GET", "/metrics")])
def test_another_name_is_refused(predictor: Predictor, method: str, path: str) -> None:
    more: dict[str, Any] = {"json": {"rows": [GOOD]}} if method == "POST" else {}
    answer = ask(guarded(predictor), method, path, headers=REBOUND, **more)
    fault = error_of(answer, 421)
    assert "serve.hosts" in fault["hint"]
    assert "`evil.example:8000`" in fault["detail"]
    named = guarded(predictor, hosts="evil.example")
    assert ask(named, method, path, headers=REBOUND, **more).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_are_answered_by_any_name(predictor: Predictor, path: str) -> None:
    assert ask(guarded(predictor), "GET", path, headers=REBOUND).status_code == 200


def test_a_browser_is_shown_a_page_with_its_style(predictor: Predictor) -> None:
    app = guarded(predictor)
    page = ask(app, "GET", "/", headers=BROWSER | REBOUND)
    assert (page.status_code, page.headers["content-type"]) == (421, "text/html; charset=utf-8")
    assert "serve.hosts" in page.text
    style = page.text.partition('rel="stylesheet" href="')[2].partition('"')[0]
    assert ask(app, "GET", style, headers=REBOUND).status_code == 200


def test_a_service_as_it_starts(served: Settings) -> None:
    """It is asked by its address; a request of another name is refused and logged, one without a name is answered."""
    with serving(served) as service:
        assert service.predict(GOOD).status_code == 200
        assert service.predict(GOOD, headers=REBOUND).status_code == 421
        with socket.create_connection(("127.0.0.1", service.port), timeout=60) as old:
            old.sendall(b"GET /v1/model HTTP/1.0\r\n\r\n")
            assert old.makefile("rb").readline().split()[1] == b"200"
        service.wait_for(lambda: len(service.requests) == 3)
        assert [line["status"] for line in service.requests] == [200, 421, 200]
        assert 'route="/v1/predict",status="421"' in service.get("/metrics").text.replace('method="POST",', "")


@pytest.mark.parametrize("setting", ["hosts=http://a", "trusted_proxies=a", "cors_origins=a"])
def test_a_setting_that_cannot_be_ends_the_start(served: Settings, setting: str) -> None:
    with serving(served, "--set", f"serve.{setting}", wait=False) as service:
        assert service.process.wait(60) == 3
        assert f"serve.{setting.partition('=')[0]}" in service.err
