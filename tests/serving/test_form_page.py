"""The page over HTTP: a form from the schema, answers, refusals beside their fields, and files."""

from __future__ import annotations

import csv
import io
import re
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from serving_models import GOOD, app_of, ask

from vehins import scoring
from vehins.data import demo
from vehins.serving import explain
from vehins.serving.app import create_app
from vehins.serving.holder import Holder
from vehins.serving.page import form, words
from vehins.settings.sections import ServeSettings

if TYPE_CHECKING:
    from pathlib import Path

    import httpx
    from fastapi import FastAPI

    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

TEXTS = {name: str(value) for name, value in GOOD.items()}


def text_of(response: httpx.Response) -> str:
    """What a person reads, in one line."""
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", response.text).split()))


def upload(app: FastAPI, data: bytes, **options: str) -> httpx.Response:
    return ask(app, "POST", "/scores.csv", files={"file": ("customers.csv", data, "text/csv")}, data=options)


def rows_of(response: httpx.Response) -> list[dict[str, str]]:
    assert response.status_code == 200, text_of(response)
    return list(csv.DictReader(io.StringIO(response.text)))


@pytest.fixture(scope="module")
def customers() -> bytes:
    return next(demo.batches(300, 5)).write_csv().encode()


def test_the_form_is_made_from_the_schema(app: FastAPI, predictor: Predictor) -> None:
    response = ask(app, "GET", "/")
    assert response.status_code == 200
    for number, (name, column) in enumerate(predictor.table.features.items()):
        tag = "select" if column.values is not None else "input"
        assert re.search(rf'<{tag} [^>]*id="f{number}" name="{name}"', response.text)
        assert f'<label for="f{number}">' in response.text
    assert "Age of the customer, in years, 18 to 120" in text_of(response)
    assert predictor.trained_at is not None
    trained, registered = words.moment(predictor.trained_at), words.moment(predictor.created_at)
    assert f"version {predictor.version} , trained {trained} , registered {registered}" in text_of(response)


def test_nothing_on_the_page_needs_a_laxer_policy(app: FastAPI) -> None:
    for response in (ask(app, "GET", "/"), ask(app, "POST", "/", data=TEXTS), ask(app, "POST", "/", data={})):
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert not re.search(
            r"\sstyle=|<style|\son\w+=|<script(?! src=\"/static/)|(src|href)=\"(https?:)?//", response.text
        )


def test_the_start_is_a_usual_customer(app: FastAPI, predictor: Predictor) -> None:
    fields = {field.name: field.value for field in form.fields(predictor)}
    assert fields["Gender"] == "Male"
    assert 30 <= int(fields["Age"]) <= 45
    assert ask(app, "POST", "/", data=fields).status_code == 200


def test_a_bundle_whose_folder_is_gone_still_has_a_form(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor.bundle, "folder", predictor.bundle.folder / "gone")
    assert {field.name: field.value for field in form.fields(predictor)}["Gender"] == "Female"


