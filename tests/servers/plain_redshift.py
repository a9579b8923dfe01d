"""PostgreSQL that looks like Redshift to a driver: a proxy that says 8.0.2, and notices a COPY.

It has neither Redshift's own SQL nor its planner: that a statement works here is no proof that it works there.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from server_process import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

_SSL, _GSS = 80877103, 80877104
_COPY = re.compile(rb"\x00?COPY \(|COPY .* TO STDOUT", re.IGNORECASE)


class Proxy:
    """Between clients and a PostgreSQL server."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self.copied = False
        """Whether a client asked for COPY."""
        self.sent = bytearray()
        """What clients sent."""
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection((HOST, self._behind)) as server:
            while True:  # until the client gives up asking for encryption
                head = _exactly(client, 8)
                size, code = struct.unpack(">II", head)
                if code not in {_SSL, _GSS}:
                    break
                client.sendall(b"N")
            server.sendall(head + _exactly(client, size - 8))
            threading.Thread(target=self._from_client, args=(client, server), daemon=True).start()
            while True:
                head = _exactly(server, 5)
                body = _exactly(server, struct.unpack(">I", head[1:])[0] - 4)
                if head[:1] == b"S" and body.startswith(b"server_version\0"):
                    body = b"server_version\x008.0.2\x00"
                    head = b"S" + struct.pack(">I", len(body) + 4)
                client.sendall(head + body)

    def _from_client(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                self.sent += data
                self.copied |= bool(_COPY.search(data))
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        piece = connection.recv(count - len(parts))
        if not piece:
            raise ConnectionResetError
        parts += piece
    return bytes(parts)


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """A proxy in front of the server at a port."""
    made = Proxy(port)
    try:
        yield made
    finally:
        made.listener.close()
