"""Whose signatures a namespace demands."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from pharia_kernel.config.values import (
    FromEnv,
    HttpUrl,
    NoDuplicates,
    PathValue,
    Table,
    Text,
    expected,
    refused,
)


def _check_regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise expected(f"a regular expression ({error})") from None
    return text


class SignatureIdentity(Table):
    """Somebody who signs without a key of their own, through Sigstore."""

    issuer: HttpUrl
    """OpenID provider that vouched for the subject."""
    subject: Text | None = None
    """E-mail address or URL, exactly."""
    subject_regex: Annotated[Text, AfterValidator(_check_regex)] | None = None
    """Must match the whole subject."""

    @model_validator(mode="after")
    def _check_subject(self) -> Self:
        if (self.subject is None) == (self.subject_regex is None):
            raise refused("needs either `subject` or `subject-regex`")
        return self


class SignatureSettings(Table):
    """The keys beside a registry that say whose signatures its artifacts must have."""

    signature_keys: Annotated[list[PathValue], FromEnv, NoDuplicates] = Field(default_factory=list)
    """PEM files with public keys; a signature by any of them suffices."""
    signature_identities: Annotated[list[SignatureIdentity], FromEnv, NoDuplicates] = Field(
        default_factory=list
    )
    """A signature by any of them suffices, too."""
    signature_trust_root: PathValue | None = None
    """A Sigstore `trusted_root.json` for the identities; none: that of the public Sigstore."""

    @property
    def demands_signatures(self) -> bool:
        return bool(self.signature_keys or self.signature_identities)

    @model_validator(mode="after")
    def _check_trust_root(self) -> Self:
        if self.signature_trust_root is not None and not self.signature_identities:
            raise refused("is of use only beside `signature-identities`", "signature-trust-root")
        return self


SIGNATURE_KEYS = tuple(str(field.alias) for field in SignatureSettings.model_fields.values())
IDENTITY_KEYS = tuple(str(field.alias) for field in SignatureIdentity.model_fields.values())
