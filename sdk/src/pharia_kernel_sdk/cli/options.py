"""Options that the commands around registries and kernels have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pharia_kernel_sdk.transport import ADDRESS, TOKEN

SkillArgument = Annotated[
    str,
    typer.Argument(help="Component or source of the skill: `greet.wasm`, `greet.py`, `my.greet`."),
]
CallableArgument = Annotated[
    str,
    typer.Argument(
        help="Source, component, or skill of a kernel: `greet.py`, `my.greet`, `greet.wasm`, "
        "`namespace/name`."
    ),
]
ToolsOption = Annotated[
    str,
    typer.Option("--namespace", "-n", help="Whose tools a source or component calls."),
]
TargetArgument = Annotated[
    str | None,
    typer.Argument(
        help="Where to: REGISTRY/REPOSITORY/NAME:TAG, or NAME:TAG; what is left out comes from "
        "the options and the environment.",
        show_default=False,
    ),
]
RegistryOption = Annotated[
    str | None,
    typer.Option("--registry", "-R", help="Host of the registry, or SKILL_REGISTRY."),
]
RepositoryOption = Annotated[
    str | None,
    typer.Option("--repository", "-r", help="Path before the name, or SKILL_REPOSITORY."),
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Name of the skill; by default that of the file.")
]
TagOption = Annotated[str | None, typer.Option("--tag", "-t", help="Version; by default `latest`.")]
UserOption = Annotated[
    str | None, typer.Option("--user", "-u", help="User, or SKILL_REGISTRY_USER.")
]
PasswordOption = Annotated[
    str | None,
    typer.Option(
        "--password",
        "-p",
        help="Password or token, or SKILL_REGISTRY_TOKEN. Other users of this machine can see "
        "options; --password-stdin hides it.",
    ),
]
PasswordStdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
PlainHttpOption = Annotated[
    bool | None,
    typer.Option(
        "--plain-http/--https",
        help="Whether the registry is asked without TLS; by default, only on this machine.",
        show_default=False,
    ),
]
CaFileOption = Annotated[
    Path | None, typer.Option("--ca-file", help="Certificates (PEM) that are trusted besides.")
]
SignOption = Annotated[
    Path | None,
    typer.Option(
        "--sign",
        metavar="KEY",
        help="Sign with this private key, as cosign does. COSIGN_PASSWORD is its password.",
        show_default=False,
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Move a tag that looks like a version.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, say what would be, push nothing.")
]
KernelOption = Annotated[
    str | None,
    typer.Option(
        "--kernel", help=f"Address of the kernel, or {ADDRESS}; else http://127.0.0.1:8081."
    ),
]
TokenOption = Annotated[
    str | None, typer.Option("--token", help=f"Token for the kernel, or {TOKEN}.")
]
NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="Of the kernel; needed if several have a skill of this name."
    ),
]
DeadlineOption = Annotated[
    float, typer.Option("--deadline", min=0, help="Seconds until the kernel must serve it.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Output for programs.")]

DEADLINE = 300.0
DEVELOPMENT = "dev"
"""The namespace of skills that nobody has deployed."""
