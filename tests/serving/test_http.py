"""The application without a socket: what it answers, and that its errors have one shape."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_models import GOOD, app_of, ask

from vehins.data.demo import batches
from vehins.serving.predictor import Predictor
from vehins.serving.refusals import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx
    from fastapi import FastAPI


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer, once it is certain that it has the one shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == (["error", "rows"] if status == 422 else ["error"])
    assert list(body["error"]) == ["headline", "detail", "hint"]
    assert all(isinstance(line, str) for line in body["error"].values())
    assert body["error"]["headline"]
    assert body["error"]["hint"]
    return body["error"] | {"rows": body.get("rows")}


def refused(app: FastAPI, *rows: Any) -> list[tuple[int, str | None, str]]:
    """The faults that are found in some rows."""
    found = error_of(ask(app, "POST", "/v1/predict", json={"rows": list(rows)}), 422)["rows"]
    assert all(list(cell) == ["row", "column", "value", "rule"] for cell in found)
    for cell in found:  # a value stands in its rule and by itself, or in neither; a whole row is never repeated
        cell_value = cell.pop("value")
        if cell["column"] is None:
            assert cell_value is None
        elif cell["column"] in rows[cell["row"]]:
            value = rows[cell["row"]][cell["column"]]
            assert cell_value == shown(value)
    return [tuple(cell.values()) for cell in found]


# --- predictions ------------------------------------------------------------------------------------------------------


def test_a_prediction(app: FastAPI, predictor: Predictor) -> None:
    response = ask(app, "POST", "/v1/predict", json={"rows": [GOOD]})
    [expected] = predictor.predict([GOOD])
    assert response.status_code == 200
    assert response.json() == {
        "model": {"name": "vehicle-insurance", "version": 1},
        "predictions": [
            {"probability": expected.probability, "percentile": expected.percentile, "contact": expected.contact}
        ],
    }


@pytest.mark.parametrize("rows", [1, 7, 1_000])
def test_probabilities_are_those_of_the_bundle_to_the_last_bit(app: FastAPI, predictor: Predictor, rows: int) -> None:
    frame = next(batches(rows, seed=5)).select(list(predictor.table.features))
    response = ask(app, "POST", "/v1/predict", json={"rows": frame.to_dicts()})
    answers = [answer["probability"] for answer in response.json()["predictions"]]
    assert answers == predictor.bundle.predict(frame.lazy()).tolist()


@given(
    age=st.integers(18, 120),
    codes=st.tuples(st.integers(0, 200), st.integers(0, 2**63 - 1)),
    premium=st.floats(0, allow_nan=False, allow_infinity=False),
    vintage=st.integers(0, 2**63 - 1),
)
@settings(max_examples=50, deadline=None)
def test_rows_as_never_seen_in_training_are_as_in_bulk(
    app: FastAPI, predictor: Predictor, age: int, codes: tuple[int, int], premium: float, vintage: int
) -> None:
    row = {**GOOD, "Age": age, "Region_Code": codes[0], "Policy_Sales_Channel": codes[1]}
    row |= {"Annual_Premium": premium, "Vintage": vintage}
    response = ask(app, "POST", "/v1/predict", json={"rows": [row]})
    assert [a["probability"] for a in response.json()["predictions"]] == predictor.bundle.predict(
        pl.LazyFrame([row])
    ).tolist()


def test_whole_numbers_may_be_written_as_floats(app: FastAPI) -> None:
    as_floats = {name: float(value) if isinstance(value, int) else value for name, value in GOOD.items()}
    answers = [ask(app, "POST", "/v1/predict", json={"rows": [row]}).json() for row in (GOOD, as_floats)]
    assert answers[0] == answers[1]


def test_the_type_of_the_body_need_not_be_said(app: FastAPI) -> None:
    body = json.dumps({"rows": [GOOD]})
    headers = {"content-type": "application/x-www-form-urlencoded"}  # what curl -d says
    assert ask(app, "POST", "/v1/predict", content=body, headers=headers).status_code == 200


def test_the_model(app: FastAPI, predictor: Predictor) -> None:
    found = ask(app, "GET", "/v1/model").json()
    assert found["name"] == "vehicle-insurance"
    assert found["version"] == 1
    assert found["bundle"] == predictor.bundle.digest
    assert found["registered_at"].startswith(predictor.created_at.isoformat()[:19])
    assert found["cutoff"] == 0.2
    assert found["metrics"] == predictor.metrics
    assert found["metrics"]["rows"] > 500
    columns = {column["name"]: column for column in found["columns"]}
    assert list(columns) == list(predictor.table.features)
    assert columns["Age"] == {
        "name": "Age",
        "dtype": "int",
        "required": True,
        "category": False,
        "values": None,
        "minimum": 18.0,
        "maximum": 120.0,
        "unit": "years",
        "description": "Age of the customer",
        "expected": "a whole number from 18 to 120",
    }


def test_probes(app: FastAPI) -> None:
    assert ask(app, "GET", "/healthz").json() == {"status": "alive"}
    assert ask(app, "GET", "/readyz").json() == {
        "status": "ready",
        "model": {"name": "vehicle-insurance", "version": 1},
        "source": None,  # nobody has said where this one comes from
        "since": None,
        "check": None,
    }


# --- the model in service ---------------------------------------------------------------------------------------------


def test_without_a_model_the_service_is_alive_and_not_ready() -> None:
    app = app_of(None, 10)
    assert ask(app, "GET", "/healthz").status_code == 200
    assert ask(app, "GET", "/openapi.json").status_code == 200
    for method, path in (("GET", "/readyz"), ("GET", "/v1/model"), ("POST", "/v1/predict")):
        response = ask(app, method, path)
        assert error_of(response, 503)["headline"] == "No model is loaded"
        assert response.headers["retry-after"] == "5"


def test_another_model_takes_over_between_two_requests(predictor: Predictor) -> None:
    app = app_of(predictor, 10)
    other = Predictor(predictor._version.model_copy(update={"version": 2}), predictor.bundle)
    app.state.holder.put(other)
    assert ask(app, "POST", "/v1/predict", json={"rows": [GOOD]}).json()["model"]["version"] == 2
    app.state.holder.put(None)
    assert ask(app, "POST", "/v1/predict", json={"rows": [GOOD]}).status_code == 503


def test_a_new_model_brings_its_own_columns(predictor: Predictor) -> None:
    app = app_of(predictor, 10)
    before = ask(app, "GET", "/openapi.json").json()
    other = Predictor(predictor._version, predictor.bundle)
    fewer = {name: column for name, column in other.table.columns.items() if name != "Age"}
    other.table = other.table.model_copy(update={"columns": fewer})
    other.table.__dict__.pop("features", None)
    app.state.holder.put(other)
    row = {name: value for name, value in GOOD.items() if name != "Age"}
    assert ask(app, "POST", "/v1/predict", json={"rows": [row]}).status_code == 200
    after = ask(app, "GET", "/openapi.json").json()
    columns = [document["components"]["schemas"]["CustomerRow"]["properties"] for document in (before, after)]
    assert columns[0].keys() - columns[1].keys() == {"Age"}


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "column", "rule"),
    [
        ({"Age": 17}, "Age", "must be a whole number from 18 to 120, not 17"),
        ({"Age": "28"}, "Age", 'must be a whole number from 18 to 120, not "28"'),
        ({"Age": True}, "Age", "must be a whole number from 18 to 120, not true"),
        ({"Age": None}, "Age", "must be a whole number from 18 to 120, not null"),
        ({"Age": 44.5}, "Age", "must be a whole number from 18 to 120, not 44.5"),
        ({"Age": [44]}, "Age", "must be a whole number from 18 to 120, not a list"),
        ({"Age": {"years": 44}}, "Age", "must be a whole number from 18 to 120, not an object"),
        ({"Driving_License": True}, "Driving_License", "must be one of 0, 1, not true"),
        ({"Gender": "male"}, "Gender", 'must be one of Female, Male, not "male"'),
        ({"Gender": ""}, "Gender", 'must be one of Female, Male, not ""'),
        ({"Gender": " male "}, "Gender", 'must be one of Female, Male, not " male "'),
        ({"Vintage": 2**63}, "Vintage", "must be a whole number of 64 bits at most"),
        ({"Annual_Premium": -0.01}, "Annual_Premium", "must be a number of at least 0, not -0.01"),
        ({"age": 44}, "age", "is not a column of this model; did you mean `Age`?"),
        ({"colour": "red"}, "colour", "is not a column of this model"),
        ({"id": 7}, "id", "must be left out: the model does not look at who a customer is"),
        ({"Response": 1}, "Response", "must be left out: it is what the model predicts"),
        ({"Gender": "x" * 99}, "Gender", 'must be one of Female, Male, not "' + "x" * 58 + "…"),
    ],
    ids=str,
)
def test_a_bad_value_is_named_with_its_rule(app: FastAPI, change: dict[str, Any], column: str, rule: str) -> None:
    assert refused(app, GOOD, {**GOOD, **change}) == [(1, column, rule)]


def test_a_missing_column_is_named(app: FastAPI) -> None:
    row = {name: value for name, value in GOOD.items() if name != "Gender"}
    assert refused(app, row) == [(0, "Gender", "is missing: must be one of Female, Male")]


def test_a_row_that_is_none_is_named(app: FastAPI) -> None:
    rule = "must be a JSON object of columns and their values, not "
    assert refused(app, GOOD, 7, []) == [(1, None, rule + "7"), (2, None, rule + "a list")]


@pytest.mark.parametrize(
    ("text", "rule"), [("NaN", "not NaN"), ("Infinity", "not Infinity"), ("1e999", "not Infinity")]
)
def test_numbers_that_are_not_finite(app: FastAPI, text: str, rule: str) -> None:
    body = json.dumps({"rows": [GOOD]}).replace("40454.0", text)
    found = error_of(ask(app, "POST", "/v1/predict", content=body), 422)
    rule = f"must be a number of at least 0, {rule}"
    value = rule.rpartition(" ")[2]
    assert found["rows"] == [{"row": 0, "column": "Annual_Premium", "value": value, "rule": rule}]


def test_the_first_twenty_faults_are_named(app: FastAPI) -> None:
    found = error_of(ask(app, "POST", "/v1/predict", json={"rows": [GOOD, *[{**GOOD, "Age": 0}] * 30]}), 422)
    assert found["headline"] == "20 or more faults in the rows"
    assert found["detail"] == "The first is in row 1, column `Age`: must be a whole number from 18 to 120, not 0."
    assert "GET /v1/model" in found["hint"]
    assert [cell["row"] for cell in found["rows"]] == list(range(1, 21))


def test_faults_are_counted(app: FastAPI) -> None:
    found = error_of(ask(app, "POST", "/v1/predict", json={"rows": [{**GOOD, "Age": 0}]}), 422)
    assert found["headline"] == "1 fault in the rows"
    found = error_of(ask(app, "POST", "/v1/predict", json={"rows": [{**GOOD, "Age": 0, "Gender": 0}, 0]}), 422)
    assert found["headline"] == "3 faults in the rows"


def test_a_row_of_strange_columns_is_not_listed(app: FastAPI) -> None:
    row = GOOD | {f"x{number}": 1 for number in range(1_000)}
    assert refused(app, row) == [(0, None, "has 1,010 columns, far more than this model")]


@pytest.mark.parametrize(
    ("body", "headline", "detail"),
    [
        ("", "The body is not valid JSON", "EOF while parsing a value at line 1 column 0."),
        ('{"rows": [}', "The body is not valid JSON", "expected value at line 1 column 11."),
        ("\xff", "The body is not valid JSON", "expected value at line 1 column 1."),
        ("[" * 1_000, "The body is not valid JSON", "recursion limit exceeded at line 1 column 202."),
        ("[]", "The body is not of the right form", "It is a list, not a JSON object."),
        ('"rows"', "The body is not of the right form", 'It is "rows", not a JSON object.'),
        ("{}", "There are no rows in the request", "`rows` is missing."),
        ('{"rows": []}', "There are no rows in the request", "`rows` is an empty list."),
        ('{"rows": {}}', "The body is not of the right form", "`rows` is an object, not a list."),
        ('{"rows": null}', "The body is not of the right form", "`rows` is null, not a list."),
        ('{"rows": [1], "x": 1}', "The body has a field too many", "It has `x`; it takes `rows` and nothing else."),
        (
            json.dumps({"rows": [0] * 1_001}),
            "Too many rows in one request",
            "It has 1,001; at most 1,000 are taken.",
        ),
    ],
)
def test_a_body_that_cannot_be_used(app: FastAPI, body: str, headline: str, detail: str) -> None:
    found = error_of(ask(app, "POST", "/v1/predict", content=body.encode("latin-1")), 422)
    assert (found["headline"], found["detail"], found["rows"]) == (headline, detail, [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["rows", "Age"]), inner, max_size=2),
    max_leaves=8,
)


@given(JSON)
@settings(max_examples=60, deadline=None)
def test_whatever_is_sent_is_refused_in_the_one_shape(app: FastAPI, value: object) -> None:
    error_of(ask(app, "POST", "/v1/predict", content=json.dumps(value)), 422)


@given(st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
def test_whatever_bytes_are_sent_are_refused(app: FastAPI, body: bytes) -> None:
    error_of(ask(app, "POST", "/v1/predict", content=body), 422)


# --- other errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_not_read_to_its_end(predictor: Predictor, announced: bool) -> None:
    app = app_of(predictor, 1)
    limit = app.state.holder.ready.max_bytes
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(1_000):
            read += 1_000
            yield b" " * 1_000

    headers = {"content-length": "1000000"} if announced else {}
    response = ask(app, "POST", "/v1/predict", content=chunks(), headers=headers)
    found = error_of(response, 413)
    assert found["headline"] == "The request is too large"
    assert f"{limit:,} bytes" in found["detail"]
    assert response.headers["connection"] == "close"
    assert read <= (0 if announced else limit + 2_000)


def test_the_largest_honest_request_fits(predictor: Predictor) -> None:
    app = app_of(predictor, 50)
    row = GOOD | {"Annual_Premium": 1.2345678901234567e-300, "Vintage": 2**63 - 1, "Region_Code": 2**63 - 1}
    body = json.dumps({"rows": [row] * 50}, indent=8)
    escaped = "".join(rf"\u{ord(char):04x}" if char.isalpha() and char != "e" else char for char in body)
    assert len(escaped) > 1.5 * len(body)
    assert ask(app, "POST", "/v1/predict", content=escaped).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "headline", "detail"),
    [
        ("GET", "/nothing/here", 404, "There is nothing at this address", "Asked for `/nothing/here`."),
        ("GET", "/v1/predict/", 404, "There is nothing at this address", "Asked for `/v1/predict/`."),
        ("GET", "/" + "x" * 999, 404, "There is nothing at this address", f"Asked for `/{'x' * 99}`."),
        ("GET", "/v1/predict", 405, "This address takes another method", "`/v1/predict` takes POST, not GET."),
        ("POST", "/v1/model", 405, "This address takes another method", "`/v1/model` takes GET, not POST."),
        ("GET", "/train", 404, "There is nothing at this address", "Asked for `/train`."),
        ("POST", "/train", 404, "There is nothing at this address", "Asked for `/train`."),
    ],
)
def test_addresses_and_methods(app: FastAPI, method: str, path: str, status: int, headline: str, detail: str) -> None:
    response = ask(app, method, path)
    found = error_of(response, status)
    assert (found["headline"], found["detail"]) == (headline, detail)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("method", "path", "status", "texts"),
    [
        ("GET", "/nothing/<script>", 404, ["There is nothing at this address", "/nothing/&lt;script&gt;"]),
        ("GET", "/v1/predict", 405, ["This address takes another method", "takes POST, not GET"]),
        ("GET", "/static/nothing.css", 404, ["There is nothing at this address"]),
    ],
)
def test_a_browser_is_shown_a_page(app: FastAPI, method: str, path: str, status: int, texts: list[str]) -> None:
    page = ask(app, method, path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert all(text in page.text for text in texts)
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert ("allow" in page.headers) == (status == 405)
    for accept in ("*/*", "application/json", "text/html, application/json"):
        error_of(ask(app, method, path, headers={"Accept": accept}), status)


def test_an_address_tells_all_the_methods_that_it_takes(app: FastAPI) -> None:
    response = ask(app, "DELETE", "/")
    error_of(response, 405)
    assert {method.strip() for method in response.headers["allow"].split(",")} == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_may_ask_for_the_head_alone(app: FastAPI, path: str) -> None:
    assert ask(app, "HEAD", path).status_code == 200
    assert ask(app_of(None, 10), "HEAD", path).status_code == (200 if path == "/healthz" else 503)


def test_a_mark_of_utf_8_is_ignored(app: FastAPI) -> None:
    body = json.dumps({"rows": [GOOD]}).encode()
    plain = ask(app, "POST", "/v1/predict", content=body)
    assert ask(app, "POST", "/v1/predict", content=b"\xef\xbb\xbf" + body).json() == plain.json()
    faulty = b"\xef\xbb\xbf" + json.dumps({"rows": [{**GOOD, "Age": 0}]}).encode()
    assert error_of(ask(app, "POST", "/v1/predict", content=faulty), 422)["headline"] == "1 fault in the rows"


def test_a_question_ends_as_one(app: FastAPI) -> None:
    found = error_of(ask(app, "POST", "/v1/predict", json={"rows": [{**GOOD, "age": 44}]}), 422)
    assert found["detail"].endswith("did you mean `Age`?")


def test_a_bug_tells_nothing_of_itself(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(rows: object) -> None:
        raise RuntimeError("/secret/path: password=hunter2")

    app = app_of(predictor, 1_000)
    monkeypatch.setattr(predictor, "predict", fail)
    for rows in ([GOOD], [GOOD] * 1_000):  # answered in the loop, and aside
        response = ask(app, "POST", "/v1/predict", json={"rows": rows})
        assert error_of(response, 500)["headline"] == "The service failed on this request"
        assert not any(word in response.text for word in ("secret", "hunter2", "RuntimeError", "Traceback", ".py"))


def test_a_client_who_leaves_in_the_middle_is_no_bug(app: FastAPI) -> None:
    received = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return next(received)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    assert sent == []  # nobody reads an answer; the log has 499


def test_errors_of_routes_that_are_yet_to_come(predictor: Predictor) -> None:
    from fastapi import HTTPException

    app = app_of(predictor, 10)

    @app.get("/later")
    async def later(number: int) -> int:
        raise HTTPException(418, detail="/secret")

    found = error_of(ask(app, "GET", "/later?number=x"), 422)
    assert (found["headline"], found["detail"], found["rows"]) == (
        "A parameter cannot be used",
        "At fault: number.",
        [],
    )
    assert error_of(ask(app, "GET", "/later?number=1"), 418)["headline"] == "I'm a Teapot"
