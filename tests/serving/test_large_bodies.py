"""Bodies that take many times their size in memory: refused before they are read, or looked at one after the other."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from service_process import Service, serving
from serving_models import GOOD, app_of, ask
from test_http import error_of, refused

from vehins.serving import predict
from vehins.serving.page import cells
from vehins.serving.page.views import SHOWN_LINES
from vehins.serving.requests import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

MOST = 440 * 2**20
"""Two thirds of what the systemd unit leaves to a service of one process; one kind alone takes less than half of it."""
AT_ONCE = 8
"""As many large bodies as there is room for."""
SIZE = 8 * 2**20 - 1_000
ROW = json.dumps(GOOD).encode()
WIDE = "\U0001f600".encode()  # one sign of four bytes, and Python keeps the whole text so
BODIES = {  # how the refusal begins, and the body
    "empty lists": ("Too many values", b'{"rows":[' + b"[]," * (SIZE // 3) + b"[]]}"),
    "empty objects": ("Too many values", b'{"rows":[' + b"{}," * (SIZE // 3) + b"{}]}"),
    "lists in lists": ("Too many values", b'{"rows":[' + (b"[" * 150 + b"]" * 150 + b",") * (SIZE // 301) + b"[]]}"),
    "one name": ("Too many values", b'{"rows":[{' + b'"a":0,' * (SIZE // 6) + b'"a":0}]}'),
    "a list in a cell": ("Too many values", b'{"rows":[{"Gender":[' + b'"a",' * (SIZE // 4) + b'"a"]}]}'),
    "rows": ("Too many rows", b'{"rows":[' + ROW + (b"," + ROW) * (SIZE // (len(ROW) + 1) - 1) + b"]}"),
    "a text": ("1 fault in the rows", b'{"rows":[' + ROW.replace(b"Male", WIDE + b"x" * SIZE) + b"]}"),
    "a name": ("2 faults in the rows", b'{"rows":[' + ROW.replace(b"Vintage", WIDE + b"x" * SIZE) + b"]}"),
}
HEADER = ",".join(GOOD)
LINE = ",".join(str(value) for value in GOOD.values())
FILES = {  # how many fields, or rows, or signs would be too many to keep
    "fields": ("A row of the file has too many fields", ",".join(f"{n:x}" for n in range(SIZE // 7))),
    "names": ("A row of the file has too many fields", f"{HEADER}\n" + "," * (SIZE - 1_000)),
    "rows": ("The file has too many rows", f"{HEADER}\n" + f"{LINE}\n" * (SIZE // (len(LINE) + 1) - 10)),
    "good rows": ("", f"{HEADER},more\n" + f"{LINE},\U0001f600{'x' * 3_900}\n" * 2_000),
}

only_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what was held at most")


@pytest.fixture
def service(served: Settings) -> Iterator[Service]:
    with serving(served) as found:
        yield found


def ask_together(service: Service, path: str, **more: Any) -> list[httpx.Response]:
    """The same request as often at once as there is room for."""

    async def run() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=120) as client:
            return await asyncio.gather(*(client.post(path, **more) for _ in range(AT_ONCE)))

    return asyncio.run(run())


@only_linux
def test_what_large_requests_take_together(service: Service) -> None:
    for name, (headline, body) in BODIES.items():
        for answer in ask_together(service, "/v1/predict", content=body):
            assert error_of(answer, 422)["headline"].startswith(headline), name
        assert service.rss_peak < MOST, name


@only_linux
def test_what_large_files_take_together(service: Service) -> None:
    for name, (headline, text) in FILES.items():
        for answer in ask_together(service, "/scores.csv", files={"file": ("a.csv", text)}):
            assert answer.status_code == (422 if headline else 200), name
            assert headline in answer.text
        assert service.rss_peak < MOST, name


def of_cell(text: str) -> str:
    """A body that is looked at with care, as it has a very long text in it."""
    return json.dumps({"rows": [{**GOOD, "Gender": text}]}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Male" + " " * 100_000, 200),
        (" " * 100_000 + "Male", 200),
        ("Male" + " " * 100_000 + "x", 422),
        ("Male" + "x" * 100_000, 422),
        ("Male" + "\U0001f600" * 100_000, 422),
        ("x" * LONGEST, 422),
        ("x" * (LONGEST + 1), 422),
    ],
)
def test_a_very_long_text_is_judged_as_a_short_one(app: FastAPI, text: str, status: int) -> None:
    answer = ask(app, "POST", "/v1/predict", content=of_cell(text))
    assert answer.status_code == status
    if status == 422:
        [fault] = answer.json()["rows"]
        assert fault["column"] == "Gender"
        assert fault["value"] == f'"{text[:58]}…'
        assert fault["rule"].startswith("must be one of Female, Male")


def test_a_very_long_text_in_one_of_several_rows(app: FastAPI) -> None:
    row = {**GOOD, "Vehicle_Damage": "[" * 70_000}
    [(number, column, rule)] = refused(app, GOOD, row)
    assert (number, column) == (1, "Vehicle_Damage")
    assert rule.startswith("must be one of")


def test_brackets_in_texts_of_many_rows(predictor: Predictor) -> None:
    """They are looked at with care, and answered as others are."""
    app = app_of(predictor, 1_000)
    rows = [{**GOOD, "Gender": " Male "}] * 999
    plain = ask(app, "POST", "/v1/predict", json={"rows": [*rows, GOOD]})
    careful = ask(app, "POST", "/v1/predict", content=json.dumps({"rows": [*rows, GOOD]}) + " " * 100_000)
    assert len(plain.content) > 64 * 1024
    assert plain.content == careful.content
    assert plain.status_code == 200


def test_a_refusal_holds_on_to_no_copy_of_what_it_is_about(predictor: Predictor) -> None:
    """Until it is sent, an exception keeps the one that it was raised amid."""
    ready = app_of(predictor, 10).state.holder.ready
    body = json.dumps({"rows": [{**GOOD, "Age": 7}]}).encode()
    with pytest.raises(predict.failures.RefusalError) as caught:
        predict._answer(ready, body, 10, ())
    assert caught.value.__context__ is None


def test_of_many_bad_rows_those_are_looked_at_that_are_shown(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    plain = cells.faults
    monkeypatch.setattr(cells, "faults", lambda *given: looked.append(given) or plain(*given))
    text = f"{HEADER}\n" + (LINE.replace("44", "7") + "\n") * 500
    answer = ask(app, "POST", "/scores.csv", files={"file": ("a.csv", text)})
    assert answer.status_code == 422
    assert "500 of 500 rows cannot be scored" in answer.text
    assert f"the first {SHOWN_LINES} of 500" in answer.text
    assert len(looked) == SHOWN_LINES
