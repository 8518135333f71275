"""Is the kernel open to more than this machine?"""

from __future__ import annotations

from typing import Protocol

from pharia_kernel.config.authorization import is_loopback
from pharia_kernel.config.values import Address
from pharia_kernel.shell.auth.authorizers import AuthorizationSettings


class ListeningSettings(AuthorizationSettings, Protocol):
    @property
    def kernel_address(self) -> Address: ...


def exposure(settings: ListeningSettings) -> str | None:
    """A sentence for the operator if anybody on the network may do everything."""
    authorized = settings.authorization_url or settings.api_keys or settings.oidc
    host = settings.kernel_address.host
    if authorized or is_loopback(host):
        return None
    return (
        f"ANYBODY who can reach {settings.kernel_address} may run skills, use the backends and "
        "change what is cached: there is no authorization. Set `api-keys`, `oidc` or "
        "`authorization-url`, or listen on 127.0.0.1 (`kernel-address`)."
    )
