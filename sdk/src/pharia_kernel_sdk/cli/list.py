"""``pharia-sdk list``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pharia_kernel_sdk.cli.options import (
    CaFileOption,
    JsonOption,
    KernelOption,
    PasswordOption,
    PasswordStdinOption,
    PlainHttpOption,
    RegistryOption,
    RepositoryOption,
    TokenOption,
    UserOption,
)

if TYPE_CHECKING:
    from pharia_kernel_sdk.publishing.listing import Tag

_WIDTH = 160
"""Columns where the output is no terminal."""
_COLOURS = {"serving": "green", "failed": "bold red"}


def list_command(
    namespace: Annotated[
        str | None, typer.Argument(help="Only this namespace; by default, all.")
    ] = None,
    with_tags: Annotated[
        bool, typer.Option("--tags", help="Also the tags that the registry has of each skill.")
    ] = False,
    as_json: JsonOption = False,
    registry: RegistryOption = None,
    repository: RepositoryOption = None,
    user: UserOption = None,
    password: PasswordOption = None,
    password_stdin: PasswordStdinOption = False,
    plain_http: PlainHttpOption = None,
    ca_file: CaFileOption = None,
    kernel: KernelOption = None,
    token: TokenOption = None,
) -> None:
    """List the skills of a kernel: tags, digests and states."""
    from pharia_kernel_sdk.cli.publishing import (
        open_kernel,
        read_environment,
        registry_access,
        reporting,
        target_reference,
    )
    from pharia_kernel_sdk.publishing.listing import skills, tags

    with reporting():
        environment = read_environment()
        access = registry_access(
            environment,
            user=user,
            password=password,
            password_stdin=password_stdin,
            plain_http=plain_http,
            ca_file=ca_file,
        )
        with open_kernel(environment, kernel, token) as asked:
            found = skills(asked, namespace)
        known: dict[str, list[Tag]] = {}
        for path in (s["path"] for s in found if s["type"] == "programmable" and with_tags):
            reference = target_reference(
                None,
                environment,
                name=path.partition("/")[2],
                registry=registry,
                repository=repository,
                tag=None,
            )
            with access.open(reference) as opened:
                known[path] = tags(opened)
    if as_json:
        typer.echo(json.dumps(_json(found, known), indent=2))
    else:
        _show(found, known)


def _json(
    found: Sequence[dict[str, Any]], known: Mapping[str, Sequence[Tag]]
) -> list[dict[str, Any]]:
    return [
        {**skill, "tags": [asdict(tag) for tag in known[skill["path"]]]}
        if skill["path"] in known
        else skill
        for skill in found
    ]


def _show(found: Sequence[dict[str, Any]], known: Mapping[str, Sequence[Tag]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("SKILL", "TAG", "STATE", "MANIFEST", "COMPONENT", "SIGNED BY", "ERROR"):
        table.add_column(column, overflow="fold")
    for skill in found:
        state = skill["state"] or skill["status"]
        error = skill["error"]
        table.add_row(
            skill["path"],
            skill["tag"] or "-",
            Text(state, style=_COLOURS.get(state, "")),
            _short(skill["manifest_digest"]),
            _short(skill["digest"]),
            skill["signed_by"] or "-",
            Text(f"{error['title']}: {error['detail']}" if error else ""),
        )
        for tag in known.get(skill["path"], ()):
            here = tag.digest is not None and tag.digest == skill["manifest_digest"]
            table.add_row("", tag.name, "served" if here else "", _short(tag.digest))
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)


def _short(digest: str | None) -> str:
    """As much of a digest as people compare."""
    return digest[: len("sha256:") + 12] if digest else "-"
