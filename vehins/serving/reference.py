"""``/docs``: the OpenAPI document as a page to read, made here, so that a browser fetches nothing from elsewhere."""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI
    from jinja2 import Template

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
    return _template().render(document=document, operations=operations)


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
    environment.filters.update(reference=_reference, kind=_kind, schema_of=_schema_of)
    return environment.get_template("reference.html")


def _schema_of(part: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body or of an answer; empty where there is none in JSON."""
    found: dict[str, Any] = part.get("content", {}).get("application/json", {}).get("schema", {})
    return found


def _reference(schema: dict[str, Any]) -> str:
    """Name of the schema that this one, or each of its items, stands for; empty when it is spelled out."""
    target = schema.get("$ref") or schema.get("items", {}).get("$ref", "")
    return str(target).rpartition("/")[2]


def _kind(schema: dict[str, Any]) -> str:
    """What a value may be, in words."""
    if "anyOf" in schema:
        return " or ".join(_kind(choice) for choice in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        more = f" and {len(values) - _SHOWN_VALUES:,} more" if len(values) > _SHOWN_VALUES else ""
        return "one of " + ", ".join(map(str, values[:_SHOWN_VALUES])) + more
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items']) or 'values'}{_limits(schema, 'minItems', 'maxItems')}"
    return f"{_reference(schema) or schema.get('type', 'any value')}{_limits(schema, 'minimum', 'maximum')}"


def _limits(schema: dict[str, Any], low: str, high: str) -> str:
    least, most = (None if abs(edge or 0) >= _BITS else edge for edge in (schema.get(low), schema.get(high)))
    if least is not None and most is not None:
        return f", {least:,} to {most:,}"
    if least is not None:
        return f", at least {least:,}"
    return f", at most {most:,}" if most is not None else ""
