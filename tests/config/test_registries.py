from __future__ import annotations

from pathlib import Path

import pytest

from pharia_kernel.config import InPlaceNamespace, OciRegistryConfig

from .conftest import Load, Problems


def registry(load: Load, toml: str, **environ: str) -> OciRegistryConfig:
    namespace = load(f"[namespaces.n]\nskills = []\n{toml}", **environ).namespaces["n"]
    assert isinstance(namespace, InPlaceNamespace)
    assert isinstance(namespace.registry, OciRegistryConfig)
    return namespace.registry


def test_only_a_host_is_needed(load: Load) -> None:
    config = registry(load, 'registry = "ghcr.io"')
    assert config == OciRegistryConfig(registry="ghcr.io")
    assert (config.user, config.password, config.docker_config) == (None, None, None)
    assert not config.plain_http
    assert config.timeout == 30


@pytest.mark.parametrize("host", ["ghcr.io", "localhost:5000", "127.0.0.1", "[::1]:5000", "a_b:1"])
def test_hosts(load: Load, host: str) -> None:
    assert registry(load, f'registry = "{host}"').registry == host


def test_everything_in_variables(load: Load) -> None:
    config = registry(
        load,
        "",
        NAMESPACES__N__REGISTRY="r:5000",
        NAMESPACES__N__REGISTRY_PLAIN_HTTP="true",
        NAMESPACES__N__REGISTRY_DOCKER_CONFIG="default",
        NAMESPACES__N__REGISTRY_TIMEOUT="5s",
        NAMESPACES__N__BASE_REPOSITORY="/team/skills/",
    )
    assert config == OciRegistryConfig(
        registry="r:5000",
        plain_http=True,
        docker_config="default",
        timeout=5.0,
        base_repository="team/skills",
    )


def test_docker_config_at_a_path(load: Load) -> None:
    config = registry(load, 'registry = "r"\nregistry-docker-config = "~/auth.json"')
    assert config.docker_config == Path("~/auth.json").expanduser()


def test_a_password_in_a_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    toml = 'registry = "r"\nregistry-user = "me"\nregistry-password-file = "password"'
    config = registry(load, toml)
    assert config.password
    assert config.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(config)


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("registry = 'https://ghcr.io'", "registry: must be a host without a scheme"),
        ("registry = 'http://localhost:5000'", "registry-plain-http = true"),
        ("registry = 'ghcr.io/team'", "use `base-repository` for that"),
        ("registry = 'ghcr.io:port'", "registry: expected a host such as ghcr.io"),
        ("registry = 'ghcr.io:99999'", "registry: expected a host such as ghcr.io"),
        ("registry = 'a b'", "registry: expected a host such as ghcr.io"),
        ("registry = '::1'", "registry: expected a host such as ghcr.io"),
        ("registry = 5", "registry: expected a host such as ghcr.io"),
        ("registry = 'r'\nbase-repository = 'Team'", "base-repository: expected a path such as"),
        ("registry = 'r'\nbase-repository = 'a//b'", "base-repository: expected a path such as"),
        ("registry = 'r'\nregistry-plain-http = 'maybe'", "plain-http: expected true or false"),
        ("registry = 'r'\nregistry-timeout = 5", "registry-timeout: expected a duration"),
        ("registry = 'r'\nregistry-timeout = '0s'", "registry-timeout: expected more than 0"),
        (
            "registry = 'r'\nregistry-ca-file = 'x'\nregistry-plain-http = true",
            "registry-ca-file: has no use beside `registry-plain-http`",
        ),
        (
            "registry = 'r'\nregistry-docker-config = 'x'\n"
            "registry-user = 'u'\nregistry-password = 'p'",
            "registry-docker-config: excludes `registry-user`: keep one",
        ),
        (
            "registry = 'r'\nregistry-user = 'a:b'\nregistry-password = 'p'",
            "registry-user: must not hold a colon",
        ),
        ("registry = 'r'\nregistry-usr = 'u'", "did you mean namespaces.n.registry-user"),
        ("path = 'x'\nregistry-plain-http = true", "exclude each other: keep one registry"),
    ],
)
def test_what_does_not_fit(problems: Problems, toml: str, told: str) -> None:
    (problem,) = problems(f"[namespaces.n]\nskills = []\n{toml}")
    assert told in problem.replace(" (config.toml)", "")


def test_credentials_in_the_host_are_not_repeated(problems: Problems) -> None:
    (problem,) = problems("[namespaces.n]\nskills = []\nregistry = 'me:hunter2@ghcr.io'")
    assert "must not hold credentials" in problem
    assert "hunter2" not in problem
