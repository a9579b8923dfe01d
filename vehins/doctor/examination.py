"""Checks, one after the other, each with a time limit; what a failure leaves untried is shown as such."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vehins.errors import ConfigurationError, VehinsError
from vehins.masking import redacted
from vehins.remote import probes
from vehins.remote.patience import TooSlow, patiently
from vehins.remote.probes import Check


@dataclass(frozen=True)
class Subject:
    """Something to be checked: the installation, or a store by its address."""

    name: str
    checks: Callable[[], Iterator[Check]]
    expected: tuple[str, ...] = ()
    """Names of its checks in order, where they are known."""
    independent: bool = False
    """Whether a failure says nothing of the checks behind it."""


class Finding(NamedTuple):
    """A check and what it was about."""

    subject: str
    check: Check

    def as_dict(self) -> dict[str, str]:
        """The finding as ``--json`` prints it."""
        name, verdict, found, mend, _ = self.check
        return {"subject": self.subject, "check": name, "verdict": verdict, "found": found, "mend": mend}


def examine(subjects: Iterable[Subject], patience: float, on_check: Callable[[str], None]) -> Iterator[Finding]:
    """Check every subject; none is left out because another fails.

    A check may take ``patience`` seconds. ``on_check`` is called with what is being checked.
    """
    for subject in subjects:
        seen = []
        for check in _checks(subject, patience, on_check):
            seen.append(check.name)
            yield Finding(subject.name, check._replace(found=redacted(check.found), mend=redacted(check.mend)))
        for name in subject.expected:
            if name not in seen:
                yield Finding(subject.name, Check(name, "skipped", "not tried"))


def _checks(subject: Subject, patience: float, on_check: Callable[[str], None]) -> Iterator[Check]:
    """The checks of a subject; where they build on each other, up to the first that fails."""
    steps = subject.checks()
    seen: list[str] = []
    while True:
        due = next((name for name in subject.expected if name not in seen), "checks")
        on_check(f"{subject.name}: {due}")
        check = _step(steps, due, patience)
        if check is None:
            return
        yield check
        if check.failed and not subject.independent:
            return
        seen.append(check.name)


def _step(steps: Iterator[Check], due: str, patience: float) -> Check | None:
    """The next check, or None after the last; whatever goes wrong in it makes it fail."""
    try:
        return patiently(lambda: next(steps, None), patience, cancel=lambda: None, cancel_when_slow=False)
    except TooSlow:
        mend = "Try again; where the store is just slow, give it more time: `--set remote.read_timeout=SECONDS`."
        return Check(due, "failed", f"no answer within {patience:g} seconds", mend)
    except VehinsError as error:
        return probes.failed(due, error)
    except Exception as error:  # a driver may raise anything, and the other stores are to be checked all the same
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        return Check(due, "failed", said, "This is a bug in vehins; report it.", VehinsError.exit_code)


def exit_code(findings: list[Finding]) -> int:
    """0 when nothing failed and every subject could be checked, else the class of the first that is not right."""
    failed = next((finding.check.exit_code for finding in findings if finding.check.failed), None)
    if failed is not None:
        return failed
    checked = {finding.subject for finding in findings if finding.check.verdict == "ok"}
    return 0 if checked == {finding.subject for finding in findings} else ConfigurationError.exit_code
