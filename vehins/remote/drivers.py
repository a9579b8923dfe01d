"""Drivers and other libraries that only some installations have."""

from __future__ import annotations

import importlib
from typing import Any

from vehins.errors import ConfigurationError


def load_driver(module: str, extra: str, absent: str = "A driver is not installed") -> Any:
    """Import the driver that an extra brings; ``absent`` is what to say when it did not.

    Raises:
        ConfigurationError: it is not installed, or its native part cannot be loaded.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # some load their native part with ctypes, which raises OSError
        if isinstance(error, ModuleNotFoundError):
            headline, hint = absent, f"Install it: `pip install 'vehins[{extra}]'`."
        else:
            headline, hint = f"The driver {module} cannot start", "Install the system libraries that it names."
        raise ConfigurationError(headline, detail=f"{error}.", hint=hint) from None
