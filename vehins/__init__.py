"""vehins: who of an insurer's customers will want vehicle insurance, from customer rows to a served model."""

__version__ = "0.1.0"
