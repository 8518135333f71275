"""Settings of what the kernel connects to for others."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from pharia_kernel.config.values import FromEnv, NoDuplicates, Table, Text, expected
from pharia_kernel.outbound import OutboundPolicy, Permit


def _check_permit(text: str) -> str:
    try:
        Permit.parse(text)
    except ValueError:
        raise expected(
            "a host, domain or network, with a port or without, such as mcp.example.com, "
            "*.internal, localhost:8080 or 10.1.0.0/16"
        ) from None
    return text


PermitText = Annotated[Text, AfterValidator(_check_permit)]


class Outbound(Table):
    """Limits for URLs in descriptions that are fetched over HTTP."""

    allow: Annotated[list[PermitText], FromEnv, NoDuplicates] = Field(default_factory=list)
    """Always permitted."""
    only_allowed: bool = False
    """Refuse everything else."""
    block_private_addresses: bool = False
    """Refuse what is not on the Internet."""

    def policy(self) -> OutboundPolicy:
        return OutboundPolicy.of(
            self.allow,
            only_allowed=self.only_allowed,
            block_private_addresses=self.block_private_addresses,
        )
