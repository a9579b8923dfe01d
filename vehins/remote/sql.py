"""What SQL databases have in common: quoted names, the table of an address, and statements that only read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from vehins.errors import NotFoundError, SettingsError
from vehins.remote.probes import Check

if TYPE_CHECKING:
    from vehins.remote.address import Address

Quotes = Literal['"', "["]
_PART = r'"(?:[^"]|"")+"|[^."]+'
_TABLE = re.compile(rf"(?:(?P<schema>{_PART})\.)?(?P<name>{_PART})")
# What may hide a word or a semicolon: texts, quoted names, comments, PostgreSQL's dollar quotes.
_QUOTED = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\[(?:[^\]]|\]\])*\]|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$""", re.DOTALL
)
_WRITING = re.compile(
    r"\b(insert|update|delete|merge|into|drop|alter|create|truncate|grant|revoke|exec|execute|backup|restore|shutdown)\b",
    re.IGNORECASE,
)


class Table(NamedTuple):
    """The name of a table."""

    schema: str | None
    name: str

    def quoted(self, quotes: Quotes = '"') -> str:
        """The name as it stands in a statement."""
        parts = [self.schema, self.name] if self.schema else [self.name]
        return ".".join(quoted(part, quotes) for part in parts)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


def quoted(name: str, quotes: Quotes = '"') -> str:
    """An identifier that may hold any sign."""
    return f"[{name.replace(']', ']]')}]" if quotes == "[" else '"' + name.replace('"', '""') + '"'


def select(origin: str, columns: Iterable[str] = ("*",)) -> str:
    """A SELECT of columns from a table; the names are quoted already, what else is in it has passed `only_reads`."""
    return f"SELECT {', '.join(columns)} FROM {origin}"  # noqa: S608


def table_of(address: Address, form: str) -> Table:
    """The table that an address names as ``?table=[schema.]table``; a name with a dot stands in double quotes.

    Raises:
        SettingsError: it names none.
    """
    text = address.options.get("table", "")
    match = _TABLE.fullmatch(text)
    if match is None or "\0" in text:
        problem = f"`{text}` is no name of a table" if text else "The address names no table"
        raise SettingsError(problem, detail=f"In {address.label}.", hint=f"Write it as `{form}`.")
    schema = match["schema"]
    return Table(_bare(schema) if schema else None, _bare(match["name"]))


def _bare(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def only_reads(query: str) -> str:
    """A query as one statement without its last semicolon.

    Raises:
        SettingsError: it is not one SELECT or WITH statement, or has a word that writes.
    """
    bare = _QUOTED.sub(" ", query).strip().removesuffix(";").strip()
    first = re.match(r"\w*", bare)
    problem = None
    if first is None or first[0].lower() not in {"select", "with"}:
        problem = "It does not begin with SELECT or WITH"
    elif ";" in bare:
        problem = "It is more than one statement"
    elif writing := _WRITING.search(bare):
        problem = f"It has the word {writing[0].upper()}; a column of that name needs quotes"
    elif re.search(r"""['"]|/\*""", bare):
        problem = "A quote or a comment in it has no end"
    if problem:
        raise SettingsError(
            "The query is not one statement that reads",
            detail=f"{problem}.",
            hint="Give one SELECT (or WITH ... SELECT): `--query 'SELECT ... FROM ...'`.",
        )
    return _without_end(query)


def _without_end(query: str) -> str:
    """Drop a semicolon that nothing but blanks and comments follows."""
    ends = [match.start() for match in re.finditer(";", query)]
    hidden = [match.span() for match in _QUOTED.finditer(query)]
    outside = [end for end in ends if not any(low <= end < high for low, high in hidden)]
    return query[: outside[-1]] + query[outside[-1] + 1 :] if outside else query


def clock(there: float, before: float, after: float) -> Check:
    """Compare a server's clock with ours: it said ``there`` between ``before`` and ``after``, in seconds of 1970."""
    skew = max(0.0, before - there, there - after)
    found = f"within {skew:.0f} s of this machine's" if skew >= 1 else "the same as this machine's"
    mend = "Set the clocks (`timedatectl set-ntp true`): times in logs and tokens will disagree." if skew > 60 else ""
    return Check("clock skew", "ok", found, mend)


def matched(wanted: Iterable[str], found: Sequence[str]) -> dict[str, str]:
    """Name in the schema -> name in the database, whose case may differ where only one column fits."""
    folded: dict[str, list[str]] = {}
    for name in found:
        folded.setdefault(name.casefold(), []).append(name)
    pairs = {}
    for name in wanted:
        near = [name] if name in found else folded.get(name.casefold(), [])
        if len(near) == 1:
            pairs[name] = near[0]
    return pairs


def no_such_table(table: Table, label: str, tables: Sequence[Table]) -> NotFoundError:
    """The error for a table that is not there, with names that look like it."""
    names = [str(one) for one in tables]
    folded = {str(one).casefold(): str(one) for one in tables} | {one.name.casefold(): str(one) for one in tables}
    near = difflib.get_close_matches(str(table).casefold(), folded, n=3, cutoff=0.6)
    if near:
        hint = (
            "Did you mean " + " or ".join(f"`?table={name}`" for name in dict.fromkeys(folded[n] for n in near)) + "?"
        )
    elif names:
        hint = (
            "The login sees " + ", ".join(f"`{name}`" for name in names[:8]) + (" ..." if len(names) > 8 else "") + "."
        )
    else:
        hint = "The login sees no table at all: check the database, and its rights."
    return NotFoundError(f"There is no table {table}", detail=f"In {label}.", hint=hint)


def lacking_columns(table: Table, label: str, lacking: Sequence[str], found: Sequence[str]) -> SettingsError:
    """The error for rows with columns that the table they go to does not have."""
    names = ", ".join(f"`{name}`" for name in lacking)
    return SettingsError(
        f"The table {table} lacks {names}",
        detail=f"In {label}; it has {', '.join(f'`{name}`' for name in found)}.",
        hint="Add them to the table, leave them out of the rows, or name a new table.",
    )
