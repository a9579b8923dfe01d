"""T-SQL as SQLite understands it, by a few patterns, and SQLite's errors as SQL Server numbers them."""

from __future__ import annotations

import re
import sqlite3

from tds_tokens import ServerError

_CATALOG = "(SELECT 'dbo' AS TABLE_SCHEMA, name AS TABLE_NAME FROM dbo.sqlite_master WHERE type = 'table')"
_REWRITTEN = [
    (r"\bWITH \((?:TABLOCKX|UPDLOCK|HOLDLOCK|SERIALIZABLE|[\s,])+\)", ""),
    (r"(?<![\w\[])#(\w+)", r"temp.[#\1]"),
    (r"\[#(\w+)\]", r"temp.[#\1]"),
    (r"temp\.temp\.", "temp."),
    (r" COLLATE DATABASE_DEFAULT", ""),
    (r"\bN'", "'"),
    (r"\(max\)", ""),
    (r"INFORMATION_SCHEMA\.TABLES", _CATALOG),
    (r"\bSYSUTCDATETIME\(\)", "strftime('%Y-%m-%d %H:%M:%f', 'now')"),
    (r"SELECT SUM\(rows\) FROM sys\.partitions WHERE object_id = OBJECT_ID\('(.*?)'\).*", r"SELECT count(*) FROM \1"),
    (r"SELECT snapshot_isolation_state FROM sys\.databases.*", "SELECT 1"),
    (r"COALESCE\(DB_ID\(\), 0\)", "1"),
]


def rewritten(statement: str) -> str:
    """A statement of T-SQL for SQLite."""
    for pattern, replacement in _REWRITTEN:
        statement = re.sub(pattern, replacement, statement, flags=re.I | re.S)
    top = re.match(r"\s*SELECT TOP \(?(\d+)\)?", statement, re.I)
    if top:
        statement = "SELECT" + statement[top.end() :] + f" LIMIT {top[1]}"
    statement = re.sub(r"FROM OPENJSON\((@P1)\) WITH \((.*)\)\s*$", _from_json, statement, flags=re.S)
    return re.sub(r"\[((?:[^\]]|\]\])*)\]", _in_double_quotes, statement)


def _in_double_quotes(match: re.Match[str]) -> str:
    name = match[1].replace("]]", "]").replace('"', '""')
    return f'"{name}"'


def _from_json(match: re.Match[str]) -> str:
    columns = re.findall(r"(\[(?:[^\]]|\]\])+\]) \w+(?:\([^)]*\))? '(\$\.[^']*)'", match[2])
    picked = ", ".join(f"json_extract(value, '{path}') AS {name}" for name, path in columns)
    return f"FROM (SELECT {picked} FROM json_each({match[1]}))"


def of_sqlite(error: sqlite3.Error, statement: str) -> ServerError:
    text = str(error)
    if absent := re.match(r"no such table: (?:dbo\.)?(.*)", text):
        return ServerError(208, f"Invalid object name '{absent[1]}'.")
    if absent := re.match(r"no such column: (.*)", text):
        return ServerError(207, f"Invalid column name '{absent[1]}'.")
    if "UNIQUE" in text:
        return ServerError(2627, f"Violation of PRIMARY KEY constraint. ({text})", 14)
    if "CHECK" in text:
        return ServerError(547, f"The statement conflicted with the CHECK constraint. ({text})")
    return ServerError(102, f"Incorrect syntax: {text} in {statement[:200]}", 15)
