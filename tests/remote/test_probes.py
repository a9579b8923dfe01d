"""The way to a server, checked against real sockets: names, ports, certificates."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from server_process import free_port

from vehins.errors import CredentialsError, DataError
from vehins.remote import probes
from vehins.remote.probes import Check, failed, network, tls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def listening() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_an_open_port() -> None:
    with listening() as port:
        assert list(network("127.0.0.1", port, 60)) == [
            Check("DNS", "ok", "127.0.0.1 is 127.0.0.1"),
            Check("port", "ok", f"{port} is open"),
        ]


def test_a_closed_port() -> None:
    port = free_port()
    dns, closed = network("127.0.0.1", port, 60)
    assert dns.verdict == "ok"
    assert (closed.name, closed.verdict, closed.exit_code) == ("port", "failed", 6)
    assert closed.found == f"{port}: Connection refused"
    assert str(port) in closed.mend


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 64, "a..b"])
def test_a_name_that_nobody_has(host: str) -> None:
    (check,) = network(host, 1, 5)
    assert (check.name, check.verdict, check.exit_code) == ("DNS", "failed", 6)
    assert check.mend


def test_a_port_that_swallows_what_is_sent() -> None:
    """The backlog is full: no connection is refused, and none comes about."""
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        waiting = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(address)
            waiting.append(client)
        begin = time.monotonic()
        checks = list(network(*address, 0.3))
        assert time.monotonic() - begin < 30  # left alone, the system tries for two minutes
        for client in waiting:
            client.close()
    assert checks[-1].found == f"{address[1]}: timed out"


# --- TLS ----------------------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> Path:
    """A new certificate for a name, signed by itself, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = folder / "certificate.pem"
    kind = "IP" if name[0].isdigit() else "DNS"
    subject = ("-subj", "/CN=test", "-addext", f"subjectAltName={kind}:{name}", "-days", "1")
    command = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        path,
        "-out",
        folder / "cert",
        *subject,
    )
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    path.write_bytes(path.read_bytes() + (folder / "cert").read_bytes())
    return path


@contextmanager
def speaking_tls(context: ssl.SSLContext | None) -> Iterator[int]:
    """A server that shakes hands once; without a context, one that speaks something else."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            try:
                connection, _ = server.accept()
                with connection:
                    if context is None:
                        connection.sendall(b"220 hello\r\n")
                        connection.recv(1024)
                    else:
                        context.wrap_socket(connection, server_side=True).close()
            except OSError:
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(60)


def context_of(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    path = certificate(tmp_path, "127.0.0.1")
    with speaking_tls(context_of(path)) as port:
        check = tls("127.0.0.1", port, 60, str(path))
    assert check == Check("TLS", "ok", "TLSv1.3, certificate trusted")


@pytest.mark.parametrize(
    ("name", "trusted", "said"),
    [("127.0.0.1", False, "self-signed certificate"), ("other.example", True, "not valid for '127.0.0.1'")],
)
def test_a_certificate_that_is_not(name: str, trusted: bool, said: str, tmp_path: Path) -> None:
    path = certificate(tmp_path, name)
    with speaking_tls(context_of(path)) as port:
        check = tls("127.0.0.1", port, 60, str(path) if trusted else None)
    assert check.failed
    assert said in check.found
    assert "Trust the authority" in check.mend


def test_a_server_that_speaks_something_else() -> None:
    with speaking_tls(None) as port:
        check = tls("127.0.0.1", port, 60)
    assert check.failed
    assert "speaks TLS at this port" in check.mend


def test_a_file_of_authorities_that_is_not_there(tmp_path: Path) -> None:
    check = tls("127.0.0.1", 1, 5, str(tmp_path / "absent.pem"))
    assert check.failed
    assert check.found.endswith("absent.pem: No such file or directory")
    assert check.exit_code == 3


# --- Errors as checks ---------------------------------------------------------------------------------------------


def test_an_error_becomes_a_check() -> None:
    error = CredentialsError("No login", detail="It said no.", hint="Say who you are.")
    assert failed("login", error) == Check("login", "failed", "No login. It said no.", "Say who you are.", 3)
    assert failed("rows", DataError("Odd rows")) == Check("rows", "failed", "Odd rows", "", 4)
    assert not Check("x", "skipped", "y").failed
    assert probes.Check("x", "failed", "y").exit_code == 6
