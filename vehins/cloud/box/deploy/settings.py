"""Settings of the box: names, defaults, and where they come from."""

from __future__ import annotations

import re
from pathlib import Path

from vehins.cloud.box.deploy.errors import FailureError

SLOTS = ("blue", "green")

SETTINGS = {
    "VEHINS_BOX_STATE": "/var/lib/vehins",  # folder of the state and the lock
    "VEHINS_BOX_SERVE_ENV": "/etc/vehins/serve.env",  # variables of the service, its API keys among them
    "VEHINS_BOX_REPOSITORY": "",  # images of this repository alone; empty allows any
    "VEHINS_BOX_DOCKER": "docker",  # the command, with its options
    "VEHINS_BOX_DOCKER_RESTART": "systemctl restart docker",  # containers live on: `live-restore` in daemon.json
    "VEHINS_BOX_HAPROXY_SOCKET": "/run/haproxy/admin.sock",
    "VEHINS_BOX_BLUE_PORT": "8001",  # as in haproxy.cfg
    "VEHINS_BOX_GREEN_PORT": "8002",
    "VEHINS_BOX_MEMORY": "1g",  # of the container; during a deployment there are two
    "VEHINS_BOX_USER": "10001:10001",  # in the container, whatever the image says
    "VEHINS_BOX_LOG_GROUP": "",  # of CloudWatch; empty keeps logs here, in rotation
    "VEHINS_BOX_LOCK_SECONDS": "0",  # to wait for another deployment
    "VEHINS_BOX_PULL_SECONDS": "600",
    "VEHINS_BOX_READY_SECONDS": "120",  # from the start of the container to a good answer
    "VEHINS_BOX_DRAIN_SECONDS": "35",  # for requests under way in the old container
    "VEHINS_BOX_STOP_SECONDS": "15",  # between SIGTERM and SIGKILL
    "VEHINS_BOX_DAEMON_SECONDS": "60",  # to wait for Docker or HAProxy that restarts
}

_SECRET = re.compile(r"KEY|SECRET|PASSWORD|TOKEN|CREDENTIAL")


def variables(path: Path) -> dict[str, str]:
    """The lines NAME=VALUE of a file, read as Docker reads them, but without quotes around a value."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith("#"):
            found[name.strip()] = value.strip().strip("\"'")
    return found


class Settings:
    """What SETTINGS names, from the environment, the file, or the default."""

    def __init__(self, environment: dict[str, str]) -> None:
        path = Path(environment.get("VEHINS_BOX_FILE", "/etc/vehins/box.env"))
        self._values = {**SETTINGS, **(variables(path) if path.exists() else {})}
        self._values |= {name: environment[name] for name in SETTINGS if name in environment}
        for name in SETTINGS:
            if name.endswith(("_SECONDS", "_PORT")):
                self.number(name.removeprefix("VEHINS_BOX_"))
        self.ports = {slot: int(self.number(f"{slot.upper()}_PORT")) for slot in SLOTS}

    def __getitem__(self, name: str) -> str:
        return self._values[f"VEHINS_BOX_{name}"]

    def number(self, name: str) -> float:
        """A setting that counts something."""
        try:
            found = float(self[name])
        except ValueError:
            found = -1
        if not found >= 0:  # nor is it what is no number
            raise FailureError(f"VEHINS_BOX_{name} is `{self[name]}`: it takes a number.", 3)
        return found

    def of_service(self) -> dict[str, str]:
        """The variables of the service."""
        path = Path(self["SERVE_ENV"])
        if not path.is_file():
            raise FailureError(f"{path} is not there: it holds the API keys of the service (VEHINS_API_KEYS=...).", 3)
        found = variables(path)
        if "VEHINS_SERVE_VERSION" in found:
            raise FailureError(
                f"{path} sets VEHINS_SERVE_VERSION, which is for the command to say: remove the line.", 3
            )
        return found

    def secrets(self) -> list[str]:
        """What no log may show: values of variables with a name that says so, and their parts; the longest first."""
        values = [value for name, value in self.of_service().items() if _SECRET.search(name)]
        parts = {part.strip() for value in values for part in [value, *value.split(",")]} - {""}
        return sorted(parts, key=len, reverse=True)

    def log_options(self, name: str) -> list[str]:
        """Where Docker puts the log of a container; `docker logs` shows the end of it in either case."""
        group = self["LOG_GROUP"]
        if not group:
            return ["--log-driver", "json-file", "--log-opt", "max-size=10m", "--log-opt", "max-file=5"]
        options = (f"awslogs-group={group}", f"awslogs-stream={name}", "mode=non-blocking", "max-buffer-size=4m")
        return ["--log-driver", "awslogs", *(word for option in options for word in ("--log-opt", option))]
