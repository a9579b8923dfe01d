"""What the page answers: the form, one customer, many customers, or why not."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from vehins.model import reasons
from vehins.serving import explain
from vehins.serving.answers import BadCell
from vehins.serving.failures import NOT_READY
from vehins.serving.page import cells, form, render, scores, table, words
from vehins.serving.page.outcome import REASONS, outcome
from vehins.serving.page.scores import Wish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import Response

    from vehins.serving.failures import RefusalError
    from vehins.serving.holder import Holder, Ready
    from vehins.serving.observer import Observer
    from vehins.serving.page.bodies import Upload
    from vehins.serving.page.table import Divided, Sheet
    from vehins.serving.predictor import Predictor
    from vehins.settings.sections import ServeSettings

SHOWN_LINES = 100
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_HTML = "text/html; charset=utf-8"


class _Blank(NamedTuple):
    """The page of a model before anybody has asked."""

    predictor: Predictor
    fields: list[form.Field]
    content: bytes
    etag: str


class Views:
    """Makes the answers; the empty form of a model is made once."""

    def __init__(self, settings: ServeSettings, holder: Holder, observers: Sequence[Observer]) -> None:
        self._max_bytes = settings.max_body_bytes
        self._holder, self._max_rows = holder, holder.max_rows
        self._observers = observers
        self._made: _Blank | None = None

    def blank(self, ready: Ready, known: str) -> Response:
        """The form; 304 for who has it already."""
        from fastapi import Response

        made = self._blank(ready)
        headers = {"ETag": made.etag, "Cache-Control": "no-cache"}
        if made.etag in known:
            return Response(status_code=304, headers=headers)
        return Response(made.content, headers=headers, media_type=_HTML)

    def one(self, ready: Ready, texts: dict[str, str]) -> Response:
        """The answer for one customer, or what is wrong beside each field (422)."""
        blank, row = self._blank(ready).fields, cells.row(texts, ready.predictor.table)
        rows = cells.checked([row], ready)
        if rows is None:
            wrong = cells.faults(row, texts, ready)
            self._tell_refused(ready, {0: wrong})
            return self._page(ready, 422, fields=form.filled(blank, texts, wrong))
        predictions = ready.predictor.predict(rows)
        for observer in self._observers:
            observer.answered(ready, rows, predictions)
        [why] = reasons.of_rows(ready.predictor.bundle, rows, REASONS)
        answer = outcome(predictions[0], why, ready.predictor.cutoff, blank)
        return self._page(ready, 200, fields=form.filled(blank, texts, []), outcome=answer)

    def many(self, ready: Ready, upload: Upload) -> Response:
        """The scores of a file as a file, or what is wrong with it (422)."""
        wish = Wish(
            reasons="reasons" in upload.options,
            best_first=upload.options.get("order") == "best",
            others="others" in upload.options,
        )
        sheet = table.read(upload.data, ready.predictor.table, self._max_rows)
        divided = table.divide(sheet, ready)
        if divided.bad:
            self._tell_refused(ready, {bad.place: bad.wrong for bad in divided.bad[:SHOWN_LINES]})
        if divided.bad and not (wish.others and divided.good):
            return self._page(ready, 422, **self._bad_lines(upload, sheet, divided, wish))
        if wish.reasons:
            explain.check_rows(len(divided.good))
        rows = list(divided.good.values())
        predictions = ready.predictor.predict(rows)
        for observer in self._observers:
            observer.answered(ready, rows, predictions)
        why = reasons.of_rows(ready.predictor.bundle, rows, scores.REASONS) if wish.reasons else None
        content = scores.write(sheet, divided, scores.told(ready.predictor, predictions, why), wish)
        return _download(content, upload.name, divided)

    def refused(self, ready: Ready | None, error: RefusalError) -> Response:
        """Why what was sent cannot be used."""
        if ready is None:
            return self.no_model()
        return self._page(ready, error.status, dict(error.headers or {}), trouble=error.answer.error)

    def no_model(self) -> Response:
        """There is nothing to ask (503)."""
        content = render.html("no_model.html", headline=NOT_READY.headline, why=self._holder.status.why)
        return _response(content, 503, {"Retry-After": "5"})

    def _blank(self, ready: Ready) -> _Blank:
        made = self._made
        if made is None or made.predictor is not ready.predictor:
            fields = form.fields(ready.predictor)
            content = self._content(ready, fields=fields)
            etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            self._made = made = _Blank(ready.predictor, fields, content, etag)
        return made

    def _page(self, ready: Ready, status: int, headers: dict[str, str] | None = None, **values: Any) -> Response:
        return _response(self._content(ready, **{"fields": self._blank(ready).fields, **values}), status, headers or {})

    def _content(self, ready: Ready, **values: Any) -> bytes:
        known: dict[str, Any] = {
            "model": ready.predictor,
            "table": ready.predictor.table,
            "max_rows": self._max_rows,
            "max_bytes": self._max_bytes,
            "max_reasons": explain.MAX_ROWS,
            "cutoff": words.percent(ready.predictor.cutoff),
            "outcome": None,
            "trouble": None,
            "bad": None,
        }
        return render.html("page.html", **{**known, **values})

    def _bad_lines(self, upload: Upload, sheet: Sheet, divided: Divided, wish: Wish) -> dict[str, Any]:
        """What the page shows of a file with bad rows, and the file itself, to be sent again without choosing it."""
        may_return = bool(divided.good) and len(upload.data) <= self._max_bytes // 2
        return {
            "bad": divided.bad[:SHOWN_LINES],
            "bad_count": len(divided.bad),
            "line_count": len(sheet.lines),
            "wish": wish,
            "file_name": upload.name,
            "text": upload.data.decode() if may_return else "",
        }

    def _tell_refused(self, ready: Ready, wrong: dict[int, list[cells.Wrong]]) -> None:
        found = [
            BadCell.model_validate({"row": place, **item._asdict()}) for place, items in wrong.items() for item in items
        ]
        for observer in self._observers:
            observer.refused(ready, found)


def _response(content: bytes, status: int, headers: dict[str, str]) -> Response:
    from fastapi import Response

    return Response(content, status, headers, media_type=_HTML)


def _download(content: bytes, name: str, divided: Divided) -> Response:
    from fastapi import Response

    stem = _UNSAFE.sub("_", re.sub(r"(?i)\.(csv|tsv|txt)$", "", name)).strip("._")[:80]
    headers = {
        "Content-Disposition": f'attachment; filename="{stem + "-" if stem else ""}scores.csv"',
        "Vehins-Scored": str(len(divided.good)),
        "Vehins-Set-Aside": str(len(divided.bad)),
    }
    return Response(content, headers=headers, media_type="text/csv; charset=utf-8")
