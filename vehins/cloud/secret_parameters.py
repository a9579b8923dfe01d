"""The secrets of the box, as encrypted parameters: CloudFormation cannot make those, so `vehins cloud up` does."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vehins.cloud.account import Account
    from vehins.settings import Settings

API_KEYS, RUNNER_TOKEN = "api-keys", "runner-token"


def name_of(account: Account, which: str) -> str:
    """Name of a parameter."""
    return f"/{account.stack}/{which}"


def check(settings: Settings) -> None:
    """Raise `SettingsError` for API keys that the service on the box would refuse to start with."""
    from vehins.serving.keys import keys_for

    if settings.api_keys:
        keys_for(settings)


def put_all(account: Account) -> list[str]:
    """Bring the secrets to what the settings say; return the names of those that were written.

    Without `api_keys`, a key is made at the first time and kept from then on.
    """
    keys, token = account.settings.api_keys, account.cloud.runner_token
    wanted = keys.get_secret_value() if keys else _value(account, API_KEYS) or secrets.token_urlsafe(32)
    written = _put(account, API_KEYS, wanted)
    if token:
        written += _put(account, RUNNER_TOKEN, token.get_secret_value())
    return written


def _put(account: Account, which: str, value: str) -> list[str]:
    name = name_of(account, which)
    if _value(account, which) == value:
        return []
    with account.asked("SSM", f"the parameter {name}"):
        account.client("ssm").put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)
    return [name]


def _value(account: Account, which: str) -> str | None:
    name, client = name_of(account, which), account.client("ssm")
    with account.asked("SSM", f"the parameter {name}"):
        try:
            return str(client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
        except client.exceptions.ParameterNotFound:
            return None


def remove_all(account: Account) -> None:
    """Delete the secrets."""
    names = [name_of(account, which) for which in (API_KEYS, RUNNER_TOKEN)]
    with account.asked("SSM", ", ".join(names)):
        account.client("ssm").delete_parameters(Names=names)
