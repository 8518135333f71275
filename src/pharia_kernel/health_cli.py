"""``pharia-kernel health``: ask the kernel of this machine or container whether it is alive."""

from __future__ import annotations

import ipaddress
from http.client import HTTPConnection, HTTPException
from typing import Annotated

import typer

from pharia_kernel.config import Address, ConfigError, load

_TIMEOUT = 5.0


def health(
    address: Annotated[
        str | None,
        typer.Option(help="Where the kernel listens; overrides KERNEL_ADDRESS.", metavar="ADDRESS"),
    ] = None,
    ready: Annotated[bool, typer.Option("--ready", help="Ask whether it can serve, too.")] = False,
) -> None:
    """Exit with 0 if the kernel that is configured here answers, else with 1 and the reason."""
    options = {} if address is None else {"kernel-address": ("--address", address)}
    try:
        configured = load(options=options).kernel_address
        status = _status(configured, "/ready" if ready else "/health")
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except (OSError, HTTPException) as error:
        typer.echo(f"error: no answer at {configured}: {error}", err=True)
        raise typer.Exit(1) from None
    if status != 200:
        typer.echo(f"error: the kernel at {configured} answers {status}", err=True)
        raise typer.Exit(1)
    typer.echo("ok")


def _status(address: Address, path: str) -> int:
    connection = HTTPConnection(_reachable(address.host), address.port, timeout=_TIMEOUT)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _reachable(host: str) -> str:
    """One listens on all addresses at once, but connects to one: this machine's own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "::1" if address.version == 6 else "127.0.0.1"
