"""Settings from flags, environment and files, and where each value came from."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from vehins.errors import SettingsError
from vehins.masking import MASK, masked_address, remember
from vehins.settings.sections import Settings
from vehins.settings.specs import PREFIX, SECRETS, flatten, specs, variable

CONFIG_FILE = Path("vehins.toml")
ENV_FILE = Path(".env")
# Test suites name their servers with it; a setting never starts so.
_FOREIGN_PREFIX = "VEHINS_TEST_"


class Value(NamedTuple):
    """One setting with the value in force (secrets masked) and its origin."""

    name: str
    value: Any
    origin: str


class Loaded(NamedTuple):
    """Settings and the origin of each value, by dotted name."""

    settings: Settings
    origins: dict[str, str]

    def values(self) -> list[Value]:
        """Every setting, safe to print."""
        flat = flatten(self.settings.model_dump(mode="json", by_alias=True))
        return [Value(s.name, _shown(s.name, flat[s.name]), self.origins.get(s.name, "default")) for s in specs()]


def load(flags: Mapping[str, Any] | None = None, config: Path | None = None) -> Loaded:
    """Merge flags, environment, ``.env`` and ``vehins.toml`` over the defaults.

    ``flags`` has dotted names; values of None are taken as not given.

    Raises:
        SettingsError: a name is unknown or a value cannot be.
    """
    layers = list(_layers(flags or {}, config))
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, values in layers:
        for name, value in values.items():
            if name not in merged:
                merged[name], origins[name] = value, origin
            if name in SECRETS:
                remember(str(value))
    try:
        return Loaded(Settings.model_validate(_nest(merged)), origins)
    except ValidationError as error:
        raise _invalid(error, origins) from None


def _shown(name: str, value: Any) -> Any:
    """A value of a setting, safe to print."""
    if name in SECRETS:
        return MASK if value else value
    return masked_address(value) if isinstance(value, str) else value


def _layers(flags: Mapping[str, Any], config: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (origin, flat values), the strongest first."""
    known = {spec.name: spec.variable for spec in specs()}
    given = {name: value for name, value in flags.items() if value is not None}
    _refuse_unknown(given, known, "--set")
    yield "flag", given
    yield "environment", _from_variables(os.environ, known, "the environment")
    yield str(ENV_FILE), _from_env_file(known)
    path = config or CONFIG_FILE
    if config or path.exists():
        yield str(path), _from_toml(path, known)


def _from_variables(variables: Mapping[str, str | None], known: Mapping[str, str], where: str) -> dict[str, Any]:
    """Pick the settings out of environment variables; an empty variable counts as not set."""
    for name in variables:
        if name.startswith(PREFIX) and not name.startswith(_FOREIGN_PREFIX) and name not in known.values():
            _raise_unknown(name, list(known.values()), where)
    return {name: variables[variable] for name, variable in known.items() if variables.get(variable)}


def _from_env_file(known: Mapping[str, str]) -> dict[str, Any]:
    if not ENV_FILE.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        values = dotenv_values(ENV_FILE, encoding="utf-8-sig")
    except OSError as error:
        hint = "Mend its rights, or remove it."
        raise SettingsError(
            f"Cannot read the settings file {ENV_FILE}", detail=f"{error.strerror}.", hint=hint
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{ENV_FILE} is not UTF-8", detail=f"{error}.", hint="Save it as UTF-8.") from None
    return _from_variables(values, known, str(ENV_FILE))


def _from_toml(path: Path, known: Mapping[str, str]) -> dict[str, Any]:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        hint = "Name a file that exists: `--config FILE`."
        raise SettingsError(f"Cannot read the settings file {path}", detail=str(error.strerror), hint=hint) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} is not valid TOML", detail=str(error), hint=f"Mend that place in {path}."
        ) from None
    values = flatten(tree)
    _refuse_unknown(values, known, str(path))
    return values


def _refuse_unknown(values: Mapping[str, Any], known: Mapping[str, str], where: str) -> None:
    for name in values:
        if name not in known:
            _raise_unknown(name, list(known), where)


def _raise_unknown(name: str, known: list[str], where: str) -> None:
    misplaced = [candidate for candidate in known if _is_misplaced(name, candidate)]
    near = difflib.get_close_matches(name, misplaced or known, n=1, cutoff=0.0 if misplaced else 0.5)
    hint = f"Did you mean `{near[0]}`? " if near else ""
    # Below a password stands what somebody took for one: `source_password = {"..." = 1}`.
    name = next((f"{secret}.{MASK}" for secret in SECRETS if name.startswith(f"{secret}.")), name)
    raise SettingsError(
        f"Unknown setting `{name}`", detail=f"Found in {where}.", hint=hint + "`vehins config show` lists all settings."
    )


def _is_misplaced(name: str, candidate: str) -> bool:
    """Whether a name is a right one in the wrong section."""
    same_key = candidate.rpartition(".")[2] == name.rpartition(".")[2]
    return same_key or name.endswith("_" + candidate.removeprefix(PREFIX))


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        section, _, key = name.rpartition(".")
        if section:
            tree.setdefault(section, {})[key] = value
        else:
            tree[key] = value
    return tree


def _change_one(section: str, origins: Mapping[str, str]) -> str:
    """Which settings of a section can be changed, and where each of them stands."""
    given = {name: origin for name, origin in origins.items() if name.startswith(f"{section}.")}
    places = ", ".join(f"`{name}` (from: {origin})" for name, origin in given.items())
    return f"Change {places}; `--set {next(iter(given), section)}=VALUE` overrides it."


def _invalid(error: ValidationError, origins: Mapping[str, str]) -> SettingsError:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if name not in origins:  # a rule over a whole section
        return SettingsError(
            f"Settings of `{name}` contradict each other", detail=message + ".", hint=_change_one(name, origins)
        )
    value = _shown(name, str(first["input"]))
    hint = f"Mend it there, or override it: `--set {name}=VALUE` or `{variable(name)}=VALUE`."
    return SettingsError(
        f"Setting `{name}` cannot be `{value}`", detail=f"{message} (from: {origins[name]}).", hint=hint
    )
