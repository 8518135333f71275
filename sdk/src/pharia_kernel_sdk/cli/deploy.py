"""``pharia-sdk deploy``."""

from __future__ import annotations

import typer

from pharia_kernel_sdk.cli.publish import report
from pharia_kernel_sdk.cli.publishing import (
    DEADLINE,
    CaFileOption,
    DeadlineOption,
    ForceOption,
    KernelOption,
    NameOption,
    NamespaceOption,
    PasswordOption,
    PasswordStdinOption,
    PlainHttpOption,
    RegistryOption,
    RepositoryOption,
    SignOption,
    SkillArgument,
    TagOption,
    TargetArgument,
    TokenOption,
    UserOption,
    component_of,
    open_kernel,
    open_registry,
    read_environment,
    read_key,
    reporting,
    skill_name,
    steps,
    target_reference,
)
from pharia_kernel_sdk.publishing.following import Serving, Wanted, choose_namespace, deploy
from pharia_kernel_sdk.publishing.publish import prepare, publish


def deploy_command(
    skill: SkillArgument,
    target: TargetArgument = None,
    namespace: NamespaceOption = None,
    deadline: DeadlineOption = DEADLINE,
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
    kernel: KernelOption = None,
    token: TokenOption = None,
) -> None:
    """Publish a skill, and follow it until the kernel serves it."""
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
        with open_kernel(environment, kernel, token) as asked:
            # Before anything is pushed: whether the kernel can be asked at all.
            chosen = namespace or choose_namespace(asked, reference)
            asked.namespace(chosen)
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
            report(published)
            wanted = Wanted(chosen, reference.name, reference.tag, published.digest)
            with steps() as progress:
                serving = deploy(asked, wanted, deadline, progress)
    report_serving(serving)


def report_serving(serving: Serving) -> None:
    """For people."""
    signed = f", signed by {serving.signed_by}" if serving.signed_by else ""
    typer.echo(f"{serving.path} serves {serving.digest}{signed} (after {serving.seconds:.1f} s)")
