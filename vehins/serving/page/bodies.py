"""What the forms of the page send, read within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

from vehins.serving import failures
from vehins.serving.answers import ErrorAnswer, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from fastapi import Request

_MAX_FIELDS = 2_000
_FORM = "Use the form of the page."


class Upload(NamedTuple):
    """A file, and what was ticked beside it."""

    name: str
    data: bytes
    options: dict[str, str]


async def fields(request: Request, max_bytes: int) -> dict[str, str]:
    """The fields of a form, the first of each name.

    Raises:
        RefusalError: it is too large (413) or no form (422).
    """
    body = b"".join([chunk async for chunk in _stream(request, max_bytes)])
    try:
        found = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise _unreadable("It is not what a form of this page sends.") from None
    return dict(reversed(found))


async def upload(request: Request, max_bytes: int) -> Upload:
    """The file of a form.

    Raises:
        RefusalError: it is too large (413), no form, or has no file (422).
    """
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise _unreadable("A file comes as `multipart/form-data`.")
    parser = MultiPartParser(
        request.headers, _stream(request, max_bytes), max_files=1, max_fields=10, max_part_size=max_bytes
    )
    parser.spool_max_size = max_bytes  # it stays in memory: customers' data is not for the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise _unreadable(f"{error.message.removesuffix('.')}.") from None
    options = {name: text for name, text in form.multi_items() if isinstance(text, str)}
    file = form.get("file")
    if isinstance(file, UploadFile):
        name, data = file.filename or "", await file.read()
    else:  # the page has sent it back to be scored without its bad rows
        name, data = options.pop("name", ""), options.pop("text", "").encode("utf-8", "replace")
    await form.close()
    if not data:
        raise _refused("There is no file", "None was chosen, or it is empty.", "Choose a CSV file, then score it.")
    return Upload(name, data, options)


async def _stream(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        yield chunk


def _too_large(max_bytes: int) -> failures.RefusalError:
    fault = Fault(
        headline="The file is too large",
        detail=f"At most {max_bytes / 2**20:.3g} MB are taken.",
        hint="Split it, or remove columns that the model does not look at.",
    )
    return failures.RefusalError(413, ErrorAnswer(error=fault), {"Connection": "close"})


def _unreadable(detail: str) -> failures.RefusalError:
    return _refused("What was sent cannot be read", detail, _FORM)


def _refused(headline: str, detail: str, hint: str) -> failures.RefusalError:
    return failures.RefusalError(422, ErrorAnswer(error=Fault(headline=headline, detail=detail, hint=hint)))
