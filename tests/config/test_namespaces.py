from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from pharia_kernel.config import (
    ChatSkillEntry,
    FileRegistryConfig,
    InPlaceNamespace,
    OciRegistryConfig,
    Settings,
    SkillEntry,
    TeamOwnedNamespace,
    WatchNamespace,
)
from pharia_kernel.config.tools import McpServer

from .conftest import Load, Problems

CHAT = '{ type = "chat", name = "c", version = "1", model = "m", system_prompt = "" }'


def test_watched_directory(load: Load) -> None:
    toml = """
        [namespaces.dev]
        directory = "skills"
        mcp-servers = ["http://localhost:8000/mcp"]
        native-tools = ["add", "subtract", "saboteur"]
    """
    assert load(toml).namespaces["dev"] == WatchNamespace(
        directory=Path("skills"),
        mcp_servers=[McpServer(url="http://localhost:8000/mcp")],
        native_tools=["add", "subtract", "saboteur"],
    )


def test_skills_in_place_from_a_folder(load: Load) -> None:
    toml = f"""
        [namespaces.a]
        path = "skills"
        skills = [{{ name = "my.skill" }}, {{ name = "b", tag = "v1" }}, "d", {CHAT}]
    """
    assert load(toml).namespaces["a"] == InPlaceNamespace(
        skills=[
            SkillEntry(name="my.skill", tag="latest"),
            SkillEntry(name="b", tag="v1"),
            SkillEntry(name="d"),
            ChatSkillEntry(name="c", version="1", model="m", system_prompt=""),
        ],
        registry=FileRegistryConfig(path=Path("skills")),
    )


def test_limits_of_skills(load: Load) -> None:
    toml = """
        [namespaces.a]
        path = "x"
        update-interval = "1m"

        [[namespaces.a.skills]]
        name = "b"
        run-timeout = "30s"
        memory-limit = "64MiB"
        max-runs = 2
        allowed-tools = ["add"]
    """
    settings = load(toml)
    expected = InPlaceNamespace(
        skills=[
            SkillEntry(
                name="b",
                run_timeout=30,
                memory_limit=64 * 1024**2,
                max_runs=2,
                allowed_tools=["add"],
            )
        ],
        registry=FileRegistryConfig(path=Path("x")),
        update_interval=60,
    )
    assert settings.namespaces["a"] == expected
    assert load(settings.describe()) == settings


def test_skills_in_place_as_an_array_of_tables(load: Load) -> None:
    toml = """
        [namespaces.a]
        registry = "ghcr.io"
        registry-user = "me"
        registry-password = "hunter2"
        base-repository = "org/skills"

        [[namespaces.a.skills]]
        name = "x"
    """
    assert load(toml).namespaces["a"] == InPlaceNamespace(
        skills=[SkillEntry(name="x")],
        registry=OciRegistryConfig(
            registry="ghcr.io",
            user="me",
            password=SecretStr("hunter2"),
            base_repository="org/skills",
        ),
    )


def test_team_owned(load: Load) -> None:
    toml = """
        [namespaces.a]
        config-url = "file://namespace.toml"
        config-access-token = "t"
        path = "skills"
    """
    assert load(toml).namespaces["a"] == TeamOwnedNamespace(
        config_url="file://namespace.toml",
        config_access_token=SecretStr("t"),
        registry=FileRegistryConfig(path=Path("skills")),
    )


