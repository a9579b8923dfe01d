"""``?reasons=N``: the same words as `predict --reasons`, within bounds, and only for who asks."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from serving_models import GOOD, ask

from vehins.data import demo
from vehins.model import reasons
from vehins.serving import explain

if TYPE_CHECKING:
    from fastapi import FastAPI

    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings


def answer(app: FastAPI, query: str, rows: list[dict[str, Any]]) -> Any:
    response = ask(app, "POST", f"/v1/predict{query}", json={"rows": rows})
    assert response.status_code == 200, response.text
    return response.json()


def test_only_who_asks_hears_reasons(app: FastAPI) -> None:
    plain, explained = answer(app, "", [GOOD]), answer(app, "?reasons=3", [GOOD])
    [row] = explained["predictions"]
    assert [set(reason) for reason in row["reasons"]] == [{"feature", "value", "contribution", "text"}] * 3
    sizes = [abs(reason["contribution"]) for reason in row["reasons"]]
    assert sizes == sorted(sizes, reverse=True)
    del row["reasons"]
    assert explained == plain
    assert answer(app, "?other=1", [GOOD]) == plain


@pytest.mark.parametrize("count", [1, 4, 20])
def test_the_words_and_their_order_are_those_of_predict(app: FastAPI, predictor: Predictor, count: int) -> None:
    rows = next(demo.batches(300, 7)).select(list(predictor.table.features))
    wanted = [[text for text in row if text] for row in reasons.strongest(predictor.bundle, rows, count).iter_rows()]
    found = answer(app, f"?reasons={count}", rows.to_dicts())["predictions"]
    assert [[reason["text"] for reason in row["reasons"]] for row in found] == wanted
    assert min(map(len, wanted)) >= 1


@pytest.mark.parametrize("query", ["0", "21", "-1", "", "three", "1.0", "%D9%A3", "3&reasons=3", "1" * 5000])
def test_a_number_that_cannot_be_is_refused(app: FastAPI, query: str) -> None:
    response = ask(app, "POST", f"/v1/predict?reasons={query}", json={"rows": [GOOD]})
    assert response.status_code == 422
    assert response.json()["error"]["headline"] == "The number of reasons cannot be"
    assert "`?reasons=3`" in response.json()["error"]["hint"]
    assert len(response.content) < 1_000


def test_a_query_of_nothing_but_parameters_is_refused(app: FastAPI) -> None:
    assert ask(app, "POST", "/v1/predict?" + "a=1&" * 60, json={"rows": [GOOD]}).status_code == 422


def test_too_many_rows_are_refused_with_reasons_and_answered_without(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "MAX_ROWS", 3)
    response = ask(app, "POST", "/v1/predict?reasons=1", json={"rows": [GOOD] * 4})
    assert response.status_code == 422
    assert response.json()["error"]["detail"] == "It has 4; with reasons at most 3 are taken."
    assert len(answer(app, "?reasons=1", [GOOD] * 3)["predictions"]) == 3
    assert len(answer(app, "", [GOOD] * 4)["predictions"]) == 4


def test_the_document_knows_the_parameter_and_both_answers(app: FastAPI) -> None:
    document = ask(app, "GET", "/openapi.json").json()
    operation = document["paths"]["/v1/predict"]["post"]
    [parameter] = operation["parameters"]
    assert (parameter["name"], parameter["schema"]["maximum"]) == ("reasons", 20)
    shapes = operation["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"]
    assert [shape["$ref"].rpartition("/")[2] for shape in shapes] == ["PredictAnswer", "ExplainedAnswer"]
    assert set(document["components"]["schemas"]["Reason"]["required"]) == {"feature", "value", "contribution", "text"}


def test_explaining_needs_no_polars(served: Settings) -> None:
    program = """
import sys
from vehins.model import reasons
from vehins.serving.predictor import load
from vehins.settings import Settings
bundle = load(Settings.model_validate_json(sys.argv[1])).bundle
row = {name: None for name in bundle.encoder.names}
assert reasons.of_rows(bundle, [row], 3)[0]
assert "polars" not in sys.modules, "polars was imported"
"""
    subprocess.run([sys.executable, "-c", program, served.model_dump_json(by_alias=True)], check=True, timeout=120)


def test_a_frame_of_no_rows(predictor: Predictor) -> None:
    assert reasons.of_rows(predictor.bundle, [], 3) == []
    assert reasons.strongest(predictor.bundle, pl.DataFrame(), 2).shape == (0, 2)
