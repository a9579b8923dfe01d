"""``vehins config``: the settings in force and where each came from, and the schema in force."""

from __future__ import annotations

import typer

from vehins.cli.command import Call, SchemaFile, command

app = typer.Typer(no_args_is_help=True)


@command(app)
def show(call: Call) -> None:
    """Print each setting, its value and where that came from; passwords are masked."""
    values = call.load().values()
    call.terminal.table(
        ("Setting", "Value", "From"), [(v.name, "-" if v.value is None else v.value, v.origin) for v in values]
    )
    call.terminal.data({"settings": [v._asdict() for v in values]})


@command(app)
def schema(call: Call, schema: SchemaFile = None) -> None:
    """Print the table schema in force, column by column."""
    from vehins.data.schema import load

    found = load(call.settings(schema_file=schema).schema_file)
    rows = [
        (name, c.role, c.dtype + (" (category)" if c.is_category else ""), _allowed(c), c.description)
        for name, c in found.columns.items()
    ]
    call.terminal.table(("Column", "Role", "Type", "Allowed", "Meaning"), rows, title=found.description)
    call.terminal.data(found.model_dump(mode="json"))


def _allowed(column: object) -> str:
    values, low, high = (getattr(column, name) for name in ("values", "minimum", "maximum"))
    if values is not None:
        return ", ".join(str(value) for value in values)
    bounds = [f"at least {low:g}" if low is not None else "", f"at most {high:g}" if high is not None else ""]
    return ", ".join(filter(None, bounds)) or "any"