def test_blank_keys_do_not_count(load: Load) -> None:
    toml = """
        [namespaces.a]
        directory = ""
        skills = []
        path = ""
        registry = "r"
        registry-user = "u"
        registry-password = "p"
        base-repository = ""
    """
    namespace = load(toml).namespaces["a"]
    assert isinstance(namespace, InPlaceNamespace)
    assert isinstance(namespace.registry, OciRegistryConfig)
    assert namespace.registry.base_repository is None


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("", "n: expected one of `directory`, `skills`, `config-url` to say"),
        ("path = 'x'", "n: expected one of `directory`, `skills`, `config-url` to say"),
        ("directory = ''", "n: expected one of `directory`, `skills`, `config-url` to say"),
        ("directory = 5", "n.directory: expected a path, got 5"),
        ("directory = 'x'\nskills = []", "n: `directory`, `skills` exclude each other"),
        ("directory = 'x'\npath = 'y'", "n.path: not allowed beside `directory`"),
        ("directory = 'x'\ndirectori = 'y'", "n.directori: unknown key; did you mean"),
        ("config-url = 'http://x'", "n: expected `path` (a folder), or `registry`"),
        ("skills = []", "n: expected `path` (a folder), or `registry`"),
        ("skills = []\npath = 'x'\nregistry = 'y'", "n: `path` and `registry` exclude each other"),
        (
            "config-url = 'http://x'\npath = 'y'\nnative-tools = ['add']",
            "n.native-tools: not allowed beside `config-url`",
        ),
        (
            "skills = []\nregistry = 'x'\nregistry-password = 'y'",
            "n.registry-user: is missing: `registry-user` and",
        ),
        (
            "skills = []\nregistry = 'x'\nregistry-user = 'y'",
            "n.registry-password: is missing: `registry-user` and",
        ),
        ("skills = []\nregistry-user = 'y'\nregistry-password = 'z'", "n.registry: is missing"),
        (
            "directory = 'x'\nnative-tools = ['mul']",
            "n.native-tools[0]: expected 'add', 'subtract'",
        ),
        ("directory = 'x'\nnative-tools = ['add', 'add']", "n.native-tools: `add` is listed more"),
        ("directory = 'x'\nmcp-servers = ['mcp']", "n.mcp-servers[0].url: expected an http:// or"),
        ("directory = 'x'\nmcp-servers = 'http://mcp'", "n.mcp-servers: expected a list"),
    ],
)
def test_wrong_forms(problems: Problems, toml: str, told: str) -> None:
    (problem,) = problems(f"[namespaces.n]\n{toml}")
    assert problem.replace(" (config.toml)", "").startswith(f"namespaces.{told}")


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ('{ name = "../x" }', ".name: expected a skill name"),
        ('{ name = "a/b" }', ".name: expected a skill name"),
        (r'{ name = "a\\b" }', ".name: expected a skill name"),
        (r'{ name = "a\u0000" }', ".name: expected a skill name"),
        ('{ name = "." }', ".name: expected a skill name"),
        ('".."', ".name: expected a skill name"),
        ('{ name = "" }', ".name: expected a string that is not empty"),
        ("{ name = 5 }", ".name: expected a string that is not empty, got 5"),
        ("{}", ".name: is missing"),
        ("5", ': expected a table such as { name = "greet", tag = "latest" }, got 5'),
        ('{ name = "a", tags = "b" }', ".tags: unknown key; did you mean"),
        ('{ name = "a", tag = "" }', ".tag: expected a string that is not empty"),
        ('{ name = "a", run-timeout = 5 }', ".run-timeout: expected a duration with its unit"),
        ('{ name = "a", run-timeout = "0s" }', ".run-timeout: expected more than 0"),
        ('{ name = "a", run_timeout = "5s" }', ".run_timeout: unknown key; did you mean"),
        ('{ name = "a", memory-limit = "1 apple" }', ".memory-limit: expected a size in bytes"),
        ('{ name = "a", max-runs = 0 }', ".max-runs: expected at least 1"),
        ('{ name = "a", allowed-tools = "add" }', ".allowed-tools: expected a list"),
        (
            '{ name = "a", allowed-tools = ["add", "add"] }',
            ".allowed-tools: `add` is listed more than once",
        ),
        ('{ name = "a", type = "chatt" }', '.type: expected "chat"'),
        ('{ name = "a", model = "m" }', '.model: is only for skills of type = "chat"'),
        (CHAT.replace("}", ', tag = "x" }'), '.tag: is not for skills of type = "chat"'),
        (CHAT.replace('version = "1", ', ""), ".version: is missing"),
        (CHAT.replace("system_prompt", "system-prompt"), ".system_prompt: is missing"),
    ],
)
def test_wrong_skill_entries(problems: Problems, entry: str, told: str) -> None:
    problem = problems(f"[namespaces.n]\npath = 'x'\nskills = ['ok', {entry}]")[0]
    assert problem.replace(" (config.toml)", "").startswith(f"namespaces.n.skills[1]{told}")


def test_names_must_be_unique_across_kinds(problems: Problems) -> None:
    assert problems(f"[namespaces.n]\npath = 'x'\nskills = ['c', {CHAT}]") == [
        "namespaces.n.skills (config.toml): `c` is listed more than once"
    ]


def test_wrong_entries_in_a_variable(problems: Problems) -> None:
    assert problems(
        NAMESPACES__A__PATH="x",
        NAMESPACES__A__SKILLS='["ok", {"name": "a/b"}]',
        NAMESPACES__B__PATH="x",
        NAMESPACES__B__SKILLS="[",
    ) == [
        "NAMESPACES__A__SKILLS[1].name (environment): expected a skill name: 1 to 255 printable "
        'characters without `/` and `\\`, and not `.` or `..`, got "a/b"',
        "NAMESPACES__B__SKILLS (environment): expected a JSON list, or items separated by commas, "
        'got "["',
    ]


@pytest.mark.parametrize("name", ["Team", "a_b", "-a", "a--b", "a" * 65, "ä"])
def test_wrong_names(problems: Problems, name: str) -> None:
    (problem,) = problems(f'[namespaces."{name}"]\ndirectory = "x"')
    assert f"Invalid namespace `{name}`" in problem


def test_a_name_that_only_blank_variables_mention(problems: Problems) -> None:
    (problem,) = problems(NAMESPACES__A__DIRECTORY="")
    assert problem.startswith("NAMESPACES__A (environment): expected one of `directory`")


def test_programs_get_the_same_checks() -> None:
    with pytest.raises(ValidationError, match="a string that is not empty"):
        SkillEntry(name="")
    with pytest.raises(ValidationError, match="Invalid namespace"):
        Settings(namespaces={"A": WatchNamespace(directory=Path("x"))})


def test_mcp_servers_with_credentials(load: Load) -> None:
    settings = load(
        """
        [namespaces.n]
        directory = "x"
        mcp-servers = [
            "http://plain/mcp",
            { url = "http://c", token = "hunter2", timeout = "5s", headers = { A = "hunter3" } },
        ]
        """
    )
    (namespace,) = settings.namespaces.values()
    assert isinstance(namespace, WatchNamespace)
    plain, closed = namespace.mcp_servers
    assert (plain.url, plain.token, plain.timeout) == ("http://plain/mcp", None, 60.0)
    assert closed.token
    assert closed.token.get_secret_value() == "hunter2"
    assert closed.headers["A"].get_secret_value() == "hunter3"
    assert closed.timeout == 5
    assert "hunter" not in settings.describe() + repr(settings)
