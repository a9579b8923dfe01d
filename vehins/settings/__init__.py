"""One frozen `Settings` for everything that can be chosen, and where each value came from.

A value is taken from the first of: a flag, a ``VEHINS_*`` environment variable, ``.env``, ``vehins.toml``, the default.
``train.learning_rate`` is ``VEHINS_TRAIN_LEARNING_RATE`` in the environment, ``learning_rate`` below ``[train]`` in the
file, and ``--set train.learning_rate=0.1`` on the command line.
"""

from vehins.settings.loading import CONFIG_FILE, ENV_FILE, Loaded, Value, load
from vehins.settings.sections import (
    BusinessSettings,
    CloudSettings,
    CredentialSettings,
    EvaluateSettings,
    GateSettings,
    GcSettings,
    IngestSettings,
    MongoSettings,
    RedshiftSettings,
    RemoteSettings,
    S3Settings,
    Section,
    ServeSettings,
    Settings,
    SplitSettings,
    TrainSettings,
    ValidateSettings,
)
from vehins.settings.specs import Spec, flatten, specs, variable

__all__ = [
    "CONFIG_FILE",
    "ENV_FILE",
    "BusinessSettings",
    "CloudSettings",
    "CredentialSettings",
    "EvaluateSettings",
    "GateSettings",
    "GcSettings",
    "IngestSettings",
    "Loaded",
    "MongoSettings",
    "RedshiftSettings",
    "RemoteSettings",
    "S3Settings",
    "Section",
    "ServeSettings",
    "Settings",
    "Spec",
    "SplitSettings",
    "TrainSettings",
    "ValidateSettings",
    "Value",
    "flatten",
    "load",
    "specs",
    "variable",
]
