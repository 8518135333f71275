"""``pharia-sdk deploy``."""

from __future__ import annotations

from pharia_kernel_sdk.cli.options import (
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
)


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
    from pharia_kernel_sdk.cli.publishing import (
        follow,
        open_kernel,
        push,
        read_environment,
        read_key,
        registry_access,
        report_published,
        reporting,
        skill_name,
        target_reference,
    )
    from pharia_kernel_sdk.publishing.following import choose_namespace

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
        with open_kernel(environment, kernel, token) as asked:
            # Before anything is pushed: whether the kernel can be asked at all.
            chosen = namespace or choose_namespace(asked, reference)
            asked.namespace(chosen)
            published = push(skill, reference, access, key=key, force=force)
            report_published(published)
            follow(asked, chosen, reference, published.digest, deadline)
