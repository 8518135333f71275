"""What went wrong between us and a registry, in the kernel's errors."""

from __future__ import annotations

import aiohttp
import msgspec
from msgspec import Struct
from multidict import CIMultiDictProxy

from pharia_kernel.errors import (
    ArtifactNotFound,
    BadRegistryAnswer,
    RegistryUnauthorized,
    RegistryUnavailable,
    SkillUnavailable,
)
from pharia_kernel.resilience import parse_retry_after

_NOT_FOUND_CODES = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN"})
_DENIED_CODES = frozenset({"DENIED", "UNAUTHORIZED"})
_BRIEF_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


class BriefTrouble(RegistryUnavailable):
    """May be over in a moment: worth another attempt."""


class _Error(Struct):
    code: str = ""


class _Errors(Struct):
    errors: list[_Error] = []


def connection_trouble(error: Exception, what: str) -> SkillUnavailable:
    """For what the HTTP client raised. ``what`` was asked for, with its article."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or "not valid"
            return RegistryUnavailable(
                f"The registry's certificate is not trusted ({reason}). If it is from a CA of your "
                "own, name that in `registry-ca-file`."
            )
        case aiohttp.ClientConnectorSSLError():
            return RegistryUnavailable(
                "The registry does not answer in TLS. If it is meant to be asked without, set "
                "`registry-plain-http = true`."
            )
        case aiohttp.ClientConnectorDNSError():
            return BriefTrouble("The registry's host name is not known: check `registry`.")
        case TimeoutError():
            return BriefTrouble(f"The registry fell silent when asked for {what}.")
        case aiohttp.ClientConnectorError():
            return BriefTrouble("The registry accepts no connections.")
        case aiohttp.ClientResponseError() | aiohttp.InvalidURL():
            return BadRegistryAnswer(f"The registry did not answer in HTTP, asked for {what}.")
        case _:
            return BriefTrouble(f"The connection to the registry broke, asked for {what}.")


def refusal(
    status: int, headers: CIMultiDictProxy[str], body: bytes, what: str, hint: str
) -> SkillUnavailable:
    """For a status that was not hoped for. The codes are those of the OCI Distribution
    Specification.

    ``hint`` says which credentials to check.
    """
    codes = _codes(body)
    if status in _BRIEF_STATUSES or "TOOMANYREQUESTS" in codes:
        return BriefTrouble(
            f"The registry answers with status {status}, asked for {what}.",
            retry_after=parse_retry_after(headers.get("Retry-After")),
        )
    if status in (401, 403) or codes & _DENIED_CODES:
        return RegistryUnauthorized(
            f"The registry refuses {what} (status {status}): {hint}. Some registries say so, too, "
            "if there is no such repository."
        )
    if status == 404 or codes & _NOT_FOUND_CODES:
        return ArtifactNotFound(f"The registry does not have {what}.")
    return BadRegistryAnswer(f"The registry answers with status {status}, asked for {what}.")


def foreign_refusal(status: int, what: str) -> SkillUnavailable:
    """For a status of the storage that the registry redirected to."""
    kind = BriefTrouble if status in _BRIEF_STATUSES else BadRegistryAnswer
    return kind(f"The registry's storage answers with status {status}, asked for {what}.")


def _codes(body: bytes) -> set[str]:
    try:
        return {error.code for error in msgspec.json.decode(body, type=_Errors).errors}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return set()
