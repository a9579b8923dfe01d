"""What the registry writes down: versions, moves of aliases, and claims to a number."""

from __future__ import annotations

import getpass
import json
import re
import socket
from typing import Annotated, ClassVar, Literal, TypeVar
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from vehins.artifacts.files import FileRecord
from vehins.errors import ArtifactDamagedError, ConfigurationError, WorkspaceVersionError

Scalar = str | bool | int | Annotated[float, Field(allow_inf_nan=False)] | None

MANIFEST_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Record(BaseModel):
    """One JSON object of the registry."""

    model_config = ConfigDict(frozen=True)

    mend: ClassVar[str] = "Restore that object from a backup."


class ModelVersion(Record):
    """One version of a model: what it is made of, what it was judged by, and by whom it was registered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mend: ClassVar[str] = "Restore that object from a backup, or delete it: the version is then no longer listed."

    manifest_version: Literal[1] = Field(description="Format of this manifest.")
    name: str = Field(description="Name of the model.")
    version: int = Field(
        ge=1, description="Number of the version: 1, 2, ...; a number may be missing, none is used twice."
    )
    created_at: AwareDatetime = Field(description="When it was registered (UTC).")
    actor: str = Field(description="Who registered it: user@host.")
    bundle: str = Field(min_length=1, description="Digest of the model bundle.")
    files: list[FileRecord] = Field(min_length=1, description="The bundle's files; paths are relative to `bundle/`.")
    champion: int | None = Field(description="The version that it was judged against; null for the first champion.")
    evaluation: dict[str, Scalar] = Field(description="Summary of its metrics.")
    approved: str | None = Field(description="The reason that a person gave for overruling the gate.")
    lineage: dict[str, str] = Field(description="The artifacts that it comes from: kind -> id.")
    token: str = Field(default="", description="A random number, by which its writer knows it for its own.")


class AliasMove(Record):
    """One move of an alias: where it points, where it pointed before, by whom, and why."""

    mend: ClassVar[str] = (
        "Restore that object from a backup, or delete it; then promote a version again (`vehins push`)."
    )

    alias: str = Field(description="Name of the alias.")
    version: int = Field(ge=1, description="The version that it points to.")
    previous: int | None = Field(description="The version that it pointed to before.")
    sequence: int = Field(ge=1, description="Number of the move: 1, 2, ... for each alias.")
    at: AwareDatetime = Field(description="When it moved (UTC).")
    actor: str = Field(description="Who moved it: user@host.")
    reason: str = Field(description="Why it was moved.")
    token: str = Field(description="A random number, by which a writer knows its own move when the reply was lost.")
    undoes: int | None = Field(default=None, description="Number of the move that it takes back; null unless it does.")


class Claim(Record):
    """The reservation of a version number for one bundle."""

    bundle: str
    at: AwareDatetime
    actor: str
    token: str


R = TypeVar("R", bound=Record)


def check_name(kind: str, name: str) -> str:
    """Return ``name``, or raise `ConfigurationError` when a model or an alias cannot be called so."""
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(
            f"This is not a name for {kind}",
            detail=f"The name is {name!r}.",
            hint="Choose up to 100 letters, digits, dots, dashes and underscores, starting with a letter or a digit.",
        )
    return name


def actor() -> str:
    """The user and the host that act, as ``user@host``; ``unknown`` for what the system does not tell."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run under a number that has no name
        user = "unknown"
    try:
        host = socket.gethostname()
    except OSError:
        host = ""
    return f"{user}@{host or 'unknown'}"


def new_token() -> str:
    """A random number that no other writer has."""
    return uuid4().hex


def dump(record: Record) -> bytes:
    """The JSON text of a record."""
    return record.model_dump_json(indent=2).encode() + b"\n"


def parse(kind: type[R], data: bytes, key: str, url: str) -> R:
    """Read a record from its JSON text.

    Raises `WorkspaceVersionError` for a manifest that a newer vehins has written, and `ArtifactDamagedError` for bytes
    that are no such record.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        if _is_newer(data):
            raise WorkspaceVersionError(
                f"{key} was written by a newer vehins", detail=f"In {url}.", hint="Upgrade: `pip install -U vehins`."
            ) from error
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise damaged(kind, key, url, f"{place}: {problem['msg']}" if place else problem["msg"]) from error


def damaged(kind: type[Record], key: str, url: str, what: str) -> ArtifactDamagedError:
    """The error for a record whose text is not what it should be."""
    return ArtifactDamagedError(f"{key} in the registry is damaged", detail=f"{what}. In {url}.", hint=kind.mend)


def _is_newer(data: bytes) -> bool:
    try:
        found = json.loads(data)
    except ValueError:
        return False
    version = found.get("manifest_version") if isinstance(found, dict) else None
    return isinstance(version, int) and version > MANIFEST_VERSION
