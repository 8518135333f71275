"""The command ``pharia-kernel api-key``."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from pharia_kernel.config.authorization import (
    API_KEY_PREFIX,
    ApiKey,
    Permission,
    hash_api_key,
)
from pharia_kernel.config.describe import toml_value
from pharia_kernel.config.namespaces import NamespaceName

_KEY_BYTES = 32
_KEYS = TypeAdapter(dict[NamespaceName, ApiKey])
"""As the settings have them."""

Permissions = Annotated[
    list[Permission], typer.Option("--permission", "-p", help="What it allows; repeat for more.")
]
Namespaces = Annotated[
    list[str] | None,
    typer.Option("--namespace", "-n", help="Where it allows that; repeat for more, `*` is all."),
]
Expires = Annotated[
    str | None, typer.Option(help="When it is refused: 2027-01-31, or 2027-01-31T12:00:00Z.")
]


def api_key(
    name: Annotated[str, typer.Argument(help="Tells the key from others: whose it is.")],
    permissions: Permissions = [Permission.RUN],  # noqa: B006 - typer wants the list itself
    namespaces: Namespaces = None,
    expires: Expires = None,
) -> None:
    """Make an API key. It is shown once; config.toml gets its hash."""
    key = API_KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    table: dict[str, Any] = {"hash": hash_api_key(key), "permissions": permissions}
    if Permission.ADMIN not in permissions or namespaces:
        table["namespaces"] = namespaces or []
    if expires is not None:
        table["expires"] = expires
    _check(name, table)
    typer.echo(f"The key, which is not shown again:\n\n{key}\n")
    typer.echo(f"For config.toml:\n\n[api-keys.{name}]")
    for setting, value in table.items():
        hint = '  # name some, or write ["*"] for all' if value == [] else ""
        typer.echo(f"{setting} = {toml_value(value)}{hint}")


def _check(name: str, table: dict[str, Any]) -> None:
    """Nobody should paste what the kernel then refuses."""
    # Without --namespace, naming the namespaces is left to whoever pastes.
    complete = {**table, "namespaces": ["*"]} if table.get("namespaces") == [] else table
    try:
        _KEYS.validate_python({name: complete})
    except ValidationError as error:
        reasons = "; ".join(_sentence(details) for details in error.errors(include_url=False))
        typer.echo(f"error: {reasons}", err=True)
        raise typer.Exit(2) from None


def _sentence(error: ErrorDetails) -> str:
    location = (*error["loc"][1:], *error.get("ctx", {}).get("at", ()))
    keys = [str(part) for part in location if part != "[key]"]
    return f"{keys[0]}: {error['msg']}" if keys else error["msg"]
