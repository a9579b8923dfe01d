"""The OpenAPI document: it describes what the service takes and answers, errors included."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING

from serving_models import GOOD, ask, guarded

from vehins.serving import reference

if TYPE_CHECKING:
    from fastapi import FastAPI

    from vehins.serving.predictor import Predictor


def test_docs(app: FastAPI) -> None:
    response = ask(app, "GET", "/docs")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in response.text


def test_the_document_describes_requests_and_errors(app: FastAPI) -> None:
    document = ask(app, "GET", "/openapi.json").json()
    assert list(document["paths"]) == ["/healthz", "/readyz", "/v1/model", "/v1/predict"]
    operation = document["paths"]["/v1/predict"]["post"]
    schemas = document["components"]["schemas"]
    content = operation["requestBody"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/PredictRequest"}
    assert schemas["PredictRequest"]["properties"]["rows"]["items"] == {"$ref": "#/components/schemas/CustomerRow"}
    assert schemas["CustomerRow"]["properties"].keys() == GOOD.keys()
    assert operation["operationId"] == "predict"
    responses = {
        status: answer["content"]["application/json"]["schema"] for status, answer in operation["responses"].items()
    }
    assert len(responses.pop("200")["anyOf"]) == 2  # with reasons and without
    answers = {status: schema["$ref"].rpartition("/")[2] for status, schema in responses.items()}
    assert answers == {
        **dict.fromkeys(("400", "403", "408", "413", "415", "429", "431", "500", "503"), "ErrorAnswer"),
        "422": "RefusedAnswer",
    }


def test_every_reference_of_the_document_leads_somewhere(app: FastAPI) -> None:
    document = ask(app, "GET", "/openapi.json").json()
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"]
    assert "$defs" not in text


def test_the_example_of_the_document_is_answered(app: FastAPI) -> None:
    document = ask(app, "GET", "/openapi.json").json()
    [example] = document["components"]["schemas"]["CustomerRow"]["examples"]
    assert ask(app, "POST", "/v1/predict", json={"rows": [example]}).status_code == 200


def test_the_document_says_which_operations_need_a_key(app: FastAPI, predictor: Predictor) -> None:
    assert "securitySchemes" not in ask(app, "GET", "/openapi.json").json()["components"]
    key = "k" * 20
    document = ask(guarded(predictor, [key]), "GET", "/openapi.json", headers={"X-API-Key": key}).json()
    assert document["components"]["securitySchemes"].keys() == {name for [name] in document["security"]}
    for path, item in document["paths"].items():
        for operation in item.values():
            is_open = path in {"/healthz", "/readyz"}
            assert operation.get("security") == ([] if is_open else None)
            assert ("401" in operation["responses"]) != is_open


def test_the_reference_names_every_operation_and_escapes_what_it_is_given(app: FastAPI) -> None:
    document = app.openapi()
    text = ask(app, "GET", "/docs").text
    assert all(path in text for path in document["paths"])
    assert all(f'id="schema-{name}"' in text for name in document["components"]["schemas"])
    assert "9,223,372,036,854,775,807" not in text
    assert "`" not in text
    assert "at least 0.0" not in text
    hostile = {**document, "info": {"title": "<script>alert(1)</script>", "version": "", "description": "'\"><b>"}}
    assert "<script" not in reference.render(hostile)
    assert "<b>" not in reference.render(hostile)


def test_the_reference_begins_with_what_is_asked_most_and_shows_it(app: FastAPI) -> None:
    text = ask(app, "GET", "/docs").text
    places = [text.index(f'<section id="{name}"') for name in ("predict", "model", "healthz", "schema-PredictRequest")]
    assert places == sorted(places)
    assert text.index('id="schema-CustomerRow"') < text.index('id="schema-PredictAnswer"')
    example = html.unescape(re.search(r"<pre[^>]*><code>(.*?)</code></pre>", text, re.DOTALL)[1])
    assert ask(app, "POST", "/v1/predict", content=example).status_code == 200
    links = re.findall(r'href="#schema-(\w+)"', text[places[0] : places[1]])
    assert {"PredictRequest", "PredictAnswer", "ExplainedAnswer", "RefusedAnswer", "ErrorAnswer"} == set(links)
    assert set(re.findall(r'href="#([\w-]+)"', text)) <= set(re.findall(r'id="([\w-]+)"', text))


def test_every_field_says_what_it_means(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    fields = {f"{name}.{field}": value for name, of in schemas.items() for field, value in of["properties"].items()}
    assert [name for name, value in fields.items() if not value.get("description")] == []
