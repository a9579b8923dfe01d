"""The table schema: what each column is called, holds, may hold and is for. One definition, four uses.

It is a TOML file (a packaged one for vehicle insurance); `validate` compiles it to expressions, `features` to an
encoder, `serve` to a request model and its page to a form.
"""

from __future__ import annotations

import difflib
import tomllib
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from vehins.artifacts.record import Record, digest
from vehins.errors import SchemaError

Dtype = Literal["int", "float", "string", "bool"]
Role = Literal["key", "feature", "target", "ignored"]
Scalar = bool | int | float | str


class Column(Record):
    """One column of the table."""

    # A TOML file may be written with care and still have a typing slip: unknown fields are refused, types are strict.
    model_config = ConfigDict(strict=True)

    dtype: Dtype = Field(description="Type of its values; one that does not fit is set aside.")
    role: Role = Field(
        default="feature",
        description="What it is for: the key identifies a customer, the target is what to predict, the model is given "
        "the features, and an ignored column is not kept.",
    )
    category: bool = Field(
        default=False, description="Its values are names, not amounts; strings and bools always are."
    )
    nullable: bool = Field(default=False, description="Whether a value may be missing.")
    values: list[Scalar] | None = Field(
        default=None, min_length=1, description="The only values allowed; the target needs exactly two."
    )
    minimum: float | None = Field(default=None, description="Smallest number allowed.")
    maximum: float | None = Field(default=None, description="Largest number allowed.")
    positive: Scalar | None = Field(
        default=None, description="For the target, which needs it: the value that counts as yes."
    )
    unit: str | None = Field(default=None, description="Unit of an amount, as people are shown it.")
    slice: bool = Field(
        default=False, description="Whether it is evaluated value by value, an amount in quantile bins."
    )
    monotone: Literal[-1, 1] | None = Field(
        default=None, description="For an amount: the probability never falls (1) or never rises (-1) with it."
    )
    path: str | None = Field(
        default=None, min_length=1, description="Where a document keeps it (`vehicle.age`); by default its name."
    )
    description: str = Field(default="", description="What it is, in the words that people are shown.")

    @property
    def is_category(self) -> bool:
        """Whether its values are names."""
        return self.category or self.dtype in {"string", "bool"}

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.dtype == "float" and self.category:
            raise ValueError("a category is an int, a string or a bool, not a float")
        if self.dtype in {"string", "bool"} and (self.minimum is not None or self.maximum is not None):
            raise ValueError(f"a {self.dtype} has no minimum or maximum; list its `values`")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("the minimum is above the maximum")
        if self.monotone is not None and (self.role != "feature" or self.is_category):
            raise ValueError("only a feature that is an amount can be `monotone`")
        self._check_values(self.values or [])
        if self.slice and self.role != "feature":
            raise ValueError("only a feature can be a `slice`")
        if self.role in {"key", "target"} and self.nullable:
            raise ValueError(f"the {self.role} cannot be nullable")
        if self.role == "target":
            self._check_target()
        elif self.positive is not None:
            raise ValueError("only the target has a `positive` value")
        return self

    def _check_values(self, values: list[Scalar]) -> None:
        wrong = [value for value in values if not _is(value, self.dtype)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} in `values` is not of type {self.dtype}")
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} stands in `values` more than once")
        outside = [value for value in values if isinstance(value, (int, float)) and not self._in_range(value)]
        if outside:
            raise ValueError(f"{outside[0]!r} in `values` is not between the minimum and the maximum")

    def _in_range(self, value: float) -> bool:
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)

    def _check_target(self) -> None:
        if self.values is None or len(self.values) != 2:
            raise ValueError("the target needs two `values`, and one of them as `positive`")
        if self.positive is None or not _is(self.positive, self.dtype) or self.positive not in self.values:
            names = " or ".join(repr(value) for value in self.values)
            raise ValueError(f"the target needs one of its `values` as `positive`: {names}")