def test_who_has_the_page_is_not_sent_it_again(app: FastAPI) -> None:
    response = ask(app, "GET", "/")
    again = ask(app, "GET", "/", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "content-security-policy" not in again.headers  # it would take the place of that of the page
    assert ask(app, "HEAD", "/").status_code == 200


def test_static_files_are_kept_for_ever(app: FastAPI) -> None:
    paths = re.findall(r'"(/static/[^"]+)"', ask(app, "GET", "/").text)
    assert sorted(path.rpartition(".")[2] for path in paths) == ["css", "js", "svg"]
    for path in paths:
        response = ask(app, "GET", path)
        assert (response.status_code, "immutable" in response.headers["cache-control"]) == (200, True)
        assert ask(app, "GET", path, headers={"If-None-Match": response.headers["etag"]}).status_code == 304
    for path in ("/static/other.css", "/static/..%2Frender.py", "/static/page.css"):
        assert ask(app, "GET", path).status_code == 404


def test_an_answer(app: FastAPI, predictor: Predictor) -> None:
    response = ask(app, "POST", "/", data=TEXTS)
    [found] = predictor.predict([GOOD])
    text = text_of(response)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert f"{words.percent(found.probability)} probability of a yes" in text
    assert f"{'Contact' if found.contact else 'Do not contact'} this customer" in text
    assert words.percentile(found.percentile) in text
    assert len(re.findall(r'<li class="(?:up|down)">', response.text)) == 5
    assert 'value="40454.0"' in response.text


def test_wrong_values_come_back_beside_their_field(app: FastAPI) -> None:
    response = ask(
        app, "POST", "/", data={**TEXTS, "Age": '7"><script>alert(1)</script>', "Vintage": " ", "Gender": "?"}
    )
    assert response.status_code == 422
    assert "<script>alert" not in response.text
    assert "3 values cannot be used" in text_of(response)
    assert re.search(r'id="f1"[^>]*aria-describedby="f1-fault f1-hint"[^>]*aria-invalid="true"', response.text)
    assert "Vintage is empty: must be a whole number of at least 0." in text_of(response)
    assert '<option value="?" selected>?</option>' in response.text
    assert response.text.count('aria-invalid="true"') == 3


@pytest.mark.parametrize("body", [b"", b"Age=%ED%A0%80&Gender=\xc3\xa9", b"\xff", b"&" * 3_000, b"a=1&" * 3_000])
def test_other_bodies_are_refused_as_a_page(app: FastAPI, body: bytes) -> None:
    response = ask(app, "POST", "/", content=body)
    assert response.status_code == 422
    assert response.headers["content-type"].startswith("text/html")


def test_a_form_too_large(app: FastAPI) -> None:
    response = ask(app, "POST", "/", content=b"Age=" + b"1" * 300_000)
    assert (response.status_code, "too large" in text_of(response)) == (413, True)


def test_without_a_model() -> None:
    app = app_of(None, 100)
    for response in (ask(app, "GET", "/"), ask(app, "POST", "/", data=TEXTS), upload(app, b"a")):
        assert response.status_code == 503
        assert response.headers["retry-after"] == "5"
        assert "No model is loaded" in text_of(response)
        assert "The model is being loaded." in text_of(response)


def test_the_form_is_that_of_the_model_in_service(predictor: Predictor) -> None:
    app = app_of(predictor, 100)
    ask(app, "GET", "/")
    app.state.holder.put(None)
    assert ask(app, "GET", "/").status_code == 503
    app.state.holder.put(predictor)
    assert ask(app, "GET", "/").status_code == 200


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"reasons": "3"}, {"order": "best"}, {"order": "best", "reasons": "3"}])
def test_a_file_comes_back_as_predict_writes_it(
    app: FastAPI, served: Settings, customers: bytes, tmp_path: Path, options: dict[str, str]
) -> None:
    source, target = tmp_path / "customers.csv", tmp_path / "scores.csv"
    source.write_bytes(customers)
    wish = scoring.Wish(reasons=3 if "reasons" in options else 0, top=300 if "order" in options else None)
    scoring.score(served.model_copy(update={"source": str(source)}), str(target), wish)
    wanted = list(csv.DictReader(io.StringIO(target.read_text(encoding="utf-8"))))
    response = upload(app, customers, **options)
    found = rows_of(response)
    assert response.headers["content-disposition"] == 'attachment; filename="customers-scores.csv"'
    assert list(found[0]) == list(wanted[0])
    assert len(found) == len(wanted) == 300
    for row, other in zip(found, wanted, strict=True):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", row.pop("scored_at"))
        del other["scored_at"]
        numbers = ("probability", "percentile")
        assert [float(row.pop(name)) for name in numbers] == [float(other.pop(name)) for name in numbers]
        assert row == other


def spoilt(customers: bytes) -> bytes:
    lines = customers.decode().split("\n")
    header = lines[0].split(",")
    for number, name, text in ((3, "Age", "7"), (9, "Gender", "=HYPERLINK(1)"), (9, "Age", "")):
        cells = lines[number].split(",")
        cells[header.index(name)] = text
        lines[number] = ",".join(cells)
    return "\n".join(lines).encode()


def test_bad_rows_are_listed_and_nothing_is_scored(app: FastAPI, customers: bytes) -> None:
    response = upload(app, spoilt(customers), reasons="3")
    text = text_of(response)
    assert response.status_code == 422
    assert "2 of 300 rows cannot be scored" in text
    assert "4 Age 7 Must be a whole number from 18 to 120, not 7." in text
    assert "10 Gender =HYPERLINK(1) Must be one of Female, Male" in text
    assert "10 Age (empty) Is empty: must be a whole number" in text


def test_the_page_sends_the_file_again_without_choosing_it(app: FastAPI, customers: bytes) -> None:
    refused = upload(app, spoilt(customers), order="best").text
    hidden = {
        name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', refused)
    }
    assert hidden.keys() == {"name", "text", "others", "order"}
    response = ask(app, "POST", "/scores.csv", files={name: (None, value) for name, value in hidden.items()})
    found = rows_of(response)
    assert response.headers["vehins-scored"] == "298"
    assert response.headers["vehins-set-aside"] == "2"
    assert [row["rank"] for row in found] == [*map(str, range(1, 299)), "", ""]
    assert [row["id"] for row in found if row["fault"]] == [row["id"] for row in found[298:]]
    assert found[298]["fault"] == "Age must be a whole number from 18 to 120, not 7"
    assert {row["probability"] for row in found[298:]} == {""}
    alone = {row["id"]: row["probability"] for row in rows_of(upload(app, customers))}
    assert all(row["probability"] == alone[row["id"]] for row in found[:298])


