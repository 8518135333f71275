"""``pharia-sdk publish``."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from pharia_kernel_sdk.cli.publishing import (
    CaFileOption,
    ForceOption,
    JsonOption,
    NameOption,
    PasswordOption,
    PasswordStdinOption,
    PlainHttpOption,
    RegistryOption,
    RepositoryOption,
    SignOption,
    SkillArgument,
    TagOption,
    TargetArgument,
    UserOption,
    component_of,
    open_registry,
    read_environment,
    read_key,
    reporting,
    skill_name,
    steps,
    target_reference,
)
from pharia_kernel_sdk.publishing.publish import Published, prepare, publish


def publish_command(
    skill: SkillArgument,
    target: TargetArgument = None,
    registry: RegistryOption = None,
    repository: RepositoryOption = None,
    name: NameOption = None,
    tag: TagOption = None,
    user: UserOption = None,
    password: PasswordOption = None,
    password_stdin: PasswordStdinOption = False,
    plain_http: PlainHttpOption = None,
    ca_file: CaFileOption = None,
    sign: SignOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Push a skill to an OCI registry."""
    with reporting():
        environment = read_environment()
        reference = target_reference(
            target,
            environment,
            name=name or skill_name(skill),
            registry=registry,
            repository=repository,
            tag=tag,
        )
        key = read_key(sign, environment)
        with steps() as progress:
            prepared = prepare(component_of(skill, progress), reference)
            with open_registry(
                reference,
                environment,
                user=user,
                password=password,
                password_stdin=password_stdin,
                plain_http=plain_http,
                ca_file=ca_file,
            ) as opened:
                published = publish(
                    opened, reference, prepared, key=key, force=force, progress=progress
                )
    if as_json:
        typer.echo(json.dumps({**asdict(published), "reference": str(reference)}))
    else:
        report(published)


def report(published: Published) -> None:
    """For people."""
    typer.echo(f"{published.reference}")
    typer.echo(f"  manifest   {published.digest}")
    typer.echo(f"  component  {published.component}, {published.size / 1e6:.1f} MB")
    typer.echo(f"  pushed     {_pushed(published)}")
    if published.previous:
        typer.echo(f"  before     {published.previous}")
    if published.signed_with:
        typer.echo(f"  signed     with {published.signed_with}")


def _pushed(published: Published) -> str:
    pushed = f"{published.pushed / 1e6:.1f} MB" if published.pushed else "nothing"
    skipped = ", ".join(published.skipped)
    return f"{pushed}; there already: {skipped}" if skipped else pushed
