"""Statements on Amazon Redshift through its Data API: sent once, waited for, cancelled; their errors in plain words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from vehins.errors import CredentialsError, NotFoundError, SettingsError, UnreachableError, VehinsError
from vehins.remote import address, aws
from vehins.remote.retry import retried

if TYPE_CHECKING:
    from vehins.remote.address import Address
    from vehins.remote.logins import Login
    from vehins.remote.sql import Table
    from vehins.settings import RedshiftSettings, RemoteSettings, S3Settings

FORM = "redshift://CLUSTER/DATABASE?table=SCHEMA.TABLE"
_STORE = "Redshift"
_SERVERLESS = "redshift-serverless"
_ENDS = {"FINISHED", "FAILED", "ABORTED"}
_BUSY = {"ActiveStatementsExceededException", "ActiveSessionsExceededException"}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between two looks
_LAST_CHANCE = 10.0  # seconds that a cancelled statement has to come to its end


def matches(url: str) -> bool:
    """Whether an address is one of Redshift's Data API."""
    return address.has_scheme(url, "redshift", _SERVERLESS)


def parse(url: str) -> Address:
    """Take the address apart.

    Raises:
        SettingsError: it names no cluster or workgroup, or no database, or has a password or an unknown option.
    """
    found = address.parse(url, FORM, ("table",))
    if not found.hosts or not found.path or "/" in found.path or ":" in found.hosts:
        hint = f"Write it as `{FORM}`, or `{_SERVERLESS}://WORKGROUP/DATABASE?table=SCHEMA.TABLE`."
        detail = f"It is {found.label}; a connection to a host and port goes by `postgresql://`."
        raise SettingsError("The address needs the name of a cluster and a database", detail=detail, hint=hint)
    if found.password is not None:
        raise SettingsError(
            "The Data API takes no password",
            detail=f"In {found.label}.",
            hint="Leave it out (AWS's login is used), or name a secret: `credentials.source_secret`.",
        )
    return found


class DataApi:
    """The statements of one login on one database."""

    def __init__(
        self, target: Address, login: Login, remote: RemoteSettings, s3: S3Settings, redshift: RedshiftSettings
    ) -> None:
        self.client = aws.client("redshift-data", remote, s3.region)
        self._remote, self._timeout = remote, redshift.timeout
        self._target = {"Database": target.path}
        user = target.user or login.user
        if target.scheme == _SERVERLESS:
            self._target["WorkgroupName"] = target.hosts
        else:
            self._target["ClusterIdentifier"] = target.hosts
        if login.secret:
            self._target["SecretArn"] = login.secret
        elif user and target.scheme != _SERVERLESS:
            self._target["DbUser"] = user

    def columns(self, table: Table) -> list[str]:
        """The names of a table's columns.

        Raises:
            NotFoundError: there is no such table, or the login does not see it.
        """
        found: list[str] = []
        more: dict[str, str] = {}
        while True:
            with _translated(f"the columns of {table}"):
                answer = self.client.describe_table(
                    **self._target, Schema=table.schema or "public", Table=table.name, **more
                )
            found += [column["name"] for column in answer.get("ColumnList", [])]
            if not answer.get("NextToken"):
                break
            more = {"NextToken": answer["NextToken"]}
        if not found:
            hint = "Check its name and schema (`public` by default), and that the login may see it."
            raise NotFoundError(f"There is no table {table}", detail="Redshift lists no column of it.", hint=hint)
        return found

    def run(self, statement: str, say: Callable[[str], None]) -> dict[str, Any]:
        """Run a statement and return what Redshift says of it; it is cancelled when it takes too long, or on Ctrl-C.

        Raises:
            CredentialsError: the login may not do it.
            NotFoundError: a table or column in it does not exist.
            SettingsError: it is no SQL.
            UnreachableError: anything else, also when it takes too long.
        """
        token = str(uuid4())  # whoever asks twice with the same token has asked once

        def send() -> str:
            return str(self.client.execute_statement(**self._target, Sql=statement, ClientToken=token)["Id"])

        with _translated("a statement"):
            identity = retried(send, self._remote, _is_busy)
        try:
            return self._finished(identity, say)
        except BaseException:
            self._cancel(identity)
            raise

    def _finished(self, identity: str, say: Callable[[str], None]) -> dict[str, Any]:
        started, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            answer = self._state(identity)
            if answer["Status"] in _ENDS:
                return _succeeded(answer)
            waited = time.monotonic() - started
            if waited > self._timeout:
                hint = "Allow more: `--set redshift.timeout=SECONDS`."
                detail = f"It was cancelled after {waited:,.0f} s."
                raise UnreachableError("The statement takes too long", detail=detail, hint=hint)
            say(f"Redshift: {answer['Status'].lower()} for {waited:,.0f} s")
            time.sleep(min(pause, max(0.01, self._timeout - waited)))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _state(self, identity: str) -> dict[str, Any]:
        with _translated("the state of a statement"):
            answer: dict[str, Any] = self.client.describe_statement(Id=identity)
        return answer

    def _cancel(self, identity: str) -> None:
        """Cancel a statement and give it a little time, for it may still write; one that has ended stays as it is."""
        with suppress(Exception):
            if self._state(identity)["Status"] in _ENDS:
                return
            self.client.cancel_statement(Id=identity)
            end = time.monotonic() + _LAST_CHANCE
            while self._state(identity)["Status"] not in _ENDS and time.monotonic() < end:
                time.sleep(_FIRST_PAUSE)


