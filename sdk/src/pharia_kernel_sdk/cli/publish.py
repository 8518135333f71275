"""``pharia-sdk publish``."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from pharia_kernel_sdk.cli.options import (
    CaFileOption,
    DryRunOption,
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
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Push a skill to an OCI registry."""
    from pharia_kernel_sdk.cli.publishing import (
        push,
        read_environment,
        read_key,
        registry_access,
        report_published,
        reporting,
        skill_name,
        target_reference,
    )

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
        published = push(skill, reference, access, key=key, force=force, rehearse=dry_run)
    if as_json:
        typer.echo(json.dumps({**asdict(published), "reference": str(reference)}))
    else:
        report_published(published)
