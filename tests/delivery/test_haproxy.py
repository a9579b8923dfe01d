"""HAProxy as it is set up on the box, before two small servers: what it sends again, and what it never does."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from server_process import answers, free_port, running, wait_until

from vehins.cloud import box

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = Path(box.__file__).with_name("haproxy.cfg")
READY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Slot:
    """A server that keeps what it is sent, and may drop predictions.

    It answers health checks after some seconds, but not as many as ``fails`` says of those after the first.
    """

    def __init__(self, *, drops: bool, seconds: float = 0, fails: int = 0) -> None:
        self.drops, self.seconds, self.fails, self.heads, self.checks = drops, seconds, fails, list[str](), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                head = connection.recv(65536).decode()
                if head.startswith("POST"):
                    self.heads.append(head)
                elif head:
                    time.sleep(self.seconds)
                    self.checks += 1
                is_dropped = self.drops if head.startswith("POST") else 1 < self.checks <= 1 + self.fails
                if not is_dropped:
                    connection.sendall(READY)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@contextmanager
def haproxy(folder: Path, blue: int, green: int) -> Iterator[str]:
    """HAProxy before two ports; gives its address."""
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy not installed (apt-get install haproxy)")
    if os.geteuid() != 0:
        pytest.skip("haproxy.cfg lets HAProxy change its user, which takes root")
    port = free_port()
    names = {"LISTEN": f"127.0.0.1:{port}", "HAPROXY_SOCKET": f"{folder}/s", "BLUE_PORT": blue, "GREEN_PORT": green}
    settings = {f"VEHINS_BOX_{name}": str(value) for name, value in names.items()}
    command = ["haproxy", "-db", "-f", str(CONFIG)]
    with running(command, folder / "haproxy.log", lambda: answers(port), {**os.environ, **settings}):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, as the path of a socket is bounded."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="vehins-") as name:
        yield Path(name)


def post(url: str) -> httpx.Response:
    return httpx.post(
        url + "/v1/predict", json={}, headers={"X-Forwarded-For": "192.0.2.7"}, trust_env=False, timeout=30
    )


def test_a_prediction_that_was_sent_is_not_sent_again(folder: Path) -> None:
    blue, green = Slot(drops=True), Slot(drops=True)
    with haproxy(folder, blue.port, green.port) as url:
        assert [post(url).status_code for _ in range(4)] == [502] * 4
    assert len(blue.heads) + len(green.heads) == 4
    blue.close()
    green.close()


def test_a_slot_without_anybody_costs_no_request(folder: Path) -> None:
    """Before a health check has told: the connection is refused, nothing was sent, and the other slot gets it."""
    green = Slot(drops=False)
    with haproxy(folder, free_port(), green.port) as url:
        assert [post(url).status_code for _ in range(6)] == [200] * 6
    assert len(green.heads) == 6
    assert all(head.lower().count("x-forwarded-for: 127.0.0.1") == 1 for head in green.heads)
    assert not any("192.0.2.7" in head for head in green.heads)
    green.close()


def test_a_slow_answer_to_a_health_check_takes_nobody_away(folder: Path) -> None:
    """The machine is busy, and no other slot could answer in its place."""
    blue = Slot(drops=False, seconds=1.5)
    with haproxy(folder, blue.port, free_port()) as url:
        wait_until(lambda: blue.checks >= 3)
        assert post(url).status_code == 200
    blue.close()


def test_a_moment_without_health_checks_takes_nobody_away(folder: Path) -> None:
    """A daemon that restarts sets the rules anew by which Docker's ports are reached."""
    blue = Slot(drops=False, fails=3)
    with haproxy(folder, blue.port, free_port()) as url:
        answers = set[int]()
        while blue.checks < 6:
            answers.add(post(url).status_code)
    assert answers == {200}
    blue.close()


def test_nobody_there_is_an_answer_in_the_shape_of_errors(folder: Path) -> None:
    with haproxy(folder, free_port(), free_port()) as url:
        answer = post(url)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert set(answer.json()) == {"error"}
