"""LightGBM's two doors: its shared library, which is enough to predict, and its Python package, which trains.

The package costs a process that serves a second of its start and 100 MB (it brings scipy along); the library costs
neither, and can be found without importing anything.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

# Where the package keeps it, by release and by who built it.
_FOLDERS = ("lib", "bin", "..", "../Release", "../windows/x64/DLL")
_NAMES = {"win32": "lib_lightgbm.dll", "darwin": "lib_lightgbm.dylib"}
_LOGGER = logging.getLogger("lightgbm")


def import_lightgbm() -> Any:
    """Import LightGBM with idle threads that do not spin, and without its habit of printing to stdout.

    When a core is shared, spinning costs up to five times. What LightGBM prints before it raises, the exception says.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    import lightgbm

    lightgbm.register_logger(_LOGGER)
    # The native part keeps its way to that logger per thread, and the import sets it in the first thread alone.
    native = lightgbm.basic._LIB  # type: ignore[attr-defined]
    native.LGBM_RegisterLogCallback(native.callback)
    return lightgbm


def library_path() -> Path | None:
    """Where LightGBM's shared library is; None when the package is not there, or has none."""
    found = importlib.util.find_spec("lightgbm")
    if found is None or not found.origin:
        return None
    name = _NAMES.get(sys.platform, "lib_lightgbm.so")
    places = (Path(found.origin).parent / folder / name for folder in _FOLDERS)
    return next((place for place in places if place.is_file()), None)


@cache
def shared_library() -> tuple[ctypes.CDLL, ctypes.PyDLL] | None:
    """The shared library twice: with calls that let other threads run, and, for the quickest, with calls that do not.

    None when it is not found or does not load.
    """
    path = library_path()
    if path is None:
        return None
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        return ctypes.CDLL(str(path)), ctypes.PyDLL(str(path))
    except OSError as error:
        _LOGGER.warning("LightGBM's library does not load: %s", error)
        return None


_said: list[str] = []


def _log(text: bytes) -> None:
    """Take what LightGBM says, which comes in pieces, and log it line by line."""
    piece = text.decode("utf-8", "replace")
    if piece.strip():
        _said.append(piece)
    elif _said:
        line = "".join(_said).strip()
        _said.clear()
        _LOGGER.info(line)


log_callback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(_log)
