"""Prediction by LightGBM's C API: one row in some microseconds, and no Python package of LightGBM in the process.

The functions are those of LightGBM's manual (C API, ``LightGBM/c_api.h``): ``LGBM_BoosterLoadModelFromString``,
``LGBM_BoosterPredictForMat``, and for one row ``LGBM_BoosterPredictForMatSingleRowFast``, whose configuration holds
room to work in and so is made once for each thread. Every way gives the same bits.
"""

from __future__ import annotations

import threading
import weakref
from array import array
from collections.abc import Iterable, Sequence
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p
from functools import cache
from itertools import chain
from struct import Struct
from typing import TYPE_CHECKING, Any

from vehins.model.library import log_callback, shared_library

if TYPE_CHECKING:
    import ctypes

    import numpy as np

_FLOAT64 = 1
_NORMAL, _CONTRIBUTIONS = 0, 3
_ALL_TREES = (0, -1)
# A function's arguments; what each gives back is 0, or -1 when LightGBM has an error to tell.
_ARGUMENTS: dict[str, list[Any]] = {
    "LGBM_RegisterLogCallback": [c_void_p],
    "LGBM_BoosterLoadModelFromString": [c_char_p, POINTER(c_int), POINTER(c_void_p)],
    "LGBM_BoosterFree": [c_void_p],
    "LGBM_BoosterGetNumFeature": [c_void_p, POINTER(c_int)],
    "LGBM_BoosterPredictForMat": [
        c_void_p, c_void_p, c_int, c_int32, c_int32, c_int, c_int, c_int, c_int, c_char_p, POINTER(c_int64), c_void_p,
    ],
    "LGBM_BoosterPredictForMatSingleRowFastInit": [
        c_void_p, c_int, c_int, c_int, c_int, c_int32, c_char_p, POINTER(c_void_p),
    ],
    "LGBM_BoosterPredictForMatSingleRowFast": [c_void_p, c_char_p, POINTER(c_int64), POINTER(c_double)],
    "LGBM_FastConfigFree": [c_void_p],
}  # fmt: skip


class TreesError(Exception):
    """LightGBM refuses a model or a matrix, and says why."""


@cache
def functions() -> Functions | None:
    """The C API; None when the library or one of its functions is not there."""
    found = shared_library()
    if found is None:
        return None
    try:
        return Functions(*found)
    except AttributeError:
        return None


class Functions:
    """The functions of the C API, typed."""

    def __init__(self, library: ctypes.CDLL, holding: ctypes.PyDLL) -> None:
        for name, arguments in _ARGUMENTS.items():
            getattr(library, name).argtypes = arguments
        library.LGBM_GetLastError.restype = c_char_p
        self._library = library
        # A call that lets go of Python's lock may wait 5 ms to have it back; this one takes some microseconds.
        self.predict_fast = holding.LGBM_BoosterPredictForMatSingleRowFast
        self.predict_fast.argtypes = _ARGUMENTS["LGBM_BoosterPredictForMatSingleRowFast"]

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            TreesError: it failed, with LightGBM's words.
        """
        if getattr(self._library, name)(*arguments):
            self.fail()

    def fail(self) -> None:
        """Raise what LightGBM says of the call that failed."""
        said = self._library.LGBM_GetLastError().decode("utf-8", "replace")
        raise TreesError(f"LightGBM says: {said.partition(chr(10))[0]}")

    def listen(self) -> None:
        """Let what LightGBM has to say on this thread go to its logger; by itself it prints to stdout."""
        self.call("LGBM_RegisterLogCallback", log_callback)

    def make(self, free: str, name: str, *arguments: Any, within: _Handle | None = None) -> _Handle:
        """Call a function that makes something, and takes as its last argument where to put it."""
        value = c_void_p()
        self.listen()
        self.call(name, *arguments, byref(value))
        return _Handle(value, getattr(self._library, free), within)


class _Handle:
    """Something in LightGBM's memory, given back when nobody holds on to it any longer."""

    def __init__(self, value: c_void_p, free: Any, within: _Handle | None) -> None:
        self.value = value
        # What it lives in is kept until it is gone; at its end a process gives back all it has.
        weakref.finalize(self, lambda given, _: free(given), value, within).atexit = False


