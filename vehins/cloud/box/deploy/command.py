"""vehins-deploy: let this machine serve another image or model version, without a failed request.

usage: vehins-deploy IMAGE VERSION    serve this image with this version of the model: a number, or `production`
                                      to follow that alias; an image is best named by digest or an immutable tag,
                                      and a digest alone (sha256:...) is one of VEHINS_BOX_REPOSITORY
       vehins-deploy rollback         go back to the image and version that ran before
       vehins-deploy status           tell what runs; changes nothing and does not wait
       vehins-deploy settle           the same, but first mend what a run has left that was killed, or cut short by a
                                      reboot; beside a deployment it only tells (`vehins-box report` calls it)

stdout gets one JSON object, the status after the command; stderr gets progress and, in the end, the reason:
  healthy    whether what should serve answers, and HAProxy sends it requests
  current    what serves: id, image, image_id, version (as asked for), model_version (as answered), slot, container,
             since
  previous   what `rollback` goes back to, or null
  last       the last deployment: action, image, version, outcome (done, failed, interrupted), reason, began, ended
  slots      per slot: what HAProxy says of it, and its containers
  locked_by  the deployment under way, or null

exit codes: 0  done (of `status` and `settle`: healthy)
            1  failed; what ran before still runs, or nothing did (of `status` and `settle`: not healthy)
            2  usage, or an image or a version that may not be
            3  configuration: a setting of box.env or serve.env cannot be, or this user may not; nothing was changed
            6  Docker or HAProxy is out of reach; nothing was changed
            7  another deployment is under way; it is named
            8  failed, and what ran before does not answer either: look at `status` and `docker logs`
          128+N  ended by signal N; what ran before still runs

HAProxy listens on the service port and has two servers, blue and green, each a port of 127.0.0.1. A deployment starts a
container in the free slot while HAProxy leaves that slot alone, waits until /readyz answers with the version, lets
HAProxy send it requests, and writes it into the state file: from then on it is what serves, and the old one is drained
and stopped. Whatever ends this script in between, each run first brings the machine in line with that file. Where the
file is lost or damaged, or what it names does not answer, that is what Docker keeps running and what answers.

Settings come from the environment, or else from /etc/vehins/box.env (VEHINS_BOX_FILE names another); their names and
defaults are in settings.py. Needs Python 3.11+ and the docker command alone; runs as root.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from vehins.cloud.box.deploy import actions
from vehins.cloud.box.deploy.errors import EndedError, FailureError, say
from vehins.cloud.box.deploy.lock import BUSY, holder, locked
from vehins.cloud.box.deploy.machine import Machine
from vehins.cloud.box.deploy.settings import Settings


def main() -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:]
    if words in (["--help"], ["-h"]):
        sys.stdout.write(__doc__)
        return 0
    try:
        return _run(words)
    except (FailureError, EndedError) as problem:
        say(str(problem))
        return problem.code
    except OSError as error:
        say(f"{error.filename or 'a file'}: {error.strerror}")
        return 3 if isinstance(error, PermissionError) else 1


def _run(words: list[str]) -> int:
    settings = Settings(dict(os.environ))
    lock = Path(settings["STATE"]) / "lock"
    if words == ["settle"]:
        _settle(settings, lock)
    if words in (["status"], ["settle"]):
        return _tell(Machine(settings), holder(lock))
    if words != ["rollback"]:
        if len(words) != 2:
            raise FailureError("usage: vehins-deploy IMAGE VERSION | rollback | status | settle (--help tells more)", 2)
        words[0] = actions.whole(words[0], settings["REPOSITORY"])
        actions.check(words[0], words[1], settings["REPOSITORY"])
    with _alone(lock, settings.number("LOCK_SECONDS"), words):
        machine = Machine(settings)
        if words == ["rollback"]:
            actions.rollback(machine)
        else:
            actions.deploy(machine, *words)
        _tell(machine, None)
    return 0


def _settle(settings: Settings, lock: Path) -> None:
    """Mend what a run has left; where there is nothing to mend, the lock is left to those who deploy."""
    if not Machine(settings).unsettled():
        return
    try:
        with _alone(lock, 0, ["settle"]):
            actions.prepare(Machine(settings))
    except (FailureError, OSError) as error:  # what runs is to be told all the same
        if getattr(error, "code", None) != BUSY:
            say(str(error))


@contextmanager
def _alone(lock: Path, seconds: float, words: list[str]) -> Iterator[None]:
    """Let no other run begin, and end in good order when told to."""
    lock.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with locked(lock, seconds, words):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end)
        yield


def _end(number: int, _: FrameType | None) -> None:
    raise EndedError(number)


def _tell(machine: Machine, locked_by: str | None) -> int:
    found = {**machine.status(), "locked_by": locked_by}
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0 if found["healthy"] else 1