def test_the_answer_is_written_like_the_file(app: FastAPI, customers: bytes) -> None:
    response = upload(app, b"\xef\xbb\xbf" + customers.replace(b",", b";"))
    assert response.content.startswith(b"\xef\xbb\xbfid;probability;")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "There is no file"),
        (b"\xff\xfe", "The file is not UTF-8"),
        (b"a;b\n1;2\n", "The file lacks 10 columns"),
        (b"<script>alert(1)</script>,<script>alert(1)</script>\n", "more than once"),
    ],
)
def test_a_file_that_cannot_be_used(app: FastAPI, data: bytes, said: str) -> None:
    response = upload(app, data)
    assert response.status_code == 422
    assert said in text_of(response)
    assert "<script>alert" not in response.text


def test_what_is_no_upload(app: FastAPI) -> None:
    for headers, body in [
        ({}, b"id,Age\n"),
        ({"Content-Type": "multipart/form-data"}, b"x"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"nothing"),
        (
            {"Content-Type": "multipart/form-data; boundary=x; charset=zlib"},
            b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--",
        ),
    ]:
        response = ask(app, "POST", "/scores.csv", headers=headers, content=body)
        assert response.status_code == 422
        assert "What was sent cannot be read" in text_of(response) or "There is no file" in text_of(response)


def test_limits(predictor: Predictor, customers: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = Holder(200)
    holder.put(predictor)
    app = create_app(holder, ServeSettings(max_rows=200, max_body_bytes=50_000))
    assert "at most 200 are taken; it has 300" in text_of(upload(app, customers)).lower()
    response = upload(app, customers * 5)
    assert (response.status_code, "is too large" in response.text) == (413, True)
    monkeypatch.setattr(explain, "MAX_ROWS", 100)
    few = b"\n".join(customers.split(b"\n")[:151])
    assert len(rows_of(upload(app, few))) == 150
    assert "Too many rows to give reasons for" in text_of(upload(app, few, reasons="3"))


def test_whoever_counts_hears_of_the_page_as_well(predictor: Predictor, customers: bytes) -> None:
    heard: list[tuple[str, int]] = []

    class Ear:
        def answered(self, ready: Any, rows: Any, predictions: Any) -> None:
            assert len(rows) == len(predictions)
            heard.append(("answered", len(rows)))

        def refused(self, ready: Any, cells: Any) -> None:
            heard.append(("refused", len({cell.row for cell in cells})))

    holder = Holder(1_000)
    holder.put(predictor)
    app = create_app(holder, ServeSettings(), [Ear()])
    ask(app, "POST", "/", data=TEXTS)
    ask(app, "POST", "/", data={**TEXTS, "Age": "x"})
    upload(app, customers)
    upload(app, spoilt(customers))
    assert heard == [("answered", 1), ("refused", 1), ("answered", 300), ("refused", 2)]


# --- Words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Vehicle_Age", "Vehicle age"),
        ("annual_premium", "Annual premium"),
        ("IBAN_Code", "IBAN code"),
        ("Zustand_KFZ", "Zustand KFZ"),
        ("_", "_"),
    ],
)
def test_labels(name: str, said: str) -> None:
    assert words.label(name) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [(0, "0.0%"), (1e-9, "less than 0.1%"), (0.314, "31.4%"), (1 - 1e-9, "more than 99.9%"), (1, "100.0%")],
)
def test_percent(share: float, said: str) -> None:
    assert words.percent(share) == said


def test_what_differs_looks_different() -> None:
    assert words.apart(0.2, 0.2) == ("20.0%", "20.0%")
    assert words.apart(0.20001, 0.2) == ("20.001%", "20.000%")


def test_percentiles_do_not_claim_too_much() -> None:
    assert words.percentile(87.9) == "Higher than 87% of the customers that the model was trained on"
    assert words.percentile(0.4).startswith("Among the lowest 1%")
    assert words.percentile(0).startswith("Lower than all")
    assert words.percentile(100).startswith("As high as the highest")


def test_names_in_a_refusal_are_code_and_escaped(app: FastAPI) -> None:
    text = upload(app, b"<b>Age</b>,<b>Age</b>\n1,2\n").text
    assert "<code>&lt;b&gt;Age&lt;/b&gt;</code> is there 2 times" in text
    assert "`" not in text
