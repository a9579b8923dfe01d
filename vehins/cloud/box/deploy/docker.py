"""The docker command."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from typing import Any

from vehins.cloud.box.deploy.errors import FailureError


class Docker:
    """The docker command. What is asked of it may be asked twice: a daemon that restarts is waited for."""

    def __init__(self, command: str, patience: float) -> None:
        self._command, self._patience = shlex.split(command), patience

    def __call__(self, *words: str, seconds: float = 120) -> str:
        """What it prints on stdout; raises FailureError with the reason on stderr."""
        deadline = time.monotonic() + self._patience
        while True:
            code, printed, told = _outcome(f"docker {words[0]}", [*self._command, *words], seconds)
            if code == 0:
                return printed + told if words[0] == "logs" else printed
            if not re.search("Cannot connect to the Docker daemon|error during connect", told):
                reason = _reason(told) or f"exit code {code}"
                hint = "; free some: `docker image prune --all`" if "no space left on device" in reason else ""
                raise FailureError(f"docker {words[0]}: {reason}{hint}")
            if time.monotonic() >= deadline:
                raise FailureError("Docker does not answer: `systemctl status docker`.", 6)
            time.sleep(0.3)

    def restart(self, command: str) -> None:
        """Restart the daemon by a command, and wait until it answers."""
        code, _, told = _outcome(command, shlex.split(command), 120)
        if code:
            raise FailureError(f"`{command}`: {_reason(told) or f'exit code {code}'}", 6)
        self("version")

    def holds(self, image: str) -> str | None:
        """Id of an image that is here."""
        return self.tolerant("image", "inspect", "--format", "{{.Id}}", image)

    def exit_code(self, container: str) -> int | None:
        """How a container ended; None if it runs. One that is not there has failed."""
        told = self.tolerant("container", "inspect", "--format", "{{.State.Running}} {{.State.ExitCode}}", container)
        if told is None:
            return -1
        return None if told.startswith("true") else int(told.split()[1])

    def inspect(self, container: str) -> dict[str, Any] | None:
        """All that it says of a container; None for one that is not there."""
        told = self.tolerant("container", "inspect", container)
        return dict(json.loads(told)[0]) if told else None

    def tolerant(self, *words: str) -> str | None:
        """What it prints; None where what it is asked about is not there."""
        try:
            return self(*words).strip()
        except FailureError as error:
            if "no such" in str(error).lower():
                return None
            raise

    def remove(self, container: str, stop_seconds: float | None) -> None:
        """Stop a container, or kill it if it gets no seconds, and forget it; one that is not there is fine."""
        if stop_seconds is not None:
            self.tolerant("stop", "--time", f"{stop_seconds:.0f}", container)
        self.tolerant("rm", "--force", "--volumes", container)


def _reason(told: str) -> str:
    """What the daemon says, or else the last line; below it, docker tells where to find help, or which one it was."""
    lines = told.strip().splitlines()
    return next((line for line in lines if line.startswith("Error response from daemon")), lines[-1] if lines else "")


def _outcome(name: str, command: list[str], seconds: float) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command; messages call it by the name."""
    try:
        done = subprocess.run(  # noqa: S603 - a session of its own: Ctrl-C is for this script to deal with
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise FailureError(f"`{name}` did not end within {seconds:g} s.") from None
    except OSError as error:
        raise FailureError(f"`{name}` does not run ({error.strerror}): install docker.io.", 6) from None
    return done.returncode, done.stdout, done.stderr
