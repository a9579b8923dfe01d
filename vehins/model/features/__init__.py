"""Customer rows -> the matrix that the model sees: the only transform code, for training and for serving.

An encoder is fitted on the train side and written as JSON. It has a bulk path (polars) and a path for a few rows (plain
Python) that give bit-equal numbers. What was never seen in training has a defined place: a category that is missing or
new is code 0, a missing number is NaN, and a number outside the range of the train side is moved to its edge (which no
tree can tell from where it was, as no split lies out there). The interactions of the schema are features as well:
each is made of the values of two columns, on both paths.
"""

from vehins.model.features.encoder import Encoder, parse
from vehins.model.features.fitting import fit
from vehins.model.features.kinds import (
    UNKNOWN,
    CategoryFeature,
    CombinedFeature,
    CrossFeature,
    Feature,
    NumberFeature,
    Row,
)

__all__ = [
    "UNKNOWN",
    "CategoryFeature",
    "CombinedFeature",
    "CrossFeature",
    "Encoder",
    "Feature",
    "NumberFeature",
    "Row",
    "fit",
    "parse",
]
