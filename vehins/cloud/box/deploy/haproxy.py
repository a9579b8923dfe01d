"""HAProxy, and what it asks of a server."""

from __future__ import annotations

import csv
import http.client
import json
import socket
import time

from vehins.cloud.box.deploy.errors import FailureError

BACKEND = "vehins"  # in haproxy.cfg
_READY_SECONDS = 10  # for one answer: a busy machine is late, and not ill


class HAProxy:
    """HAProxy, by its runtime interface."""

    def __init__(self, path: str, patience: float) -> None:
        self._path, self._patience = path, patience

    def ask(self, command: str) -> str:
        """Its answer; a HAProxy that restarts is waited for."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return self._ask(command)
            except OSError as error:
                if time.monotonic() >= deadline:
                    text = f"HAProxy does not answer at {self._path} ({error.strerror}): `systemctl status haproxy`."
                    raise FailureError(text, 6) from None
                time.sleep(0.2)

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(self._path)
            connection.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def put(self, slot: str, state: str) -> None:
        """Make a server ready, drain or maint."""
        told = self.ask(f"set server {BACKEND}/{slot} state {state}").strip()
        if told:
            raise FailureError(f"HAProxy does not put {BACKEND}/{slot} into {state}: {told}", 6)

    def look(self, slot: str) -> dict[str, str]:
        """A server's line of `show stat`."""
        for line in csv.DictReader(self.ask("show stat").lstrip("# ").splitlines()):
            if (line["pxname"], line["svname"]) == (BACKEND, slot):
                return line
        raise FailureError(f"HAProxy has no server {BACKEND}/{slot}: compare haproxy.cfg.", 6)


def ready(port: int) -> tuple[int | None, str]:
    """The version that /readyz answers with, or why there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_READY_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read(65536)
        if answer.status != 200:
            return None, f"/readyz answers {answer.status}"
        return int(json.loads(body)["model"]["version"]), ""
    except (OSError, http.client.HTTPException) as error:
        return None, f"/readyz does not answer ({error or type(error).__name__})"
    except (ValueError, KeyError, TypeError):
        return None, "/readyz names no version of a model"
    finally:
        connection.close()