class NativeTrees:
    """A model in LightGBM's memory; any number of threads may ask it at the same time.

    Whoever swaps it for another just lets go of it: it is freed when the last request is through with it.

    Raises:
        TreesError: LightGBM cannot read the text.
    """

    def __init__(self, found: Functions, text: bytes) -> None:
        self._functions = found
        self._booster = found.make("LGBM_BoosterFree", "LGBM_BoosterLoadModelFromString", text, byref(c_int()))
        features = c_int()
        found.call("LGBM_BoosterGetNumFeature", self._booster.value, byref(features))
        self._features = features.value
        self._threads = threading.local()

    def row(self, numbers: Sequence[float]) -> float:
        """The answer to one encoded row."""
        try:
            fast = self._threads.fast
        except AttributeError:
            fast = self._threads.fast = _FastRow(self._functions, self._booster, self._features)
        return fast.predict(numbers)  # type: ignore[no-any-return]

    def columns(self, numbers: Sequence[Iterable[float]], count: int, threads: int = 1) -> list[float]:
        """The answers to ``count`` encoded rows, given by feature."""
        packed = array("d", chain.from_iterable(zip(*numbers, strict=True)))  # by row: LightGBM reads it quicker
        if len(packed) != count * self._features:
            raise TreesError(f"there are {len(packed)} numbers, not {count} times {self._features}")
        answers = array("d", bytes(8 * count))
        self._predict(packed.buffer_info()[0], answers.buffer_info()[0], count, _NORMAL, threads)
        return answers.tolist()

    def matrix(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        """The answers to an encoded matrix, rows x features."""
        return self._filled(matrix, (len(matrix),), _NORMAL, threads)

    def contributions(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        """What each feature adds to the raw scores, rows x (features + 1); last, where all rows start from."""
        return self._filled(matrix, (len(matrix), self._features + 1), _CONTRIBUTIONS, threads)

    def _filled(self, matrix: np.ndarray, shape: tuple[int, ...], kind: int, threads: int) -> np.ndarray:
        import numpy as np

        if matrix.ndim != 2 or matrix.shape[1] != self._features:
            raise TreesError(f"the matrix is {matrix.shape}, not rows x {self._features}")
        is_by_row = not matrix.flags.f_contiguous
        numbers = np.asarray(matrix, dtype=np.float64, order="C" if is_by_row else "F")
        answers = np.empty(shape, dtype=np.float64)
        self._predict(numbers.ctypes.data, answers.ctypes.data, len(matrix), kind, threads, is_by_row=is_by_row)
        return answers

    def _predict(
        self, numbers: int, answers: int, rows: int, kind: int, threads: int, *, is_by_row: bool = True
    ) -> None:
        if not rows:
            return
        self._functions.listen()
        settings, written = b"num_threads=%d" % threads, byref(c_int64())
        form = (_FLOAT64, rows, self._features, int(is_by_row))
        name = "LGBM_BoosterPredictForMat"
        self._functions.call(name, self._booster.value, numbers, *form, kind, *_ALL_TREES, settings, written, answers)


class _FastRow:
    """One thread's quick way to predict one row."""

    def __init__(self, found: Functions, booster: _Handle, features: int) -> None:
        self._config = found.make(
            "LGBM_FastConfigFree",
            "LGBM_BoosterPredictForMatSingleRowFastInit",
            booster.value, _NORMAL, *_ALL_TREES, _FLOAT64, features, b"num_threads=1", within=booster,
        )  # fmt: skip
        self._answer = c_double()
        self._ends = byref(c_int64()), byref(self._answer)
        self._pack, self._call, self._fail = Struct(f"={features}d").pack, found.predict_fast, found.fail

    def predict(self, numbers: Sequence[float]) -> float:
        if self._call(self._config.value, self._pack(*numbers), *self._ends):
            self._fail()
        return self._answer.value
