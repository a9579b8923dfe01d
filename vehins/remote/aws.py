"""Clients of AWS's services with time-outs and bounded retries, and their errors in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from vehins.errors import CredentialsError, NotFoundError, UnreachableError, VehinsError

if TYPE_CHECKING:
    from vehins.settings import RemoteSettings, S3Settings

_LOGIN_CODES = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
}
_RIGHTS_CODES = {"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "UnauthorizedOperation", "403"}
_ABSENT_CODES = {"NoSuchBucket", "NoSuchKey", "ResourceNotFoundException", "404"}
_CLOCK_CODES = {"RequestTimeTooSkewed", "RequestExpired"}


def client(service: str, remote: RemoteSettings, region: str | None, **more: Any) -> Any:
    """A client of a service; ``more`` goes to botocore's Config, ``endpoint_url`` to the client.

    Raises:
        CredentialsError: the settings of AWS's own chain make no sense, say a profile that does not exist.
    """
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    endpoint = more.pop("endpoint_url", None)
    config = Config(
        connect_timeout=remote.connect_timeout,
        read_timeout=remote.read_timeout,
        retries={"mode": "standard", "total_max_attempts": remote.attempts},
        **more,
    )
    try:
        # A session of its own: the default one of boto3 is shared by threads, which it is not made for.
        session = botocore.session.get_session()
        session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
        return session.create_client(service, region_name=region, endpoint_url=endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        raise CredentialsError(
            f"A client for {service} cannot be made", detail=f"{error}".rstrip(".") + ".", hint=_CREDENTIALS_HINT
        ) from None


@cache
def _loader(data_path: str | None) -> Any:
    """What reads AWS's descriptions of its services: shared, since most of the time that a client takes goes there."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


def s3_client(s3: S3Settings, remote: RemoteSettings) -> Any:
    """A client of S3, or of what stands in for it."""
    when = "when_supported" if s3.checksums == "sha256" else "when_required"
    return client(
        "s3",
        remote,
        s3.region,
        endpoint_url=s3.endpoint_url,
        s3={"addressing_style": "path" if s3.path_style else "auto"},
        request_checksum_calculation=when,
        response_checksum_validation=when,
    )


_CREDENTIALS_HINT = "Check AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_REGION and their kin, or the role of this machine."


@contextmanager
def translated(store: str, what: str, section: str = "s3") -> Iterator[None]:
    """Turn an error of botocore into one of ours; ``store`` and ``what`` name where and what was asked for.

    ``section`` is that of the settings that lead there.

    Raises:
        CredentialsError: nobody is logged in (any more), or the login has no right to it.
        NotFoundError: it is not there.
        UnreachableError: anything else: no connection, no answer in time, an error of the service.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        CredentialRetrievalError,
        LoginError,
        NoCredentialsError,
        PartialCredentialsError,
        SSOError,
        TokenRetrievalError,
    )
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise CredentialsError(f"Nobody is logged in to {store}", detail=f"{error}.", hint=_CREDENTIALS_HINT) from None
    except (CredentialRetrievalError, LoginError, SSOError, TokenRetrievalError) as error:
        detail = f"{error}".rstrip(".") + "."
        hint = "Log in again: `aws sso login`, `aws login`, or whatever else AWS_PROFILE takes its login from."
        raise CredentialsError(f"The login for {store} has ended, or cannot be had", detail=detail, hint=hint) from None
    except ClientError as error:
        raise _answered(error, store, what) from None
    except ResponseParserError as error:
        raise UnreachableError(
            f"What answers does not speak as {store} does",
            detail=f"Asked for {what}: {str(error).splitlines()[0]}".rstrip(".") + ".",
            hint=f"Check the endpoint (`{section}.endpoint_url`) and proxies on the way.",
        ) from None
    except (BotoCoreError, HTTPError) as error:  # botocore lets the latter through when the body of an error is cut off
        raise UnreachableError(
            f"{store} does not answer",
            detail=f"Asked for {what}: {error}".rstrip(".") + ".",
            hint=f"Check the network, the region (`{section}.region`) and the endpoint (`{section}.endpoint_url`).",
        ) from None


def error_code(error: Any) -> str:
    """The code of a ClientError: AWS's own, or the HTTP status where the answer had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _answered(error: Any, store: str, what: str) -> VehinsError:
    """What an answer of the service amounts to."""
    code = error_code(error)
    said = str(error.response.get("Error", {}).get("Message") or code).rstrip(".")
    detail = f"Asked for {what}: {said} ({code})."
    if code in _LOGIN_CODES:
        return CredentialsError(f"{store} does not accept the login", detail=detail, hint=_CREDENTIALS_HINT)
    if code in _CLOCK_CODES:
        hint = "Set the clock of this machine (`timedatectl set-ntp true`)."
        return CredentialsError(f"{store} refuses a clock that is wrong", detail=detail, hint=hint)
    if code in _RIGHTS_CODES:
        hint = "Give the login that right; docs/registry.md lists the actions that each task needs."
        return CredentialsError(f"{store} does not permit it", detail=detail, hint=hint)
    if code in _ABSENT_CODES:
        return NotFoundError(f"{store} has no such thing", detail=detail, hint="Check the name, and the region.")
    return UnreachableError(f"{store} failed", detail=detail, hint="Try again; if it stays so, ask its status page.")
