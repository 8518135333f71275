"""What signatures say: that an artifact with a certain digest was signed.

Formats: cosign's "simple signing" payload, and the in-toto statement in a DSSE envelope. Read them
only after their signature has been checked.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

T = TypeVar("T")

IN_TOTO = "application/vnd.in-toto+json"
PREDICATES = ("https://sigstore.dev/cosign/sign/v1", "https://slsa.dev/provenance/v1")
"""Statements that vouch for an artifact: a signature, and where and how it was built. Others, such
as the report of a vulnerability scanner, do not."""
_SIMPLE_SIGNING = "cosign container image signature"


class Unacceptable(Exception):
    """One signature does not count; the text goes on after "the signature"."""


class _Image(Struct, rename="kebab"):
    docker_manifest_digest: str


class _Critical(Struct):
    image: _Image
    type: str


class _Payload(Struct):
    critical: _Critical


class _Subject(Struct):
    digest: dict[str, str] = {}


class _Statement(Struct, rename="camel"):
    kind: str = field(name="_type")
    subject: list[_Subject] = []
    predicate_type: str = ""


def decoded(text: bytes, kind: type[T], what: str) -> T:
    """Raises ``Unacceptable``."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unacceptable(f"is malformed: {what} can't be read ({error})") from None


def check_simple_payload(payload: bytes, digest: str) -> None:
    """Raises ``Unacceptable`` unless it is about the manifest with this digest."""
    critical = decoded(payload, _Payload, "its payload").critical
    if critical.type != _SIMPLE_SIGNING:
        raise Unacceptable(f"is of type `{critical.type}`, not `{_SIMPLE_SIGNING}`")
    if critical.image.docker_manifest_digest != digest:
        raise _of_another(critical.image.docker_manifest_digest)


def check_statement(payload_type: str, payload: bytes, digest: str) -> None:
    """Raises ``Unacceptable`` unless it vouches for the manifest with this digest."""
    if payload_type != IN_TOTO:
        raise Unacceptable(f"is on a `{payload_type}`, not on an in-toto statement")
    statement = decoded(payload, _Statement, "its statement")
    if not statement.kind.startswith("https://in-toto.io/Statement/"):
        raise Unacceptable(f"is on a `{statement.kind}`, not on an in-toto statement")
    if statement.predicate_type not in PREDICATES:
        raise Unacceptable(
            f"is on a statement of type `{statement.predicate_type}`, which vouches for nothing"
        )
    signed = [f"{name}:{value}" for s in statement.subject for name, value in s.digest.items()]
    if digest not in signed:
        raise _of_another(", ".join(signed) or "nothing")


def _of_another(digests: Any) -> Unacceptable:
    return Unacceptable(f"is of another artifact: {digests}")
