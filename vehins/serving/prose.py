"""Texts with code in backticks, as the errors and descriptions of the service are written, for a page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

_CODE = re.compile("`+([^`]+)`+")


def prose(text: str) -> Markup:
    """A text as HTML, with what stands in backticks as code; all of it is escaped."""
    from markupsafe import Markup, escape

    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before
