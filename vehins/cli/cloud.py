"""``vehins cloud``: the stack in AWS, seen before it changes, and what runs on its box."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from vehins.cli.command import Call, command
from vehins.cli.terminal import make_table, plain

if TYPE_CHECKING:
    from vehins.cloud.account import Account
    from vehins.cloud.changes import Change, Proposal
    from vehins.cloud.deployment import Answer
    from vehins.cloud.stack import Event, Stack

app = typer.Typer(no_args_is_help=True)

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking; scripts have to say so.")]
Version = Annotated[str, typer.Argument(help="Version of the model: a number, or `production` to follow that alias.")]
Image = Annotated[
    str | None,
    typer.Option("--image", help="Tag or digest of the image in the stack's registry; by default what runs."),
]
Here = Annotated[bool, typer.Option("--here", help="Call the box's own script: this machine is the box.")]
DeleteModels = Annotated[
    bool, typer.Option("--delete-models", help="Delete the bucket too, with all versions of all models.")
]
KeepModels = Annotated[bool, typer.Option("--keep-models", help="Leave the bucket with its models where it is.")]
Confirm = Annotated[
    str | None, typer.Option("--confirm", metavar="NAME", help="Name of the stack, to delete its models.")
]
_COLUMNS = ("Action", "Resource", "Type", "Replaced", "Because of")


# --- The stack --------------------------------------------------------------------------------------------------------


@command(app)
def plan(call: Call) -> None:
    """Show what `vehins cloud up` would add, change, replace and remove; nothing is changed."""
    from vehins.artifacts.files import sha256_bytes
    from vehins.cloud import changes, files, stack, template

    account = _account(call)
    found = stack.find(account)
    stack.check_can_change(account, found)
    template.check_bucket(account.cloud, found)
    wanted = template.foundation(account.settings)
    if account.cloud.box:
        wanted = template.with_box(account, sha256_bytes(files.archive()))
    with call.terminal.live() as show:
        show("Working out the changes")
        proposal = changes.propose(account, wanted, found)
        if not proposal.is_nothing:
            changes.withdraw(account, proposal)
    call.terminal.table(_COLUMNS, _rows(proposal.changes), title=f"Changes of {account.stack}")
    _remark(call, proposal)
    listed = [change.as_dict() for change in proposal.changes]
    call.terminal.data({"stack": account.stack, "new": proposal.is_new, "changes": listed})


@command(app)
def up(call: Call, yes: Yes = False) -> None:
    """Make the stack, or bring it up to date: show each change, ask, carry it out, and tell how it goes."""
    from vehins.cloud import files, secret_parameters, stack, template

    account = _account(call)
    found = stack.find(account)
    stack.check_can_change(account, found)
    template.check_bucket(account.cloud, found)
    work = _Work(call, account, yes)
    if account.cloud.box:
        template.check_box(account.cloud)
        secret_parameters.check(account.settings)
    if not account.cloud.box or found is None or found.is_empty:
        found = work.change(template.foundation(account.settings), found, before=list)
    if account.cloud.box:
        bucket = account.cloud.bucket or found.output("BucketName")
        wanted = template.with_box(account, files.put(account, bucket, files.archive()))
        found = work.change(wanted, found, before=lambda: secret_parameters.put_all(account))
    for name, value in sorted(found.outputs.items()):
        call.terminal.say(f"{plain(name):<18} {plain(value)}")
    facts = {"stack": account.stack, "status": found.status, "outputs": found.outputs}
    changed = [change.as_dict() for change in work.changed]
    call.terminal.data({**facts, "changes": changed, "secrets": work.secrets})


class _Work:
    """The changes of one call of `up`."""

    def __init__(self, call: Call, account: Account, yes: bool) -> None:
        self._call, self._account, self._yes = call, account, yes
        self.changed: list[Change] = []
        self.secrets: list[str] = []

    def change(self, wanted: dict[str, str], found: Stack | None, before: Callable[[], list[str]]) -> Stack:
        """Show what would change, ask, write the secrets (``before`` names them), and carry it out."""
        from vehins.cloud import changes, stack

        terminal = self._call.terminal
        proposal = changes.propose(self._account, wanted, found)
        if proposal.is_nothing:
            terminal.say(f"{self._account.stack} is up to date")
            self._write(before)
            return stack.existing(self._account)
        terminal.console.print(make_table(_COLUMNS, [[plain(cell) for cell in row] for row in _rows(proposal.changes)]))
        _remark(self._call, proposal)
        try:
            _confirm(self._call, self._account, self._yes, "vehins cloud up --yes")
        except BaseException:
            changes.withdraw(self._account, proposal)
            raise
        self._write(before)
        with _goes_on(self._call):
            done = changes.carry_out(self._account, proposal, lambda event: _tell(self._call, event))
        self.changed += proposal.changes
        return done

    def _write(self, before: Callable[[], list[str]]) -> None:
        for name in before():
            self._call.terminal.say(f"Written: {plain(name)} (a secret)")
            self.secrets.append(name)


def _rows(changes: Iterable[Change]) -> list[tuple[str, ...]]:
    return [
        (
            change.action,
            change.name,
            change.kind.removeprefix("AWS::"),
            "" if change.replaced == "no" else change.replaced.upper(),
            ", ".join(change.because),
        )
        for change in changes
    ]


def _remark(call: Call, proposal: Proposal) -> None:
    """Say loudly what is not there any more afterwards, and what an empty table means."""
    if not proposal.changes and not proposal.is_nothing:
        call.terminal.say("No resource changes, only the outputs of the stack")
    for change in proposal.lost:
        how = {"yes": "is REPLACED", "perhaps": "is perhaps REPLACED"}.get(change.replaced, "is REMOVED")
        what = "; the service is down until the new one has started" if change.kind == "AWS::EC2::Instance" else ""
        call.terminal.say(f"[bold red]Attention:[/] {plain(change.name)} {how}{what}")


def _tell(call: Call, event: Event) -> None:
    line = f"{event.at}  {event.resource:<20} {event.status:<28} {event.reason}"
    call.terminal.say(plain(line.rstrip()))


@contextmanager
def _goes_on(call: Call) -> Iterator[None]:
    """At Ctrl-C, say that AWS does not stop with us."""
    try:
        yield
    except KeyboardInterrupt:
        call.terminal.say("What has begun in AWS goes on: `vehins cloud status` shows what came of it")
        raise


def _confirm(call: Call, account: Account, yes: bool, how: str) -> None:
    """Have a person type the name of the stack.

    Raises:
        UsageError: there is nobody to ask and `--yes` is missing, or something else was typed.
    """
    from vehins.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "Nothing was changed: nobody has said yes",
            detail="There is no terminal to ask at.",
            hint=f"`{how}` does it without asking.",
        )
    call.terminal.err(f"Type {account.stack} to go on:")
    if sys.stdin.readline().strip() != account.stack:
        raise UsageError("Nothing was changed: that is not the name of the stack", hint=f"`{how}` does not ask.")


@command(app)
def down(
    call: Call,
    yes: Yes = False,
    keep_models: KeepModels = False,
    delete_models: DeleteModels = False,
    confirm: Confirm = None,
) -> None:
    """Remove the stack; its bucket stays, and models are deleted only if that is said twice."""
    from vehins.cloud import removal, stack

    account = _account(call)
    found = stack.existing(account)
    bucket, count = removal.holding(account, found)
    _check_models(account, count, keep=keep_models, delete=delete_models)
    if delete_models:
        _check_name(call, account, confirm, count)
    else:
        _confirm(call, account, yes, "vehins cloud down --yes")
    with _goes_on(call):
        removal.remove(account, found, lambda event: _tell(call, event))
    deleted = removal.delete_bucket(account, bucket) if bucket and delete_models else 0
    end = f"is deleted with {deleted:,} objects" if delete_models else f"stays, with {count:,} versions of models"
    call.terminal.say(f"{account.stack} is gone; the bucket {plain(bucket)} {end}" if bucket else "It is gone")
    if bucket and not delete_models:
        call.terminal.say(f"To use it again: vehins cloud up --set cloud.bucket={plain(bucket)}")
    kept = None if delete_models else bucket
    call.terminal.data(
        {"stack": account.stack, "removed": True, "bucket": kept, "models": 0 if delete_models else count}
    )


def _check_models(account: Account, count: int, *, keep: bool, delete: bool) -> None:
    from vehins.errors import UsageError

    if keep and delete:
        raise UsageError("`--keep-models` and `--delete-models` exclude each other", hint="`vehins cloud down --help`.")
    if count and not keep and not delete:
        raise UsageError(
            f"The bucket of {account.stack} has {count:,} versions of models",
            detail="Nothing was removed.",
            hint="`vehins cloud down --keep-models` leaves the bucket with them where it is; "
            f"`vehins cloud down --delete-models --confirm {account.stack}` deletes them for ever.",
        )


def _check_name(call: Call, account: Account, given: str | None, count: int) -> None:
    """Deleting models has to be said twice: by the option, and by the name of the stack."""
    from vehins.errors import UsageError

    how = f"vehins cloud down --delete-models --confirm {account.stack}"
    if given is None:
        call.terminal.say(f"[bold red]Attention:[/] {count:,} versions of models are deleted for ever")
        _confirm(call, account, False, how)
    elif given != account.stack:
        raise UsageError(
            f"`--confirm {given}` is not the name of the stack", detail="Nothing was removed.", hint=f"`{how}`."
        )


# --- What runs on it --------------------------------------------------------------------------------------------------


@command(app)
def status(call: Call) -> None:
    """Show the stack, its box, the image and model version that run, and the alarms."""
    from vehins.cloud import overview, stack

    account = _account(call)
    found = overview.overview(account, stack.existing(account))
    box, runs = found["instance"], found["deployed"]
    rows = [("stack", f"{found['stack']}: {found['status']}")]
    if box:
        rows.append(("box", f"{box['id']} ({box['type']}): {box['state']}; Systems Manager: {box['connected']}"))
        rows.append(("address", box["address"]))
        rows.append(("image", runs.get("image", "none yet")))
        rows.append(("model version", str(runs.get("model_version", runs.get("version", "none yet")))))
    rows += [(f"alarm {name}", state) for name, state in found["alarms"].items()]
    rows += sorted(found["outputs"].items())
    call.terminal.table(("What", "Value"), rows)
    call.terminal.data(found)


@command(app)
def deploy(call: Call, version: Version, image: Image = None, here: Here = False) -> None:
    """Let the box serve a model version and an image; it goes back by itself where they do not become ready."""
    from vehins.cloud import deployment

    account = _account(call)
    deployment.check_version(version)
    if here:
        wanted = deployment.whole_reference(image) if image else deployment.running_here(account.cloud)
        _run_here(call, account, wanted, version)
        return
    found = deployment.box_of(account)
    reference = deployment.image_reference(account, found, image)
    with _goes_on(call), call.terminal.live() as show:
        show(f"The box starts version {version} of {reference}")
        answer = deployment.over_ssm(account, found, "deploy", reference, version)
    _conclude(call, answer, lambda: deployment.over_ssm(account, found, "status"))


@command(app)
def rollback(call: Call, here: Here = False) -> None:
    """Let the box serve again what ran before; a second time, it is the other way round."""
    from vehins.cloud import deployment

    account = _account(call)
    if here:
        _run_here(call, account, "rollback")
        return
    found = deployment.box_of(account)
    with _goes_on(call), call.terminal.live() as show:
        show("The box goes back to what ran before")
        answer = deployment.over_ssm(account, found, "rollback")
    _conclude(call, answer, lambda: deployment.over_ssm(account, found, "status"))


def _run_here(call: Call, account: Account, *words: str) -> None:
    from vehins.cloud import deployment

    def say(line: str) -> None:
        call.terminal.say(plain(line))

    answer = deployment.here(account.cloud, say, *words)
    _conclude(call, answer, lambda: deployment.here(account.cloud, say, "status"))


def _conclude(call: Call, answer: Answer, ask: Callable[[], Answer]) -> None:
    """Tell what serves now; see `deployment.outcome` for how it may have failed."""
    from vehins.cloud import deployment

    found = deployment.outcome(answer, ask)
    current = found.get("current") or {}
    version = current.get("model_version") or current.get("version")
    call.terminal.say(f"Version {plain(version)} of {plain(current.get('image'))} answers")
    call.terminal.data(found)


def _account(call: Call) -> Account:
    from vehins.cloud.account import Account

    return Account(call.settings())
