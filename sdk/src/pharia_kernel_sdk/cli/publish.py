"""``pharia-sdk publish``."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from pharia_kernel_sdk.cli.options import (
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
)


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
    from pharia_kernel_sdk.cli.publishing import (
        component_of,
        read_environment,
        read_key,
        registry_access,
        report_published,
        reporting,
        skill_name,
        steps,
        target_reference,
    )
    from pharia_kernel_sdk.publishing.publish import prepare, publish

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
            with access.open(reference) as opened:
                published = publish(
                    opened, reference, prepared, key=key, force=force, progress=progress
                )
    if as_json:
        typer.echo(json.dumps({**asdict(published), "reference": str(reference)}))
    else:
        report_published(published)
