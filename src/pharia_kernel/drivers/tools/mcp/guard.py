"""Connections as far as the outbound policy permits them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import anyio
import httpcore2
import httpx2

from pharia_kernel.errors import OutboundRefused
from pharia_kernel.outbound import OutboundPolicy


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """Raises ``OutboundRefused`` where the policy does not let it connect.

    The policy decides on resolved addresses, for each connection that is opened, so a redirect or
    a name that changes its address is no way around it.
    """

    def __init__(self, policy: OutboundPolicy, limits: httpx2.Limits) -> None:
        super().__init__(limits=limits)
        # There is no public way to say how connections are opened. Should a later version call
        # its pool something else, the first line fails, instead of guarding nothing.
        unguarded = self._pool
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=unguarded._ssl_context,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_GuardedBackend(policy),
        )


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self, policy: OutboundPolicy) -> None:
        self._policy = policy
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as the library has it
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """``timeout`` (seconds) is for resolving, and for all addresses together."""
        try:
            with anyio.fail_after(timeout):
                addresses = await self._policy.resolve(host, port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error
        *others, last = addresses
        share = None if timeout is None else timeout / len(addresses)
        for address in others:
            with suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return await self._inner.connect_tcp(
                    address, port, share, local_address, socket_options
                )
        return await self._inner.connect_tcp(last, port, share, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - as the library has it
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        raise OutboundRefused("is refused: it is a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)
