"""The OpenAPI document, with the columns of the model that is in service when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

    from vehins.serving.holder import Holder


def install(app: FastAPI, holder: Holder) -> None:
    """Let the OpenAPI document have the columns of the model that is in service when it is asked for."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
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