def _is(value: Scalar, dtype: Dtype) -> bool:
    kinds: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "string": (str,), "bool": (bool,)}
    fits = not isinstance(value, int) or -(2**63) <= value < 2**63
    return fits and isinstance(value, kinds[dtype]) and (dtype == "bool") == isinstance(value, bool)


class Interaction(Record):
    """A feature that is made of two columns: each pair of two categories, or an amount of two amounts."""

    model_config = ConfigDict(strict=True)

    kind: Literal["cross", "product", "ratio"] = Field(
        description="`cross` makes a category of each pair of two categories; the others make an amount of two amounts."
    )
    columns: list[str] = Field(min_length=2, max_length=2, description="For a ratio: the amount and its divisor.")

    @property
    def is_category(self) -> bool:
        """Whether its values are names."""
        return self.kind == "cross"


def _name_is_usable(columns: Any) -> Any:
    if not isinstance(columns, dict):
        return columns  # pydantic says what is wrong
    wrong = [name for name in columns if not name or name.startswith("__") or name != name.strip()]
    if wrong:
        raise ValueError(f"{wrong[0]!r} cannot be the name of a column")
    return columns


class TableSchema(Record):
    """A table of customers: its columns in order, and how missing values are written."""

    model_config = ConfigDict(strict=True)

    name: str = Field(min_length=1, description="Name of the table.")
    version: int = Field(default=1, ge=1, description="Version of this schema, for people.")
    description: str = Field(default="", description="What a row is.")
    null_values: list[str] = Field(default_factory=lambda: [""], description="Texts that stand for a missing value.")
    strip: bool = Field(default=True, description="Whether blanks around a text are dropped.")
    columns: Annotated[dict[str, Column], BeforeValidator(_name_is_usable)] = Field(
        min_length=2, description="The columns, by name and in order: a table `[columns.NAME]` for each."
    )
    interactions: Annotated[dict[str, Interaction], BeforeValidator(_name_is_usable)] = Field(
        default_factory=dict,
        description="Features that are made of two columns: a table `[interactions.NAME]` for each.",
    )

    @model_validator(mode="after")
    def _has_its_roles(self) -> Self:
        if len(self._named("target")) != 1:
            raise ValueError("exactly one column needs the role `target`")
        if len(self._named("key")) > 1:
            raise ValueError("at most one column can have the role `key`")
        if not self._named("feature"):
            raise ValueError("at least one column needs the role `feature`")
        if self.key is not None and self.columns[self.key].dtype not in {"int", "string"}:
            raise ValueError("the key is an int or a string")
        return self

    @model_validator(mode="after")
    def _values_can_be_read(self) -> Self:
        for name, column in self.columns.items():
            for value in column.values or []:
                text = str(value)
                if self.strip and text != text.strip():
                    raise ValueError(f"{text!r} in the `values` of `{name}` is never seen: `strip` drops its blanks")
                if isinstance(value, str) and text in self.missing_texts:
                    raise ValueError(f"{text!r} in the `values` of `{name}` is never seen: `null_values` has it")
        return self

    @model_validator(mode="after")
    def _interactions_can_be_made(self) -> Self:
        for name, interaction in self.interactions.items():
            if name in self.columns:
                raise ValueError(f"the interaction `{name}` has the name of a column")
            self._check_interaction(name, interaction)
        return self

    def _check_interaction(self, name: str, interaction: Interaction) -> None:
        first, second = interaction.columns
        if first == second:
            raise ValueError(f"the interaction `{name}` needs two different columns")
        for column in interaction.columns:
            if column not in self.features:
                raise ValueError(f"the interaction `{name}` is made of `{column}`, which is no feature")
            if self.features[column].is_category != interaction.is_category:
                needed = "categories" if interaction.is_category else "amounts"
                raise ValueError(f"a {interaction.kind} is made of two {needed}, and `{column}` is none")
            if self.features[column].monotone is not None:
                raise ValueError(f"`{column}` is monotone, and could not be through the interaction `{name}`")

    @cached_property
    def missing_texts(self) -> list[str]:
        """Texts that stand for a missing value, as they look once blanks are dropped."""
        return [text.strip() for text in self.null_values] if self.strip else self.null_values

    def _named(self, role: Role) -> list[str]:
        return [name for name, column in self.columns.items() if column.role == role]

    @cached_property
    def kept(self) -> list[str]:
        """Columns that a data set keeps, in order."""
        return [name for name, column in self.columns.items() if column.role != "ignored"]

    @cached_property
    def features(self) -> dict[str, Column]:
        """The columns that a model is given, in order; it also sees what the `interactions` make of them."""
        return {name: self.columns[name] for name in self._named("feature")}

    @cached_property
    def target(self) -> str:
        """The column to predict."""
        return self._named("target")[0]

    @cached_property
    def key(self) -> str | None:
        """The column that identifies a customer, when there is one."""
        return next(iter(self._named("key")), None)

    @property
    def digest(self) -> str:
        """Digest of everything in it, the order of the columns included."""
        return digest([list(self.columns), list(self.interactions), self.model_dump(mode="json")])

    def to_json(self) -> bytes:
        """The schema as an artifact carries it, its columns in their order."""
        return self.model_dump_json().encode() + b"\n"

    def nearest(self, name: str) -> str | None:
        """The column whose name looks most like this one."""
        folded = {"".join(filter(str.isalnum, column.lower())): column for column in self.kept}
        near = difflib.get_close_matches("".join(filter(str.isalnum, name.lower())), folded, n=1, cutoff=0.75)
        return folded[near[0]] if near else None


