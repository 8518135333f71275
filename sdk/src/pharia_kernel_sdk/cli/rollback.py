"""``pharia-sdk rollback``."""

from __future__ import annotations

from typing import Annotated

import typer

from pharia_kernel_sdk.cli.options import (
    DEADLINE,
    CaFileOption,
    DeadlineOption,
    KernelOption,
    NamespaceOption,
    PasswordOption,
    PasswordStdinOption,
    PlainHttpOption,
    RegistryOption,
    RepositoryOption,
    TagOption,
    TokenOption,
    UserOption,
)


def rollback_command(
    target: Annotated[
        str, typer.Argument(help="The skill: REGISTRY/REPOSITORY/NAME:TAG, or NAME:TAG.")
    ],
    to: Annotated[
        str | None,
        typer.Option("--to", help="Tag or digest of a manifest; by default, what was before."),
    ] = None,
    namespace: NamespaceOption = None,
    deadline: DeadlineOption = DEADLINE,
    registry: RegistryOption = None,
    repository: RepositoryOption = None,
    tag: TagOption = None,
    user: UserOption = None,
    password: PasswordOption = None,
    password_stdin: PasswordStdinOption = False,
    plain_http: PlainHttpOption = None,
    ca_file: CaFileOption = None,
    kernel: KernelOption = None,
    token: TokenOption = None,
) -> None:
    """Have a tag lead to what it led to before, and follow until the kernel serves that."""
    from pharia_kernel_sdk.cli.publishing import (
        follow,
        open_kernel,
        read_environment,
        registry_access,
        reporting,
        target_reference,
    )
    from pharia_kernel_sdk.publishing.following import choose_namespace, served
    from pharia_kernel_sdk.publishing.rollback import roll_back

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
            target, environment, name="", registry=registry, repository=repository, tag=tag
        )
        with open_kernel(environment, kernel, token) as asked:
            chosen = namespace or choose_namespace(asked, reference)
            history = served(asked, chosen, reference.name)
            with access.open(reference) as opened:
                rolled = roll_back(opened, reference, to, history)
            typer.echo(f"{reference}\n  before     {rolled.before}\n  now        {rolled.digest}")
            follow(asked, chosen, reference, rolled.digest, deadline)
