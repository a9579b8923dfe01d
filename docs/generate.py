"""Write the documents that come from code: `python docs/generate.py`. A test holds them to the code."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from vehins import errors, settings
from vehins.artifacts.manifest import KINDS, json_schema
from vehins.artifacts.record import Record
from vehins.cli.app import app
from vehins.data.schema import Column, Interaction, TableSchema
from vehins.pipeline import STAGES

ROOT = Path(__file__).parent.parent
MADE = "<!-- Made by docs/generate.py; edit the code instead. -->"


def documents() -> dict[Path, str]:
    """Every generated document, by its path from the root of the repository."""
    manifests = {
        Path("docs/manifests") / f"{kind}.schema.json": json.dumps(json_schema(kind), indent=2) + "\n" for kind in KINDS
    }
    return {
        Path("docs/commands.md"): _commands(),
        Path("docs/settings.md"): _settings(),
        Path("docs/schema.md"): _schema(),
        Path("docs/exit-codes.md"): _exit_codes(),
        Path("docs/artifacts.md"): _artifacts(),
        Path(".env.example"): _env_example(),
        **manifests,
    }


def _commands() -> str:
    group = typer.main.get_command(app)
    parts = [MADE, "# Commands", "", "Every command takes the common options at the end of this page.", ""]
    for path, command in _leaves(group, ["vehins"]):
        own = [
            p for p in command.params if getattr(p, "rich_help_panel", None) != "Common options" and p.name != "help"
        ]
        parts += [f"## `{' '.join(path)}`", "", inspect.cleandoc(command.help or ""), ""]
        parts += [*_option_table(own), ""] if own else []
    shared = next(c for _, c in _leaves(group, ["vehins"]))
    common = [p for p in shared.params if getattr(p, "rich_help_panel", None) == "Common options"]
    return "\n".join([*parts, "## Common options", "", *_option_table(common), ""])


def _leaves(command: Any, path: list[str]) -> Iterator[tuple[list[str], Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from _leaves(child, [*path, name])


def _option_table(parameters: list[Any]) -> list[str]:
    rows = [(", ".join(f"`{word}`" for word in _words(p)), (p.help or "").replace("|", "\\|")) for p in parameters]
    return ["| option | what it does |", "| --- | --- |", *(f"| {words} | {text} |" for words, text in rows)]


def _words(parameter: Any) -> list[str]:
    if parameter.param_type_name == "argument":
        return [parameter.name.upper()]
    return [*parameter.opts, *parameter.secondary_opts]


def _settings() -> str:
    rows = [f"| `{s.name}` | `{s.variable}` | {_default(s.default)} | {s.description} |" for s in settings.specs()]
    head = [
        MADE,
        "# Settings",
        "",
        "A value is taken from the first of: a flag (`--set NAME=VALUE` sets any of them), the environment, `.env`,",
        "`vehins.toml` (a name with a dot is a key in a table), the default. `vehins config show` prints each value in",
        "force and where it came from.",
        "",
        "| name | variable | default | what it is |",
        "| --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *rows, ""])


def _schema() -> str:
    head = [
        MADE,
        "# The table schema",
        "",
        "A TOML file that describes a table of customers: `--schema FILE`, or the setting `schema_file`. The command",
        "`vehins config schema` prints the one in force. [Another table](another-table.md) shows how to write one.",
        "",
    ]
    parts = {"The file": TableSchema, "`[columns.NAME]`": Column, "`[interactions.NAME]`": Interaction}
    return "\n".join([*head, *(line for title, record in parts.items() for line in _keys(title, record)), ""])


def _keys(title: str, record: type[Record]) -> Iterator[str]:
    yield from (f"## {title}", "", "| key | type | default | meaning |", "| --- | --- | --- | --- |")
    for name, field in record.model_fields.items():
        default = "required" if field.is_required() else _toml(field.get_default(call_default_factory=True))
        yield f"| `{name}` | {_type(record, name)} | {default} | {field.description} |"
    yield ""


def _toml(value: Any) -> str:
    return "none" if value in (None, {}, "") else f"`{json.dumps(value)}`"


def _type(record: type[Record], name: str) -> str:
    """What TOML calls the type of a key, or the values that it takes."""
    described = record.model_json_schema()["properties"][name]
    kinds = [kind for kind in described.get("anyOf", [described]) if kind.get("type") != "null"]
    if "enum" in kinds[0]:
        return ", ".join(f"`{json.dumps(value)}`" for value in kinds[0]["enum"])
    if len(kinds) > 1:
        return "any"
    return {"object": "tables"}.get(kinds[0]["type"], kinds[0]["type"])


def _default(value: Any) -> str:
    return "none" if value is None else f"`{value}`"


def _env_example() -> str:
    lines = ["# Copy to .env and take the mark away before what you change. Made by docs/generate.py.", ""]
    for spec in settings.specs():
        lines += [f"# {spec.description}", f"# {spec.variable}={'' if spec.default is None else spec.default}", ""]
    return "\n".join(lines)


def _exit_codes() -> str:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.VehinsError)]
    classes.sort(key=lambda c: (c.exit_code, c.__mro__.index(errors.VehinsError), c.__name__))
    first: dict[int, list[type[errors.VehinsError]]] = {}
    for error in classes:
        first.setdefault(error.exit_code, []).append(error)
    rows = [
        f"| {code} | {', '.join(f'`{e.__name__}`' for e in found)} | {(found[0].__doc__ or '').splitlines()[0]} |"
        for code, found in first.items()
    ]
    head = [MADE, "# Exit codes", "", "| code | errors | meaning |", "| --- | --- | --- |", "| 0 | | Done. |"]
    return "\n".join([*head, *rows, ""])


def _artifacts() -> str:
    head = [
        MADE,
        "# Artifacts",
        "",
        "Each is a folder `artifacts/<kind>/<id>/` in the workspace, with its files and a `manifest.json`. The JSON",
        "Schema of each manifest is in [manifests](manifests).",
        "",
        "| stage | consumes | makes | settings it reads |",
        "| --- | --- | --- | --- |",
    ]
    rows = [
        f"| `{s.name}` | {', '.join(k.__name__ for k in s.needs) or 'a source'} | "
        f"[{s.makes.__name__}](manifests/{s.makes.__name__}.schema.json) | "
        f"{_names(s.reads)} |"
        for s in STAGES
    ]
    return "\n".join([*head, *rows, "", *_fields(), ""])


def _names(settings_read: tuple[str, ...]) -> str:
    return ", ".join(f"`{name.rstrip('_')}`" for name in settings_read) or "none"


def _fields() -> Iterator[str]:
    for kind, manifest in KINDS.items():
        result = manifest.model_fields["result"].annotation
        assert result is not None
        yield f"## {kind}"
        yield ""
        yield inspect.cleandoc(result.__doc__ or "")
        yield ""
        yield "| field of `result` | meaning |"
        yield "| --- | --- |"
        for name, field in result.model_fields.items():
            yield f"| `{name}` | {field.description or ''} |"
        yield ""


def main() -> None:
    """Write them."""
    for path, text in documents().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
