"""What every command shares: the common options, errors as three lines or one object, and the exit code."""

from __future__ import annotations

import functools
import inspect
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vehins.cli.terminal import Terminal
    from vehins.errors import VehinsError
    from vehins.settings import Loaded, Settings

_PANEL = "Common options"
_COMMON: dict[str, Any] = {
    "as_json": (bool, False, ("--json",), "Print one JSON object on stdout, errors included."),
    "quiet": (bool, False, ("--quiet", "-q"), "Print nothing on stderr but errors."),
    "debug": (bool, False, ("--debug",), "Print tracebacks."),
    "workspace": (Path | None, None, ("--workspace", "-w"), "Folder of artifacts and runs."),
    "config": (Path | None, None, ("--config", "-c"), "Settings file instead of vehins.toml."),
    "set_": (list[str] | None, None, ("--set",), "Any setting, as NAME=VALUE; may be repeated."),
}


@dataclass
class Call:
    """One call of a command: its terminal, and the flags that are settings."""

    terminal: Terminal
    config: Path | None
    flags: dict[str, Any] = field(default_factory=dict)

    def load(self, **flags: Any) -> Loaded:
        """Load all settings; ``flags`` has those that the command's own options set (``__`` stands for a dot)."""
        from vehins.settings import load

        named = {name.replace("__", "."): value for name, value in flags.items()}
        return load({**self.flags, **{name: value for name, value in named.items() if value is not None}}, self.config)

    def settings(self, **flags: Any) -> Settings:
        """The settings alone."""
        return self.load(**flags).settings

    def whereabouts(self, **options: str | None) -> str:
        """The options of this call that say where things are, as another command wants them; passwords are masked."""
        from vehins.masking import masked_words

        given = {"workspace": self.flags.get("workspace"), "config": self.config, **options}
        found = [(f"--{name.replace('_', '-')}", str(value)) for name, value in given.items() if value is not None]
        return shlex.join(masked_words(word for pair in found for word in pair))


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command: its first parameter is the `Call`, its others are its options."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[1:]

        @functools.wraps(function)
        def wrapper(**values: Any) -> None:
            common = {key: values.pop(key) for key in _COMMON}
            _run(function, values, common)

        parameters = [*own, *(_parameter(key, *spec) for key, spec in _COMMON.items())]
        parameters.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
        vars(wrapper)["__signature__"] = signature.replace(parameters=parameters)
        # typer reads annotations with get_type_hints, which follows __wrapped__ back to the function.
        del wrapper.__wrapped__
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name)(wrapper)
        return function

    return register


def _parameter(name: str, kind: Any, default: Any, words: tuple[str, ...], text: str) -> inspect.Parameter:
    option = typer.Option(*words, help=text, rich_help_panel=_PANEL)
    annotation = Annotated[kind, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _run(function: Callable[..., None], values: dict[str, Any], common: dict[str, Any]) -> None:
    """Call a command, and turn whatever goes wrong into a message and an exit code."""
    from vehins.cli.terminal import Terminal
    from vehins.errors import InterruptedRunError, VehinsError

    terminal = Terminal(as_json=common["as_json"], quiet=common["quiet"], debug=common["debug"])
    try:
        flags = {**_assignments(common["set_"] or []), **_given("workspace", common["workspace"])}
        function(Call(terminal, common["config"], flags), **values)
    except VehinsError as error:
        _fail(terminal, error)
    except KeyboardInterrupt:
        _fail(terminal, InterruptedRunError("Interrupted"))
    except (typer.Exit, typer.Abort, typer.TyperException):
        raise
    except Exception as error:
        _fail(terminal, _bug(error))


def _fail(terminal: Terminal, error: VehinsError) -> None:
    terminal.error(error)
    raise typer.Exit(error.exit_code)


def _bug(error: Exception) -> VehinsError:
    from vehins.errors import VehinsError
    from vehins.masking import redacted

    text = redacted(str(error)).splitlines()[:1]
    detail = ": ".join([type(error).__name__, *text])
    bug = VehinsError("A bug in vehins", detail=detail, hint=f"See where: {command_line()} --debug, and report it.")
    bug.__cause__ = error
    return bug


def _given(name: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {name: value}


def _assignments(words: list[str]) -> dict[str, str]:
    from vehins.errors import UsageError

    found = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name:
            hint = "Write NAME=VALUE, for example `--set train.learning_rate=0.1`."
            raise UsageError(f"`--set {word}` does not say what to set to what", hint=hint)
        found[name.strip()] = value
    return found


def take_interrupts() -> None:
    """Take Ctrl-C back from polars.

    Its workers may panic at one; and it raises a KeyboardInterrupt besides Python's own, which then comes as a second
    one, into the tidying up.
    """
    import signal

    import polars  # noqa: F401 - its import is what takes the signal

    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGINT))


def command_line() -> str:
    """The command as it was typed, with passwords masked."""
    from vehins.masking import masked_words

    return " ".join([program(), shlex.join(masked_words(sys.argv[1:]))])


def program() -> str:
    """What to type to call vehins again: its name when it is on the PATH, else as it was called."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m vehins"
    found = shutil.which("vehins")
    is_same = found is not None and Path(found).resolve() == called.resolve()
    return "vehins" if is_same or len(called.parts) == 1 else shlex.quote(str(called))


Source = Annotated[
    str | None, typer.Option("--source", "-s", help="Customer rows: a file, a folder, or the address of a store.")
]
Query = Annotated[
    str | None, typer.Option("--query", help="Which rows: a filter (extended JSON) for MongoDB, a statement for SQL.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="FIELD", help="Read only what changed since the last Dataset.")
]
SchemaFile = Annotated[str | None, typer.Option("--schema", help="Table schema: a packaged name or a TOML file.")]
RegistryUrl = Annotated[str | None, typer.Option("--registry", help="Model registry: a folder or s3://bucket/prefix.")]
ModelName = Annotated[str | None, typer.Option("--model-name", help="Name of the model in the registry.")]
Approve = Annotated[
    str | None, typer.Option("--approve", help="Overrule a refusal of the gate; the reason is recorded.")
]
Seeds = Annotated[int | None, typer.Option("--seeds", metavar="N", help="Average N fits into one model.")]
Tune = Annotated[
    float | None,
    typer.Option("--tune", metavar="MINUTES", help="Search for better settings first, for this many minutes."),
]
InputManifest = Annotated[
    Path | None, typer.Option("--input", help="Manifest of the artifact to consume; the newest by default.")
]
