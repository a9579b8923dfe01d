"""The account and region of a stack: a client of each service, and their errors in plain words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vehins.errors import ConfigurationError, ConflictError, CredentialsError
from vehins.remote import aws

if TYPE_CHECKING:
    from vehins.settings import Settings

_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedAccess"}
_OVERTAKEN = {"InvalidChangeSetStatus", "ChangeSetNotFound"}  # a change that was carried out has removed all others
_CHANGES = re.compile(r"_IN_PROGRESS state|in status [A-Z_]+_IN_PROGRESS|Stack .*does not exist")
_ACTION = re.compile(r"perform: (?P<action>[a-z0-9-]+:[A-Za-z]+)")


class Account:
    """Where a stack is; clients are made once, when they are first used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cloud = settings.cloud
        self._clients: dict[str, Any] = {}

    @property
    def stack(self) -> str:
        """Name of the stack."""
        return self.cloud.stack

    def client(self, service: str) -> Any:
        """A client of a service in the region of the stack.

        Raises:
            CredentialsError: no region is set, or AWS's own settings make no sense.
        """
        if service not in self._clients:
            self._clients[service] = self._made(service)
        return self._clients[service]

    def _made(self, service: str) -> Any:
        endpoint = self.cloud.endpoint_url
        more = {"s3": {"addressing_style": "path"}} if service == "s3" and endpoint else {}
        region = self.cloud.region or os.environ.get("AWS_REGION")  # which botocore does not look at
        try:
            return aws.client(service, self.settings.remote, region, endpoint_url=endpoint, **more)
        except CredentialsError as error:
            if "region" not in error.detail:
                raise
            hint = "Name it: `--set cloud.region=eu-central-1`, or AWS_REGION."
            raise CredentialsError("No region is set", detail=error.detail, hint=hint) from None

    @contextmanager
    def asked(self, service: str, what: str) -> Iterator[None]:
        """Turn an error of a service into one of ours; ``what`` names what was asked for.

        Raises:
            CredentialsError: nobody is logged in, or the login lacks a right; the right is named.
            ConfigurationError: what was asked for makes no sense to the service.
            ConflictError: somebody else changes the same stack.
            UnreachableError: anything else.
        """
        from botocore.exceptions import ClientError

        with aws.translated(service, what, "cloud"):
            try:
                yield
            except ClientError as error:
                code = aws.error_code(error)
                if code in _DENIED:
                    raise _denied(error, service, what) from None
                if code in _OVERTAKEN or (code == "ValidationError" and _CHANGES.search(str(error))):
                    raise _overtaken(error, what) from None
                if code == "ValidationError":
                    raise _refused(error, service, what) from None
                raise


def _denied(error: Any, service: str, what: str) -> CredentialsError:
    """The error for a right that the login lacks; AWS mostly names it, else it is called as the operation is."""
    said = str(error.response.get("Error", {}).get("Message", ""))
    found = _ACTION.search(said)
    action = found["action"] if found else f"{service.lower()}:{error.operation_name}"
    return CredentialsError(
        f"The login may not do {action}",
        detail=f"Asked for {what}: {said.rstrip('.')}." if said else f"Asked for {what}.",
        hint=f"Let its policy allow {action}; docs/cloud.md has the policy for each command.",
    )


def _overtaken(error: Any, what: str) -> ConflictError:
    """The error for a stack that somebody else has begun to change since we have looked."""
    said = str(error.response.get("Error", {}).get("Message", "")).rstrip(".")
    return ConflictError(
        "Somebody else changes the stack at this moment",
        detail=f"Asked for {what}: {said}.",
        hint="When that has ended (`vehins cloud status`), `vehins cloud up` shows what is left to do.",
    )


def _refused(error: Any, service: str, what: str) -> ConfigurationError:
    """The error for what makes no sense to the service: mostly a value of a setting."""
    said = str(error.response.get("Error", {}).get("Message", "")).rstrip(".")
    return ConfigurationError(
        f"{service} refuses it",
        detail=f"Asked for {what}: {said}.",
        hint="Mend what it names; the settings are below `cloud` (`vehins config show`).",
    )