def packaged() -> list[str]:
    """Names of the schemas that vehins brings along."""
    place = files("vehins.data") / "schemas"
    return sorted(item.name.removesuffix(".toml") for item in place.iterdir() if item.name.endswith(".toml"))


def load(name: str) -> TableSchema:
    """Load a packaged schema by its name, or any other by the path of its TOML file.

    Raises:
        SchemaError: there is none, or it contradicts itself.
    """
    if name in packaged():
        text = (files("vehins.data") / "schemas" / f"{name}.toml").read_text(encoding="utf-8")
    else:
        text = _read(Path(name))
    try:
        return TableSchema.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SchemaError(f"{name} is not valid TOML", detail=f"{error}.", hint=f"Mend that place in {name}.") from None
    except ValidationError as error:
        # A key that there is not is often why another is missing.
        first = min(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
        where = _place(first["loc"]) or "the whole schema"
        reason = _no_such_key(first["loc"]) if first["type"] == "extra_forbidden" else first["msg"]
        reason = reason.removeprefix("Value error, ")
        raise SchemaError(f"The schema {name} makes no sense at `{where}`", detail=f"{reason}.", hint=_HINT) from None


_HINT = "Mend it there; the packaged schema `vehicle-insurance` shows the form (`vehins config schema`)."


def _no_such_key(loc: tuple[int | str, ...]) -> str:
    """Say which keys there are where a schema has one that there is not."""
    kinds: dict[str, type[Record]] = {"columns": Column, "interactions": Interaction}
    kind = kinds[str(loc[0])] if len(loc) > 1 else TableSchema
    near = difflib.get_close_matches(str(loc[-1]), kind.model_fields, n=1, cutoff=0.5)
    meant = f" (is it `{near[0]}`?)" if near else ""
    return f"there is no such key{meant}. The keys are {', '.join(f'`{name}`' for name in kind.model_fields)}"


def _place(loc: tuple[int | str, ...]) -> str:
    """The dotted place of an error; behind the number of a value, pydantic names a type that it tried."""
    numbers = [i for i, part in enumerate(loc) if isinstance(part, int)]
    return ".".join(str(part) for part in (loc[: numbers[0] + 1] if numbers else loc))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(
            f"Cannot read the schema {path}",
            detail=f"{getattr(error, 'strerror', None) or error}.",
            hint=f"Name a TOML file, or a packaged schema: {', '.join(packaged())} (`--schema NAME`).",
        ) from None


def parse(data: bytes) -> TableSchema:
    """Read a schema back from an artifact or a bundle (`TableSchema.to_json`)."""
    return TableSchema.model_validate_json(data)
