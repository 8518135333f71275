"""Whose bearer token a backend gets."""

from __future__ import annotations

from dataclasses import dataclass, field

from pharia_kernel.csi.types import CallContext
from pharia_kernel.errors import TokenRequired


@dataclass(frozen=True, slots=True)
class ConfiguredToken:
    """The operator's token, whoever calls."""

    value: str = field(repr=False)

    def bearer(self, context: CallContext) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class CallersToken:
    """The token that came with the run; without one the backend is not asked."""

    def bearer(self, context: CallContext) -> str:
        """Raises ``TokenRequired``."""
        if not context.token:
            raise TokenRequired(
                "The inference backend works with the caller's token: "
                "send one as `Authorization: Bearer TOKEN`."
            )
        return context.token


Token = ConfiguredToken | CallersToken
