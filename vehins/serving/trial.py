"""A bundle is opened in a process of its own before the service opens it: nobody misses that one if it dies.

LightGBM's parser kills the process on most model texts that are cut short, and a bundle may hold such a text with the
hashes that fit it. So the first to open a bundle on a machine is a child with low priority; that it lived and gave the
golden rows is noted beside the copy, so that the other workers and the next start are spared the trial.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING

from vehins import __version__
from vehins.artifacts.files import write_atomically
from vehins.errors import BundleRefusedError, UnreachableError
from vehins.registry.locks import locked

if TYPE_CHECKING:
    from collections.abc import Callable

_NICENESS = 5
_SECONDS = 300.0
_REFUSED, _UNFINISHED = 4, 75  # exit codes
_HINT = "Point the alias to another version (`vehins models list`), or train anew: `vehins pipeline run`."


def passed(folder: Path) -> bool:
    """Whether the bundle of this digest has been opened here before, by the same code."""
    try:
        return mark_of(folder).read_text(encoding="utf-8") == _code()
    except (OSError, UnicodeDecodeError):
        return False


def mark_of(folder: Path) -> Path:
    """The file that says so; the folder is named by the digest, so that it can speak of no other bundle."""
    return folder.with_name(f"{folder.name}.tried")


def run(folder: Path, is_over: Callable[[], bool]) -> None:
    """Open a bundle in another process, unless that has been done; one of several processes does so at a time.

    ``is_over`` tells that nobody waits for it any longer.

    Raises:
        BundleRefusedError: the bundle is not what it was, gives other answers, or kills who opens it.
        UnreachableError: the trial did not come to an end.
        LockedError: another process tries it for too long.
    """
    if passed(folder):
        return
    with locked(folder.with_name(f".{folder.name}.trial.lock"), 2 * _SECONDS):
        if not passed(folder):
            _try(folder, is_over)
            with suppress(OSError):  # a full disk: then the next one tries it again
                write_atomically(mark_of(folder), _code().encode())


def _code() -> str:
    return f"vehins {__version__}, lightgbm {version_of('lightgbm')}, {platform.system()} {platform.machine()}"


def _try(folder: Path, is_over: Callable[[], bool]) -> None:
    # -P: no module of the folder that the service happens to be started in takes the place of a real one.
    command = [sys.executable, "-P", "-m", __name__, str(folder)]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("VEHINS_", "AWS_"))}
    with subprocess.Popen(  # noqa: S603 - the folder is named by a digest
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        try:
            out = _ended(child, is_over)
        finally:
            child.kill()
    _judge(folder, child.returncode, out)


def _ended(child: subprocess.Popen[bytes], is_over: Callable[[], bool]) -> bytes:
    deadline = time.monotonic() + _SECONDS
    while not is_over() and time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            return child.communicate(timeout=0.2)[0]
    raise _unfinished(f"It was given up after {_SECONDS:.0f} s.")


def _judge(folder: Path, code: int, out: bytes) -> None:
    if code == 0:
        return
    if code == _REFUSED:
        raise BundleRefusedError(**json.loads(out))
    if code == _UNFINISHED:
        raise _unfinished("It lacked memory, a file or a library.")
    if code in (-signal.SIGTERM, -getattr(signal, "SIGKILL", 9)):  # somebody's, or the system's when memory is short
        raise _unfinished(f"It was ended by signal {-code}.")
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    raise BundleRefusedError(
        f"The model bundle {folder} was refused",
        detail=f"A process that opened it on trial ended {how}.",
        hint=_HINT,
    )


def _unfinished(detail: str) -> UnreachableError:
    return UnreachableError("The trial of a bundle came to no end", detail=detail, hint="It is tried again.")


def main() -> int:
    """Open the bundle in a folder; what is wrong with it is written to stdout as JSON."""
    from vehins.model.bundle import Bundle

    with suppress(OSError, AttributeError):
        os.nice(_NICENESS)
    try:
        Bundle(Path(sys.argv[1]), 1)
    except BundleRefusedError as error:
        told = {"headline": error.headline, "detail": error.detail, "hint": error.hint}
        sys.stdout.write(json.dumps(told))
        return _REFUSED
    except (ImportError, MemoryError, OSError):  # of this machine at this moment, not of the bundle
        return _UNFINISHED
    return 0


if __name__ == "__main__":
    sys.exit(main())
