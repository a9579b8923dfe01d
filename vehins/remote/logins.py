"""User and password of a store: from its address, the settings, or a secret in AWS Secrets Manager, in this order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr

from vehins.errors import CredentialsError
from vehins.masking import remember

if TYPE_CHECKING:
    from vehins.remote.address import Address
    from vehins.settings import CredentialSettings, RemoteSettings, S3Settings


@dataclass(frozen=True)
class Login:
    """What the settings say about a login; the address may say more."""

    user: str | None = None
    password: SecretStr | None = None
    secret: str | None = None
    """Name or ARN of a secret."""

    @classmethod
    def of_source(cls, settings: CredentialSettings) -> Login:
        """The login for the source."""
        return cls(settings.source_user, settings.source_password, settings.source_secret)

    @classmethod
    def of_target(cls, settings: CredentialSettings) -> Login:
        """The login for what `--to` names."""
        return cls(settings.target_user, settings.target_password, settings.target_secret)

    def resolve(self, address: Address, remote: RemoteSettings, s3: S3Settings) -> tuple[str | None, str | None]:
        """User and password for an address; None for what nobody has given.

        Raises:
            CredentialsError: the secret cannot be read, or has no user and password.
            UnreachableError: Secrets Manager does not answer.
        """
        if self.secret and address.password is None and self.password is None:
            user, password = _from_secrets_manager(self.secret, remote, s3)
            return address.user or self.user or user, password
        ours = self.password.get_secret_value() if self.password else None
        return address.user or self.user, address.password if address.password is not None else ours


def _from_secrets_manager(name: str, remote: RemoteSettings, s3: S3Settings) -> tuple[str, str]:
    from vehins.remote import aws

    arn = name.split(":")
    region = arn[3] if arn[0] == "arn" and len(arn) > 6 else s3.region  # an ARN says where it is
    with aws.translated("AWS Secrets Manager", f"the secret {name}"):
        text = aws.client("secretsmanager", remote, region).get_secret_value(SecretId=name).get("SecretString", "")
    try:
        found = json.loads(text)
        remember(str(found["password"]))
        return str(found["username"]), str(found["password"])
    except (ValueError, TypeError, KeyError):
        raise CredentialsError(
            f"The secret {name} is no login",
            detail="It should be a JSON object with `username` and `password`.",
            hint="Write it in the form that Secrets Manager offers for databases.",
        ) from None
