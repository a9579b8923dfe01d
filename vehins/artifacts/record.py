"""What all records on disk have in common: frozen fields, and JSON in one form that can be hashed."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict

from vehins.artifacts.files import sha256_bytes


class Record(BaseModel):
    """Anything that is written to disk as JSON: frozen, and without fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def canonical(value: Any) -> bytes:
    """JSON in the one form that is hashed: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form."""
    return sha256_bytes(canonical(value))
