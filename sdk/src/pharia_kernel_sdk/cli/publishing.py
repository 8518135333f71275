"""What the commands around registries and kernels have in common: options, and how they speak."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pharia_kernel_sdk.build.component import build
from pharia_kernel_sdk.build.errors import BuildError
from pharia_kernel_sdk.build.project import find
from pharia_kernel_sdk.publishing import environment as names
from pharia_kernel_sdk.publishing.credentials import Credentials, docker_credentials
from pharia_kernel_sdk.publishing.environment import Environment
from pharia_kernel_sdk.publishing.errors import PublishError
from pharia_kernel_sdk.publishing.kernel import DEFAULT_ADDRESS, Kernel
from pharia_kernel_sdk.publishing.progress import Progress
from pharia_kernel_sdk.publishing.reference import Defaults, Reference, parse
from pharia_kernel_sdk.publishing.registry import Registry
from pharia_kernel_sdk.publishing.signing import SigningKey
from pharia_kernel_sdk.transport import ADDRESS, TOKEN

SkillArgument = Annotated[
    str,
    typer.Argument(help="Component or source of the skill: `greet.wasm`, `greet.py`, `my.greet`."),
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
KernelOption = Annotated[
    str | None,
    typer.Option("--kernel", help=f"Address of the kernel, or {ADDRESS}; else {DEFAULT_ADDRESS}."),
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


@contextmanager
def reporting() -> Iterator[None]:
    """Ends the command with status 1 and what was wrong."""
    try:
        yield
    except (PublishError, BuildError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None


def read_environment() -> Environment:
    environment = Environment.read()
    if environment.file:
        typer.echo(f"Settings from {os.path.relpath(environment.file)}", err=True)
    return environment


@contextmanager
def steps() -> Iterator[Progress]:
    """A line that changes on a terminal; elsewhere a line for each step."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:

        def show(step: str, share: str = "", /) -> None:
            status.update(Text(f"{step}... {share}"))

        yield show


class _Lines:
    def __init__(self) -> None:
        self._last = ""

    def __call__(self, step: str, share: str = "", /) -> None:
        if step != self._last:
            self._last = step
            typer.echo(f"{step}...", err=True)


# --- registries -----------------------------------------------------------------------------------


def defaults(environment: Environment, registry: str | None, repository: str | None) -> Defaults:
    return Defaults(
        registry or environment.get(names.REGISTRY),
        (repository or environment.get(names.REPOSITORY) or "").strip("/"),
    )


def open_registry(
    reference: Reference,
    environment: Environment,
    *,
    user: str | None,
    password: str | None,
    password_stdin: bool,
    plain_http: bool | None,
    ca_file: Path | None,
) -> Registry:
    """With the credentials that are told, or else Docker's."""
    credentials = _credentials(environment, user, password, password_stdin)
    return Registry(
        reference,
        credentials or docker_credentials(reference.registry),
        plain_http=plain_http,
        ca_file=ca_file,
    )


def _credentials(
    environment: Environment, user: str | None, password: str | None, password_stdin: bool
) -> Credentials | None:
    user = user or environment.get(names.USER)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    password = password or environment.get(names.PASSWORD)
    if not user and not password:
        return None
    if not user or not password:
        missing, given = ("password", "user") if user else ("user", "password")
        raise PublishError(f"There is a {given} for the registry, but no {missing}.")
    return Credentials(user, password)


def read_key(path: Path | None, environment: Environment) -> SigningKey | None:
    def password() -> str:
        given = environment.values.get(names.KEY_PASSWORD)
        if given is not None:
            return given
        if not sys.stdin.isatty():
            raise PublishError(f"The key {path} is encrypted: set {names.KEY_PASSWORD}.")
        return str(typer.prompt(f"Password of {path}", hide_input=True, err=True))

    return SigningKey.read(path, password) if path else None


# --- skills ---------------------------------------------------------------------------------------


def skill_name(skill: str) -> str:
    """What a skill is called if nobody says otherwise."""
    path = Path(skill)
    return path.stem if path.suffix in (".py", ".wasm") else path.name.rpartition(".")[2]


def component_of(skill: str, progress: Progress) -> Path:
    """The component, built if a source was named. Raises ``BuildError`` and ``PublishError``."""
    path = Path(skill)
    if path.suffix == ".wasm":
        return path
    with_suffix = path.with_name(f"{path.name}.wasm")
    if path.suffix != ".py" and with_suffix.is_file():
        return with_suffix
    project = find(skill)
    built = build(project, Path.cwd() / f"{project.name}.wasm", progress)
    for warning in built.warnings:
        typer.echo(f"Warning: {warning}", err=True)
    return built.file


def target_reference(
    target: str | None,
    environment: Environment,
    *,
    name: str,
    registry: str | None,
    repository: str | None,
    tag: str | None,
) -> Reference:
    return parse(target, defaults(environment, registry, repository), name=name, tag=tag)


# --- kernels --------------------------------------------------------------------------------------


def open_kernel(environment: Environment, address: str | None, token: str | None) -> Kernel:
    return Kernel(
        address or environment.get(ADDRESS) or DEFAULT_ADDRESS, token or environment.get(TOKEN)
    )


def short(digest: str | None) -> str:
    """As much of a digest as people compare."""
    return digest[: len("sha256:") + 12] if digest else "-"
