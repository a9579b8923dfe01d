"""Kinds of something that are found by themselves: one module each in a package."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def modules_with(package: str, function: str) -> list[ModuleType]:
    """The modules of a package that have this function, by name."""
    paths = importlib.import_module(package).__path__
    modules = (importlib.import_module(f"{package}.{info.name}") for info in pkgutil.iter_modules(paths))
    return [module for module in modules if hasattr(module, function)]
