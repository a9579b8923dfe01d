"""``/docs``: the OpenAPI document as a page to read, made here, so that a browser fetches nothing from elsewhere."""

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from vehins.serving.prose import prose

if TYPE_CHECKING:
    from fastapi import FastAPI
    from jinja2 import Template
    from markupsafe import Markup

_DAY = "private, max-age=86400"
_SHOWN_VALUES = 12
_BITS = 2**62  # a bound beyond is only that of the 64 bits of a number
_METHODS = ("get", "post")


def install(app: "FastAPI") -> None:
    """Add the page and its style sheet."""
    from fastapi import Response

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(render(app.openapi()), media_type="text/html")

    @app.get("/docs/style.css", include_in_schema=False)
    async def docs_style() -> Response:
        return Response(_style(), media_type="text/css", headers={"Cache-Control": _DAY})


def render(document: dict[str, Any]) -> str:
    """An OpenAPI document as HTML; every text in it is escaped."""
    operations = [
        {"method": method.upper(), "path": path, **item[method]}
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    ]
    operations.sort(key=lambda operation: ("probes" in operation["tags"], operation["method"] != "POST"))
    schemas = document["components"]["schemas"]
    asked = [operation.get("requestBody") for operation in operations]
    names = _reached([asked, [operation["responses"] for operation in operations]], schemas) | dict.fromkeys(schemas)
    return _template().render(document=document, operations=operations, schemas={name: schemas[name] for name in names})


def _reached(parts: Any, schemas: dict[str, Any]) -> dict[str, None]:
    """The names of the schemas that parts of a document refer to, each before those that it refers to itself."""
    found: dict[str, None] = {}

    def look(part: Any) -> None:
        name = _reference(part) if isinstance(part, dict) else ""
        if name and name not in found:
            found[name] = None
            look(schemas[name])
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            look(inner)

    look(parts)
    return found


@cache
def _style() -> bytes:
    return files("vehins.serving").joinpath("templates", "reference.css").read_bytes()


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vehins.serving"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(kind=_kind, prose=prose, pretty=_pretty, schema_of=_schema_of, example_of=_example_of)
    return environment.get_template("reference.html")


def _schema_of(part: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body or of an answer; empty where there is none in JSON."""
    found: dict[str, Any] = part.get("content", {}).get("application/json", {}).get("schema", {})
    return found


def _reference(schema: dict[str, Any]) -> str:
    """Name of the schema that this one stands for; empty when it is spelled out."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _example_of(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A body that shows the form, from the examples of its fields."""
    fields = schemas[_reference(schema)]["properties"]
    return {name: field["examples"][0] for name, field in fields.items() if "examples" in field}


def _pretty(example: Any) -> str:
    return json.dumps(example, indent=2, ensure_ascii=False)


def _kind(schema: dict[str, Any]) -> "Markup":
    """What a value may be, in words; what has a section of its own is a link to it."""
    from markupsafe import Markup, escape

    if "anyOf" in schema:
        return Markup(" or ").join(_kind(choice) for choice in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        more = f" and {len(values) - _SHOWN_VALUES:,} more" if len(values) > _SHOWN_VALUES else ""
        return escape(("one of " if len(values) > 1 else "") + ", ".join(map(str, values[:_SHOWN_VALUES])) + more)
    if schema.get("type") == "array":
        return Markup("list of {}{}").format(_kind(schema["items"]), _limits(schema, "minItems", "maxItems"))
    name = _reference(schema)
    if name:
        return Markup('<a href="#schema-{0}">{0}</a>').format(name)
    type_ = "time in ISO 8601" if schema.get("format") == "date-time" else schema.get("type", "any value")
    return escape(f"{type_}{_limits(schema, 'minimum', 'maximum')}")


def _limits(schema: dict[str, Any], low: str, high: str) -> str:
    least, most = (None if abs(edge or 0) >= _BITS else edge for edge in (schema.get(low), schema.get(high)))
    if least is not None and most is not None:
        return f", {_plain(least)} to {_plain(most)}"
    if least is not None:
        return f", at least {_plain(least)}"
    return f", at most {_plain(most)}" if most is not None else ""


def _plain(edge: float) -> str:
    """A bound as a person writes it: 18, not 18.0."""
    return f"{int(edge) if float(edge).is_integer() else edge:,}"
