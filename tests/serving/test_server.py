"""The service behind a real socket: it starts, answers, stops well, and says why when it cannot start."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from service_process import serving
from serving_models import GOOD

from vehins.errors import ConfigurationError, UnreachableError, VehinsError
from vehins.serving import listener, predict, server, watcher

if TYPE_CHECKING:
    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings


def on_port(settings: Settings, port: int, host: str = "127.0.0.1", **more: Any) -> Settings:
    serve = settings.serve.model_copy(update={"host": host, "port": port, **more})
    return settings.model_copy(update={"serve": serve})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_serves_until_it_is_told_to_stop(
    served: Settings, predictor: Predictor, number: signal.Signals
) -> None:
    with serving(served) as service:
        with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:  # kept alive across the end
            response = client.post("/v1/predict", json={"rows": [GOOD]})
            assert response.json()["predictions"][0]["probability"] == predictor.predict([GOOD])[0].probability
            assert "server" not in response.headers
            too_large = client.post("/v1/predict", content=b" " * 30_000_000)
            assert (too_large.status_code, list(too_large.json())) == (413, ["error"])
            assert client.get("/readyz").status_code == 200
            assert service.stop(number) == 0
        with pytest.raises(httpx.ConnectError):
            service.get("/healthz")
    assert service.out == ""
    logged = service.log
    assert re.fullmatch(r"Version 1 answers now \(before: none\), after [.0-9]+ s", logged.pop(0)["message"])
    assert [(line["logger"], line["path"], line["status"]) for line in logged] == [
        ("vehins.access", "/v1/predict", 200),
        ("vehins.access", "/v1/predict", 413),
        ("vehins.access", "/readyz", 200),
    ]


def test_what_is_under_way_is_answered_before_the_end(
    served: Settings, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs in this process: the signal comes while a prediction is being made."""
    answers: list[int] = []
    plain = predict._answer

    def slow(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return plain(*given)

    def client(url: str) -> None:
        body = {"rows": [GOOD] * 500}  # enough to be answered aside
        answers.append(httpx.post(url + "/v1/predict", json=body, trust_env=False, timeout=60).status_code)

    monkeypatch.setattr(predict, "_answer", slow)
    threads: list[threading.Thread] = []

    def on_ready(url: str) -> None:
        threads.append(threading.Thread(target=client, args=(url,)))
        threads[0].start()

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    server.run(on_port(served, 0), on_ready)
    threads[0].join(60)
    assert answers == [200]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_before_the_start_is_enough(served: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = watcher.Watcher.start

    def signalled(self: watcher.Watcher) -> None:
        plain(self)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(watcher.Watcher, "start", signalled)
    server.run(on_port(served, 0), never)


def test_what_goes_wrong_when_ready_ends_the_service(served: Settings) -> None:
    ports: list[int] = []

    def on_ready(url: str) -> None:
        ports.append(int(url.rpartition(":")[2]))
        raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError):
        server.run(on_port(served, 0), on_ready)
    listener.listen("127.0.0.1", ports[0]).close()


def test_it_runs_in_a_thread_as_well(served: Settings) -> None:
    """Signals are the main thread's, so that what stops it here is an error."""
    seen: list[object] = []

    class EnoughError(Exception):
        pass

    def on_ready(url: str) -> None:
        seen.append(url)
        raise EnoughError

    def work() -> None:
        with pytest.raises(EnoughError):
            server.run(on_port(served, 0), on_ready)
        seen.append("stopped")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert seen[1:] == ["stopped"]


def never(url: str) -> None:
    raise AssertionError(url)


def test_a_port_in_use(served: Settings) -> None:
    with closing(listener.listen("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UnreachableError) as caught:
            server.run(on_port(served, port), never)
    assert caught.value.headline == f"Port {port} is in use"
    assert "`--port 8001`" in caught.value.hint


@pytest.mark.parametrize("host", ["not a host", "x" * 70, "192.0.2.1"])
def test_a_host_that_is_not_here(served: Settings, host: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        server.run(on_port(served, 0, host, allow_anonymous=True), never)
    assert host in caught.value.headline
    assert "`--host 127.0.0.1`" in caught.value.hint


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.EACCES, ConfigurationError, "--port 8000"),
        (errno.EPERM, ConfigurationError, "--port 8000"),
        (errno.ENOBUFS, UnreachableError, "--port 0"),
    ],
)
def test_what_the_system_forbids(
    monkeypatch: pytest.MonkeyPatch, number: int, kind: type[VehinsError], hint: str
) -> None:
    class Refusing(socket.socket):
        def bind(self, address: Any) -> None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(listener.socket, "socket", Refusing)
    with pytest.raises(kind) as caught:
        listener.listen("127.0.0.1", 80)
    assert "80" in caught.value.headline
    assert hint in caught.value.hint


def test_a_port_that_has_just_been_left_can_be_taken() -> None:
    with closing(listener.listen("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            first.setblocking(True)
            first.accept()[0].close()  # leaves the port waiting
    listener.listen("127.0.0.1", port).close()


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("::1", "[::1]"),
        ("::", "[::1]"),
    ],
)
def test_the_address_to_open(host: str, shown: str) -> None:
    if ":" in host and not _has_ipv6():
        pytest.skip("no IPv6 here")
    with closing(listener.listen(host, 0)) as found:
        assert listener.url(found) == f"http://{shown}:{found.getsockname()[1]}"


def _has_ipv6() -> bool:
    try:
        with closing(socket.socket(socket.AF_INET6)) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
