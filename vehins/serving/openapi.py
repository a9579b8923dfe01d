"""The OpenAPI document: the columns of the model in service, and what the layers in front of the endpoints ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vehins.serving.access import OPEN_PATHS

if TYPE_CHECKING:
    from fastapi import FastAPI

    from vehins.serving.holder import Holder

_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
# What the layers answer, by status; what an endpoint says of the same status goes before.
_ALWAYS = {
    "400": {"description": "The request is not valid HTTP, or ended too early", "content": _ERROR},
    "408": {"description": "The request came too slowly", "content": _ERROR},
    "413": {"description": "The request is too large", "content": _ERROR},
    "415": {"description": "The body is compressed", "content": _ERROR},
    "429": {
        "description": "Too many requests or wrong API keys of this client",
        "content": _ERROR,
        "headers": _RETRY,
    },
    "431": {"description": "The head of the request is too large", "content": _ERROR},
    "500": {"description": "The service failed on this request", "content": _ERROR},
    "503": {"description": "No model is loaded, or the service is busy or late", "content": _ERROR, "headers": _RETRY},
}
_FOREIGN = {"403": {"description": "A page of another site made the browser ask this", "content": _ERROR}}
_NO_KEY = {"401": {"description": "An API key is needed, or the one shown is not valid", "content": _ERROR}}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    "password": {"type": "http", "scheme": "basic", "description": "An API key as password, with any name."},
}


def install(app: FastAPI, holder: Holder, *, has_keys: bool) -> None:
    """Let the OpenAPI document have the columns of the model that is in service when it is asked for."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = _with_layers(plain(), has_keys=has_keys)
        ready = holder.ready
        if ready is None:
            return document
        request = ready.request.model_json_schema(ref_template="#/components/schemas/{model}")
        parts = {**request.pop("$defs"), "PredictRequest": request}
        content = {"application/json": {"schema": {"$ref": "#/components/schemas/PredictRequest"}}}
        operation = {**document["paths"]["/v1/predict"]["post"], "requestBody": {"required": True, "content": content}}
        components = document["components"]
        return {
            **document,
            "paths": {**document["paths"], "/v1/predict": {"post": operation}},
            "components": {**components, "schemas": {**components["schemas"], **parts}},
        }

    app.openapi = openapi  # type: ignore[method-assign] # the way that FastAPI's manual tells to extend it


def _with_layers(document: dict[str, Any], *, has_keys: bool) -> dict[str, Any]:
    paths = {
        path: {
            method: operation if path in OPEN_PATHS else _guarded(method, operation, has_keys=has_keys)
            for method, operation in item.items()
        }
        for path, item in document["paths"].items()
    }
    document = {**document, "paths": paths}
    if not has_keys:
        return document
    # The probes need none: they say so themselves, by an empty list.
    for path in OPEN_PATHS & paths.keys():
        paths[path] = {method: {**operation, "security": []} for method, operation in paths[path].items()}
    components = {**document["components"], "securitySchemes": _SCHEMES}
    return {**document, "components": components, "security": [{name: []} for name in _SCHEMES]}


def _guarded(method: str, operation: dict[str, Any], *, has_keys: bool) -> dict[str, Any]:
    layers = {**_ALWAYS, **(_NO_KEY if has_keys else {}), **(_FOREIGN if method == "post" else {})}
    responses = {**layers, **operation["responses"], "503": layers["503"]}
    return {**operation, "responses": dict(sorted(responses.items()))}
