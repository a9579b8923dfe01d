"""The machine: two slots, the containers in them, and the state file that says which one serves."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vehins.cloud.box.deploy import labels
from vehins.cloud.box.deploy.docker import Docker
from vehins.cloud.box.deploy.errors import FailureError, say, until
from vehins.cloud.box.deploy.haproxy import HAProxy, ready
from vehins.cloud.box.deploy.settings import SLOTS, Settings
from vehins.cloud.box.deploy.state import Deployment, State

CONTAINER_PORT = 8000
_ATTEMPTS = 3
_TAIL, _WIDTH = 15, 500  # lines of a container's log, and characters of a line: what is told of it has an end
_SEEN_SECONDS = 30  # for HAProxy to look at a server


class Machine:
    """What the settings name, with the state that the last deployment left."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        patience = settings.number("DAEMON_SECONDS")
        self.docker = Docker(settings["DOCKER"], patience)
        self.haproxy = HAProxy(settings["HAPROXY_SOCKET"], patience)
        self.state = State(Path(settings["STATE"]))

    def free_slot(self) -> str:
        """The slot that does not serve."""
        current = self.state.current
        return next(slot for slot in SLOTS if not current or slot != current.slot)

    # --- One container ---

    def create(self, it: Deployment) -> None:
        """Make its container: nothing to write to but its cache and /tmp, no rights, bounded memory."""
        pinned = [] if it.version == "production" else ["--env", f"VEHINS_SERVE_VERSION={it.version}"]
        memory = self.settings["MEMORY"]
        try:
            self.docker(
                *("create", "--name", it.container, *labels.options(it, self.state.before(it)), "--restart", "no"),
                *("--read-only", "--tmpfs", "/tmp:size=64m,mode=1777", "--volume", "vehins-cache:/var/lib/vehins"),  # noqa: S108
                *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", self.settings["USER"]),
                *("--memory", memory, "--memory-swap", memory, "--pids-limit", "256"),
                *("--publish", f"127.0.0.1:{self.settings.ports[it.slot]}:{CONTAINER_PORT}"),
                *("--env-file", self.settings["SERVE_ENV"], "--env", f"VEHINS_SERVE_PORT={CONTAINER_PORT}", *pinned),
                *self.settings.log_options(it.container),
                it.image_id,
            )
        except FailureError as error:  # asked twice, as the daemon restarted after it had done so
            if "is already in use" not in str(error):
                raise

    def start(self, it: Deployment) -> None:
        """Start its container; again, if the daemon went away over it, which its answer does not always tell."""
        for _ in range(_ATTEMPTS - 1):
            try:
                self.docker("start", it.container)
            except FailureError as error:
                if error.code == 6:
                    raise
                if "port is already allocated" in str(error):
                    self._release(self.settings.ports[it.slot])
                time.sleep(1)
            else:
                return
        self.docker("start", it.container)

    def _release(self, port: int) -> None:
        """Let Docker forget that a port is taken, where no container has it.

        A daemon that was killed while it started one keeps its port; one that ends well does not. What serves lives on.
        """
        if not self.docker("ps", "--quiet", "--filter", f"publish={port}"):
            say(f"Docker holds port {port} for a container that is gone: its daemon is restarted")
            self.docker.restart(self.settings["DOCKER_RESTART"])

    def permanent(self, it: Deployment) -> None:
        """Let its container come back after a crash and a reboot."""
        self.docker("update", "--restart", labels.KEPT, it.container)

    def wait_ready(self, it: Deployment, *, apart: bool = False) -> int:
        """The version that it answers with, once it does; HAProxy sends what is ``apart`` no requests until then."""
        found: list[int] = []
        told = ""

        def check() -> bool:
            nonlocal told
            if apart:  # again and again: a HAProxy that has restarted lets every slot serve
                self.haproxy.put(it.slot, "maint")
            version, told = ready(self.settings.ports[it.slot])
            if version is not None:
                found.append(version)
                return True
            code = self.docker.exit_code(it.container)
            if code is not None:
                raise FailureError(f"The container ended with exit code {code}.")
            return False

        seconds = self.settings.number("READY_SECONDS")
        if not until(check, seconds, 0.2):
            raise FailureError(f"Not ready within {seconds:g} s: {told}.")
        if it.version != "production" and found[0] != int(it.version):
            raise FailureError(f"/readyz answers with version {found[0]}, not {it.version}.")
        return found[0]

    def log_tail(self, it: Deployment) -> str:
        """The end of its log, without the secrets that it was given."""
        try:
            text = self.docker("logs", "--tail", str(_TAIL), it.container)
        except FailureError as error:
            return f"({error})"
        for secret in self.settings.secrets():
            text = text.replace(secret, "***")
        return "\n".join(line if len(line) <= _WIDTH else f"{line[:_WIDTH]}..." for line in text.rstrip().splitlines())

    # --- HAProxy and the slots ---

    def admit(self, slot: str) -> None:
        """Let HAProxy send requests there, and wait until it does."""
        self.haproxy.put(slot, "ready")
        if not until(lambda: self.is_up(slot), _SEEN_SECONDS):
            raise FailureError(f"HAProxy does not see {slot} up: {self.haproxy.look(slot)['check_desc']}.")

    def is_up(self, slot: str) -> bool:
        """Whether HAProxy sends requests there."""
        return self.haproxy.look(slot)["status"].startswith("UP")

    def drain(self, slot: str) -> None:
        """Let HAProxy send no more requests there, and wait for those under way."""
        self.haproxy.put(slot, "drain")
        seconds = self.settings.number("DRAIN_SECONDS")
        if not until(lambda: self.haproxy.look(slot)["scur"] == "0", seconds):
            say(f"requests in {slot} are still under way after {seconds:g} s; they get no more time")
        self.haproxy.put(slot, "maint")

    def containers(self) -> list[tuple[str, str]]:
        """Name and slot of every container of ours, running or not."""
        told = self.docker(
            *("ps", "--all", "--filter", f"label={labels.SLOT}"),
            *("--format", f'{{{{.Names}}}} {{{{.Label "{labels.SLOT}"}}}}'),
        )
        return [(name, slot) for name, _, slot in (line.partition(" ") for line in told.splitlines())]

    # --- The machine as the state file has it ---

    def reconcile(self) -> None:
        """Let the current deployment serve, and nothing else; where it does not serve, what answers in its place."""
        if not self._serves() and (found := self.found()):
            say(f"{found[0].container} is what serves, by what Docker keeps running")
            self.state.found(*found)
            self._serves()
        current = self.state.current
        for name, slot in self.containers():
            if not current or name != current.container:
                self._retire(name, slot, serves=bool(current and slot == current.slot))

    def found(self) -> tuple[Deployment, Deployment | None] | None:
        """What serves beside what should, and what to go back to from there, as Docker has it.

        That is the youngest container of ours that Docker keeps running and that answers; where no other should serve,
        it need not answer yet.
        """
        current, found = self.state.current, []
        for name, slot in self.containers():
            container = self.docker.inspect(name)
            if not container or not labels.is_kept(container) or (current and name == current.container):
                continue
            version = ready(self.settings.ports[slot])[0] if container["State"]["Running"] else None
            if version is not None or not current:
                it, previous = labels.told_by(container)
                found.append((replace(it, model_version=version), previous))
        return max(found, key=lambda it: (it[0].model_version is not None, it[0].since), default=None)

    def unsettled(self) -> bool:
        """Whether a run has ended before its end."""
        current = self.state.current
        others = [name for name, _ in self.containers() if not current or name != current.container]
        return bool(others or self.state.pending)

    def _serves(self) -> bool:
        """Let the current deployment serve; tells whether it does."""
        if self.state.current is None:
            return False
        try:
            self._revive(self.state.current)
        except FailureError as error:
            if error.code == 6:
                raise
            say(f"what should serve does not: {error}")
            return False
        return True

    def _revive(self, current: Deployment) -> None:
        if self.docker.exit_code(current.container) is not None:
            if (current.container, current.slot) not in self.containers():
                self.create(current)
            say(f"starting {current.container} again, which had ended")
            self.start(current)
            self.wait_ready(replace(current, version="production"))
        self.permanent(current)
        self.admit(current.slot)

    def _retire(self, name: str, slot: str, *, serves: bool) -> None:
        asked = not serves and self.haproxy.look(slot)["status"] != "MAINT"
        self.docker.tolerant("update", "--restart", "no", name)
        if asked:
            self.drain(slot)
        self.docker.remove(name, self.settings.number("STOP_SECONDS") if asked else None)

    def forget_images(self) -> None:
        """Remove images that no deployment has any more, those of failed and killed ones too: else the disk fills."""
        gone = []
        for image_id in self.state.unused():
            try:
                self.docker.tolerant("image", "rm", "--force", image_id)
                gone.append(image_id)
            except FailureError as error:  # the next run tries again
                say(f"an image stays: {error}")
        if gone:
            with suppress(OSError):  # the disk is full: they are forgotten next time
                self.state.removed(gone)

    def status(self) -> dict[str, Any]:
        """What runs."""
        if self.state.current is None and (serving := self.found()):
            self.state.current, self.state.previous = serving
        current = self.state.current
        found = self.containers()
        slots: dict[str, dict[str, Any]] = {
            slot: {
                "haproxy": self.haproxy.look(slot)["status"],
                "containers": [name for name, where in found if where == slot],
                "model_version": ready(port)[0],
            }
            for slot, port in self.settings.ports.items()
        }
        healthy = bool(
            current and slots[current.slot]["haproxy"].startswith("UP") and slots[current.slot]["model_version"]
        )
        return {"healthy": healthy, **self.state.as_dict(), "slots": slots}


def name_of(slot: str) -> tuple[str, str]:
    """An id, and a name that no other run gives its container, not even what a killed run has left behind."""
    fresh = secrets.token_hex(4)
    return fresh, f"vehins-{slot}-{fresh}"
