"""What the command does: deploy, go back, and end what another run has begun."""

from __future__ import annotations

import re
import signal
from dataclasses import replace

from vehins.cloud.box.deploy.errors import EndedError, FailureError, now, say
from vehins.cloud.box.deploy.haproxy import ready
from vehins.cloud.box.deploy.machine import Machine, name_of
from vehins.cloud.box.deploy.state import Deployment

_IMAGE = re.compile(r"[a-z0-9](?:[\w.:/-]*\w)?(?:@sha256:[0-9a-f]{64})?")
_VERSION = re.compile(r"production|[1-9][0-9]{0,8}")


def whole(image: str, repository: str) -> str:
    """The whole name of an image, of which a digest alone may have been given."""
    return f"{repository}@{image}" if repository and image.startswith("sha256:") else image


def check(image: str, version: str, repository: str) -> None:
    """Refuse what cannot be the name of an image or a version."""
    if not _IMAGE.fullmatch(image):
        raise FailureError(f"`{image}` is no name of an image.", 2)
    if repository and re.split(r"@|:(?!.*/)", image)[0] != repository:
        raise FailureError(f"`{image}` is not of {repository}, which alone may run here (VEHINS_BOX_REPOSITORY).", 2)
    if not _VERSION.fullmatch(version):
        raise FailureError(f"`{version}` is no version: name a number, or `production`.", 2)


def prepare(machine: Machine) -> None:
    """Whether all is there; then mend what a killed run has left."""
    machine.settings.of_service()
    machine.haproxy.ask("show info")
    machine.docker("version")
    if machine.state.lost:
        machine.state.renew()
    if machine.state.pending:
        machine.state.end("interrupted", "The run ended before it could tell.")
    machine.reconcile()
    machine.forget_images()  # before another one needs their place


def deploy(machine: Machine, image: str, version: str) -> None:
    """Let this image serve this version."""
    prepare(machine)
    machine.state.begin("deploy", image, version)
    try:
        image_id = machine.docker.holds(image) or _pull(machine, image)
        _replace(machine, image, image_id, version)
    except BaseException as problem:
        _go_back(machine, problem)
        raise


def rollback(machine: Machine) -> None:
    """Let what ran before serve again: the very image, even if its name means another one by now."""
    prepare(machine)
    before = machine.state.previous
    if before is None:
        raise FailureError("There is nothing to go back to: nothing ran before.", 1)
    machine.state.begin("rollback", before.image, before.version)
    try:
        image_id = machine.docker.holds(before.image_id) or _pull(machine, before.image)
        _replace(machine, before.image, image_id, before.version)
    except BaseException as problem:
        _go_back(machine, problem)
        raise


def _pull(machine: Machine, image: str) -> str:
    say(f"fetching {image}")
    machine.docker("pull", "--quiet", image, seconds=machine.settings.number("PULL_SECONDS"))
    found = machine.docker.holds(image)
    if found is None:
        raise FailureError(f"{image} is not here after it was fetched.")
    machine.state.fetched(found)
    return found


def _replace(machine: Machine, image: str, image_id: str, version: str) -> None:
    """Start it in the free slot; once it answers, let it serve and the other one go."""
    slot = machine.free_slot()
    fresh, container = name_of(slot)
    candidate = Deployment(fresh, image, image_id, version, slot, container)
    say(f"starting {image} with version {version} in {slot}")
    machine.haproxy.put(slot, "maint")
    try:
        machine.create(candidate)
        machine.start(candidate)
        found = machine.wait_ready(candidate, apart=True)
    except FailureError as error:
        raise FailureError(f"{error}\n{machine.log_tail(candidate)}", error.code) from None
    machine.admit(slot)
    machine.permanent(candidate)
    _undisturbed()  # told to end, it does not leave two that serve
    machine.state.commit(replace(candidate, model_version=found, since=now()))
    say(f"{slot} serves version {found}")
    _tidy(machine)


def _tidy(machine: Machine) -> None:
    """Let the old container go. It has been replaced already: what fails here, the next run mends."""
    try:
        machine.reconcile()
        machine.forget_images()
    except FailureError as error:
        say(f"the new one serves, but the old one is still there: {error}")


def _go_back(machine: Machine, problem: BaseException) -> None:
    """Bring the machine back to what ran before."""
    _undisturbed()
    state = machine.state
    if state.pending is None:  # it serves already
        return
    say("going back" if state.current else "taking it away again")
    try:
        state.end("failed", str(problem) or type(problem).__name__)
    except OSError as error:  # the disk is full: what the file says holds all the same
        say(f"the outcome could not be written down: {error.strerror}")
    try:
        machine.reconcile()
        machine.forget_images()
    except FailureError as error:
        say(f"not all of it could be taken away: {error}")
    if state.current and ready(machine.settings.ports[state.current.slot])[0] is None:
        raise FailureError(f"{problem}\nWhat ran before does not answer either.", 8) from problem
    if isinstance(problem, FailureError | EndedError):
        problem.code = problem.code if isinstance(problem, EndedError) else 1


def _undisturbed() -> None:
    """Let no signal but SIGKILL end what is left to do."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