def _is_busy(error: Exception) -> bool:
    return aws.error_code(error) in _BUSY if hasattr(error, "response") else False


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """As `aws.translated`; a name that the Data API does not know is a ValidationException there."""
    from botocore.exceptions import ClientError, NoRegionError

    with aws.translated(_STORE, what):
        try:
            yield
        except NoRegionError as error:
            raise SettingsError("No region is set", detail=f"{error}", hint="Set `s3.region`.") from None
        except ClientError as error:
            if aws.error_code(error) != "ValidationException":
                raise
            said = str(error.response["Error"].get("Message", ""))
            if any(words in said.lower() for words in ("not found", "doesn't exist", "does not exist")):
                hint = "Check the name of the cluster or workgroup, and the region (`s3.region`)."
                raise NotFoundError("Redshift has no such thing", detail=f"{said}", hint=hint) from None
            hint = "Check the address and the login (`redshift://DBUSER@CLUSTER/DATABASE`)."
            raise SettingsError(f"Redshift does not take {what}", detail=said, hint=hint) from None


def _succeeded(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, unless the statement failed."""
    if answer["Status"] == "FINISHED":
        return answer
    said = " ".join(str(answer.get("Error") or "Redshift gives no reason").split())
    if answer["Status"] == "ABORTED":
        hint = "Run the command again; ask who may have cancelled it, or what limits its queue."
        raise UnreachableError("The statement was cancelled", detail=said, hint=hint)
    raise _failure(said)


def _failure(said: str) -> VehinsError:
    low = said.lower()
    if any(words in low for words in ("s3serviceexception", "assume role", "iam role", "iam_role")):
        hint = "Let the role write to `redshift.unload_to`, and attach it to Redshift: `--set redshift.iam_role=ARN`."
        return CredentialsError("Redshift may not write to the bucket", detail=said, hint=hint)
    if any(words in low for words in ("permission denied", "not authorized", "authentication failed")):
        hint = "Grant it: `GRANT SELECT ON TABLE ... TO ...`, and USAGE on the schema."
        return CredentialsError("Redshift does not permit it", detail=said, hint=hint)
    if "does not exist" in low:
        return NotFoundError("Redshift has no such thing", detail=said, hint="Check the names in the statement.")
    if "syntax error" in low:
        return SettingsError("Redshift does not understand the query", detail=said, hint="Mend it: `--query`.")
    return UnreachableError("The statement failed", detail=said, hint="Run it in Redshift's query editor to see more.")
