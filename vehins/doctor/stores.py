"""Checks of the way to the source, to the registry, and to where rows go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from vehins.data import schema as table_schema
from vehins.data import sinks, sources
from vehins.data.sinks import WriteOptions
from vehins.data.sources import ReadOptions
from vehins.doctor.examination import Subject
from vehins.errors import DataError, VehinsError
from vehins.masking import masked_address
from vehins.remote import probes
from vehins.remote.logins import Login
from vehins.remote.probes import Check
from vehins.settings import Settings

_COLUMNS, _LOGIN, _WRITE = "columns", "login", "permission to write"


def source(settings: Settings) -> Subject:
    """The source in force."""
    url, options = settings.source, ReadOptions.of(settings)
    kind = _kind(sources.kinds(), url)
    if kind is None:
        return Subject(_name("source", url), lambda: _unknown(lambda: sources.open_source(url, options)))
    more = (_COLUMNS,) if hasattr(kind, "columns") else ()
    expected = (*getattr(kind, "CHECKS", ()), *more)
    return Subject(_name("source", url), lambda: _source_checks(kind, settings, options), expected)


def _source_checks(kind: ModuleType, settings: Settings, options: ReadOptions) -> Iterator[Check]:
    yield from _probe(kind, settings.source, options)
    if hasattr(kind, "columns"):
        schema = table_schema.load(settings.schema_file)
        yield _columns(kind.columns(settings.source, options, schema), schema)


def _columns(names: list[str], schema: table_schema.TableSchema) -> Check:
    """Whether the source has the columns of the table schema."""
    missing = [name for name in schema.kept if name not in names]
    if not missing:
        return Check(_COLUMNS, "ok", f"all {len(schema.kept)} columns of the schema {schema.name}")
    near = {schema.nearest(name): name for name in reversed(names) if name not in schema.columns}
    said = [f"`{name}`" + (f" (is it `{near[name]}`?)" if name in near else "") for name in missing]
    mend = "Rename them in the source, or name the schema of this table: `--schema FILE`."
    return Check(_COLUMNS, "failed", f"missing: {', '.join(said)}", mend, DataError.exit_code)


def sink(url: str, settings: Settings) -> Subject:
    """Where `--to` puts rows."""
    options = WriteOptions.of(settings)
    kind = _kind(sinks.kinds(), url)
    if kind is None:
        return Subject(_name("target", url), lambda: _unknown(lambda: sinks.open_sink(url, options)))
    if hasattr(kind, "probe"):
        return Subject(_name("target", url), lambda: _probe(kind, url, options), getattr(kind, "CHECKS", ()))
    if "://" not in url.removeprefix("file://"):
        return Subject(_name("target", url), lambda: _folder(Path(url.removeprefix("file://")).parent), (_WRITE,))
    twin = _kind(sources.kinds(), url)
    names = getattr(twin, "CHECKS", ())
    if _LOGIN in names:
        expected = (*names[: names.index(_LOGIN) + 1], _WRITE)
        return Subject(_name("target", url), lambda: _way_to_write(twin, url, settings), expected)
    return Subject(_name("target", url), lambda: iter([_no_checks()]))


def _folder(folder: Path) -> Iterator[Check]:
    """Whether files can be made in a folder."""
    if os.access(folder, os.W_OK | os.X_OK):
        yield Check(_WRITE, "ok", f"files can be made in {folder.absolute()}")
    else:
        found = "may not be written" if folder.is_dir() else "is no folder"
        mend = f"Make it (`mkdir -p {folder}`), mend its rights, or name another place: `--to PATH`."
        yield Check(_WRITE, "failed", f"{folder.absolute()} {found}", mend)


def _way_to_write(twin: Any, url: str, settings: Settings) -> Iterator[Check]:
    """The way to a store that is read as well, as far as the login: what is to be written need not be there yet."""
    login = Login.of_target(settings.credentials)
    for check in twin.probe(url, replace(ReadOptions.of(settings), login=login, query=None)):
        yield check
        if check.failed:
            return
        if check.name == _LOGIN:
            break
    yield Check(_WRITE, "skipped", "only writing tells")


def registry(settings: Settings) -> Subject:
    """The registry in force."""
    from vehins.doctor import registries
    from vehins.registry.s3 import S3Store
    from vehins.registry.stores import open_store

    url = settings.registry_url
    name = _name("registry", url)
    try:
        store = open_store(url, settings.s3, settings.remote)
    except VehinsError as error:
        check = probes.failed("address", error)
        return Subject(name, lambda: iter([check]))
    if isinstance(store, S3Store):
        return Subject(name, lambda: registries.s3(store, settings), registries.S3_CHECKS)
    return Subject(name, lambda: registries.folder(store), registries.FOLDER_CHECKS)


def _name(role: str, url: str) -> str:
    return f"{role} {masked_address(url)}"


def _kind(kinds: list[ModuleType], url: str) -> ModuleType | None:
    """The one kind of store that understands an address."""
    found = [kind for kind in kinds if kind.matches(url)]
    return found[0] if len(found) == 1 else None


def _unknown(opened: Any) -> Iterator[Check]:
    """Let the error say what is wrong with the address."""
    opened()
    yield _no_checks()


def _probe(kind: Any, *arguments: Any) -> Iterator[Check]:
    if hasattr(kind, "probe"):
        yield from kind.probe(*arguments)
    else:
        yield _no_checks()


def _no_checks() -> Check:
    return Check("checks", "skipped", "there are none for this kind of store", "Use it to see whether it works.")
