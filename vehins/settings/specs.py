"""Every setting by its dotted name, as documents and errors list them: ``train.learning_rate``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretStr

from vehins.settings.sections import Section, Settings

PREFIX = "VEHINS_"


class Spec(NamedTuple):
    """One setting as the documentation lists it."""

    name: str
    variable: str
    default: Any
    description: str
    is_secret: bool = False


def specs() -> list[Spec]:
    """List every setting in the order of its definition."""
    return list(_walk(Settings, ""))


def _walk(model: type[BaseModel], prefix: str) -> Iterator[Spec]:
    for attribute, field in model.model_fields.items():
        name = prefix + (field.alias or attribute)
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from _walk(annotation, name + ".")
        else:
            yield Spec(name, variable(name), field.default, field.description or "", annotation == SecretStr | None)


def variable(name: str) -> str:
    """Name of the environment variable that sets a setting."""
    return PREFIX + name.replace(".", "_").upper()


SECRETS = frozenset(spec.name for spec in specs() if spec.is_secret)
"""Names of the settings that must not be seen."""


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into one with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
