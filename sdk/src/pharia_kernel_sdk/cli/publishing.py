"""What the commands around registries and kernels have in common: where they get settings, and how
they speak. Slow to import, so commands do it when they run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from pharia_kernel_sdk.build.component import build
from pharia_kernel_sdk.build.errors import BuildError
from pharia_kernel_sdk.build.project import find
from pharia_kernel_sdk.publishing import environment as names
from pharia_kernel_sdk.publishing.credentials import Credentials, docker_credentials
from pharia_kernel_sdk.publishing.environment import Environment
from pharia_kernel_sdk.publishing.errors import PublishError
from pharia_kernel_sdk.publishing.following import Serving, Wanted, deploy
from pharia_kernel_sdk.publishing.kernel import DEFAULT_ADDRESS, Kernel
from pharia_kernel_sdk.publishing.progress import Progress
from pharia_kernel_sdk.publishing.publish import Published, prepare, publish
from pharia_kernel_sdk.publishing.reference import Defaults, Reference, parse
from pharia_kernel_sdk.publishing.registry import Registry
from pharia_kernel_sdk.publishing.signing import SigningKey
from pharia_kernel_sdk.transport import ADDRESS, TOKEN


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


@dataclass(frozen=True)
class Access:
    """How registries are asked."""

    credentials: Credentials | None
    """As told; none: Docker's."""
    plain_http: bool | None
    ca_file: Path | None

    def open(self, reference: Reference) -> Registry:
        """Raises ``PublishError``."""
        credentials = self.credentials or docker_credentials(reference.registry)
        return Registry(reference, credentials, plain_http=self.plain_http, ca_file=self.ca_file)


def registry_access(
    environment: Environment,
    *,
    user: str | None,
    password: str | None,
    password_stdin: bool,
    plain_http: bool | None,
    ca_file: Path | None,
) -> Access:
    """Raises ``PublishError`` if only half of the credentials is there."""
    credentials = _credentials(environment, user, password, password_stdin)
    return Access(credentials, plain_http, ca_file)


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


def push(
    skill: str,
    reference: Reference,
    access: Access,
    *,
    key: SigningKey | None,
    force: bool,
    rehearse: bool = False,
) -> Published:
    """Builds the skill if a source was named, and publishes it. Raises ``BuildError`` and
    ``PublishError``."""
    with steps() as progress:
        prepared = prepare(component_of(skill, progress), reference)
        with access.open(reference) as registry:
            return publish(
                registry,
                reference,
                prepared,
                key=key,
                force=force,
                rehearse=rehearse,
                progress=progress,
            )


# --- kernels --------------------------------------------------------------------------------------


def kernel_access(
    environment: Environment, address: str | None, token: str | None
) -> tuple[str, str | None]:
    """Address of a kernel, and the token for it."""
    return (
        address or environment.get(ADDRESS) or DEFAULT_ADDRESS,
        token or environment.get(TOKEN),
    )


def open_kernel(environment: Environment, address: str | None, token: str | None) -> Kernel:
    return Kernel(*kernel_access(environment, address, token))


def follow(
    kernel: Kernel, namespace: str, reference: Reference, digest: str, deadline: float
) -> None:
    """Waits until the kernel serves the manifest of that digest, and says so. Raises
    ``PublishError``."""
    wanted = Wanted(namespace, reference.name, reference.tag, digest)
    with steps() as progress:
        serving = deploy(kernel, wanted, deadline, progress)
    _report_serving(serving)


# --- results --------------------------------------------------------------------------------------


def report_published(published: Published) -> None:
    """For people."""
    typer.echo(f"{published.reference}")
    if not published.rehearsed:  # otherwise it will be another one, made at another time
        typer.echo(f"  manifest   {published.digest}")
    typer.echo(f"  component  {published.component}, {published.size / 1e6:.1f} MB")
    typer.echo(f"  {'to push' if published.rehearsed else 'pushed '}    {_pushed(published)}")
    if published.previous:
        typer.echo(f"  before     {published.previous}")
    if published.signed_with:
        typer.echo(f"  signed     with {published.signed_with}")


def _pushed(published: Published) -> str:
    pushed = f"{published.pushed / 1e6:.1f} MB" if published.pushed else "nothing"
    skipped = ", ".join(published.skipped)
    return f"{pushed}; there already: {skipped}" if skipped else pushed


def _report_serving(serving: Serving) -> None:
    """For people."""
    signed = f", signed by {serving.signed_by}" if serving.signed_by else ""
    typer.echo(f"{serving.path} serves {serving.digest}{signed} (after {serving.seconds:.1f} s)")
