"""A model of trees that answers encoded rows: by LightGBM's C API, and where that is not to be had by its package."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from vehins.model import native, tree_text
from vehins.model.library import import_lightgbm

if TYPE_CHECKING:
    import numpy as np

TreesError = native.TreesError


class Trees(Protocol):
    """A model that any number of threads may ask at the same time; every way gives the same bits."""

    def row(self, numbers: Sequence[float]) -> float:
        """The answer to one encoded row."""
        ...

    def columns(self, numbers: Sequence[Iterable[float]], count: int, threads: int = 1) -> list[float]:
        """The answers to ``count`` encoded rows, given by feature."""
        ...

    def matrix(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        """The answers to an encoded matrix, rows x features."""
        ...

    def contributions(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        """What each feature adds to the raw scores, rows x (features + 1); last, where all rows start from."""
        ...


def load(text: bytes, columns: int) -> Trees:
    """Read LightGBM's text form of a model that takes so many features.

    Raises:
        TreesError: it is damaged, or takes another number of features.
    """
    try:
        tree_text.check(text, columns)
    except tree_text.TreeTextError as error:
        raise TreesError(f"model.txt: {error}") from None
    found = native.functions()
    return PackageTrees(text) if found is None else native.NativeTrees(found, text)


class PackageTrees:
    """A model in the hands of LightGBM's Python package, which takes longer to import and to ask.

    Raises:
        TreesError: LightGBM cannot read the text.
    """

    def __init__(self, text: bytes) -> None:
        lightgbm = import_lightgbm()
        self._error = lightgbm.basic.LightGBMError
        try:
            self._booster = lightgbm.Booster(model_str=text.decode("utf-8", "replace"))
        except self._error as error:
            raise _says(error) from None
        self._features: int = self._booster.num_feature()

    def row(self, numbers: Sequence[float]) -> float:
        """The answer to one encoded row."""
        return self.columns([[number] for number in numbers], 1)[0]

    def columns(self, numbers: Sequence[Iterable[float]], count: int, threads: int = 1) -> list[float]:
        """The answers to ``count`` encoded rows, given by feature."""
        import numpy as np

        matrix = np.empty((count, len(numbers)), order="F")
        for place, column in enumerate(numbers):
            matrix[:, place] = array("d", column)
        answers: list[float] = self.matrix(matrix, threads).tolist()
        return answers

    def matrix(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        """The answers to an encoded matrix, rows x features."""
        return self._predict(matrix, (len(matrix),), num_threads=threads)

    def contributions(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        """What each feature adds to the raw scores, rows x (features + 1); last, where all rows start from."""
        return self._predict(matrix, (len(matrix), self._features + 1), num_threads=threads, pred_contrib=True)

    def _predict(self, matrix: np.ndarray, shape: tuple[int, ...], **how: Any) -> np.ndarray:
        import numpy as np

        if not len(matrix):
            return np.empty(shape)
        try:
            return np.asarray(self._booster.predict(matrix, **how))
        except self._error as error:
            raise _says(error) from None


def _says(error: Exception) -> TreesError:
    return TreesError(f"LightGBM says: {str(error).splitlines()[0]}")
