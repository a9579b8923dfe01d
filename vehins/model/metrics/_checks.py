"""What the metrics take: labels of 0 and 1, finite scores, probabilities, and a confidence. All else is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from vehins.errors import DataError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]


def confident(confidence: float) -> float:
    """A confidence between 0 and 1, or an error."""
    if not 0 < confidence < 1:
        raise SettingsError(
            "A confidence lies between 0 and 1",
            detail=f"The confidence is {confidence}.",
            hint="Give a share, not a percentage: 0.95.",
        )
    return confidence


def flags(labels: npt.ArrayLike, least_per_class: int = 0) -> Flags:
    """Labels as booleans, once they are known to be 0 and 1, and enough of each."""
    import numpy as np

    array = _one_dimensional(labels, "label")
    positive: Flags = array == 1
    wrong = ~(positive | (array == 0))
    if wrong.any():
        _refuse_rows(
            "A label is neither 0 nor 1", array, wrong, "Encode the target as 0 and 1 and drop rows without one."
        )
    positives = int(np.count_nonzero(positive))
    if min(positives, positive.size - positives) < least_per_class:
        raise DataError(
            "Too few labels of one class to judge a ranking",
            detail=f"{positives:,} labels are 1 and {positive.size - positives:,} are 0.",
            hint=f"Judge on more rows: at least {least_per_class} of each class are needed.",
        )
    return positive


def numbers(values: npt.ArrayLike, what: str, rows: int) -> Floats:
    """One finite float64 per label, or an error that names the first that is not."""
    import numpy as np

    array = _one_dimensional(values, what).astype(np.float64, copy=False)
    if array.size != rows:
        raise DataError(
            f"There is not one {what} for every label",
            detail=f"{rows:,} labels, but {array.size:,} values.",
            hint="Score the very rows that the labels come from, in the same order.",
        )
    wrong = ~np.isfinite(array)
    if wrong.any():
        _refuse_rows(f"A {what} is not a finite number", array, wrong, "Find the rows that the model cannot score.")
    return array


def probabilities(values: npt.ArrayLike, rows: int) -> Floats:
    """One probability per label, or an error that names the first that is not between 0 and 1."""
    array = numbers(values, "probability", rows)
    wrong = (array < 0) | (array > 1)
    if wrong.any():
        _refuse_rows("A probability is not between 0 and 1", array, wrong, "Pass probabilities, not raw scores.")
    return array


def _one_dimensional(values: npt.ArrayLike, what: str) -> npt.NDArray[np.generic]:
    """A filled array of numbers in one dimension, or an error; nothing is parsed out of text or objects."""
    import numpy as np

    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise DataError(
            f"A {what} per row is needed, and at least one row",
            detail=f"The array has shape {array.shape}.",
            hint="Pass one-dimensional arrays; of two columns of probabilities, the one of class 1.",
        )
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"A {what} is not a number",
            detail=f"The array has dtype {array.dtype}.",
            hint="Cast the column to numbers first; text and missing values have no place in a metric.",
        )
    return array


def _refuse_rows(headline: str, array: npt.NDArray[np.generic], wrong: Flags, hint: str) -> NoReturn:
    """Raise the `DataError` that counts the wrong rows and shows the first."""
    first = int(wrong.argmax())
    detail = f"{int(wrong.sum()):,} of {array.size:,} values, the first in row {first}: {array[first]}."
    raise DataError(headline, detail=detail, hint=hint)
