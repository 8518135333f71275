"""Which source wins, and what names lead to which key."""

from __future__ import annotations

from pathlib import Path

import pytest

from pharia_kernel import config
from pharia_kernel.config import InPlaceNamespace, WatchNamespace

from .conftest import Load, Problems


def test_nothing_at_all(tmp_path: Path) -> None:
    (tmp_path / ".env").touch()
    settings = config.load(tmp_path, {"HOME": "/home/me", "PATH": "/bin", "NAMESPACE": "x"})
    assert settings == config.Settings(
        wasmtime_cache_dir=Path("/home/me/.cache/pharia-kernel"), engines=settings.engines
    )


def test_precedence(load: Load) -> None:
    toml = 'engines = 1\nrun-timeout = "1s"\ncompile-jobs = 1\ncompile-timeout = "1s"'
    settings = load(
        toml, dotenv="RUN_TIMEOUT=2s\nCOMPILE_JOBS=2", COMPILE_JOBS="3", compile_timeout="3s"
    )
    assert settings.engines == 1
    assert settings.run_timeout == 2
    assert settings.compile_jobs == 3
    assert settings.compile_timeout == 3


def test_options_override_everything(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ENGINES=2")
    options = {"engines": ("--engines", "5")}
    settings = config.load(tmp_path, {"HOME": "/", "ENGINES": "3"}, options)
    assert settings.engines == 5
    assert "engines = 5  # option --engines" in settings.describe()


def test_sources_merge_inside_a_namespace(load: Load) -> None:
    toml = '[namespaces.dev]\ndirectory = "a"\nnative-tools = ["add"]'
    settings = load(toml, NAMESPACES__DEV__DIRECTORY="b")
    assert settings.namespaces == {
        "dev": WatchNamespace(directory=Path("b"), native_tools=["add"]),
    }


def test_sources_merge_inside_the_inference_table(load: Load) -> None:
    settings = load('openai-inference.url = "http://a"', OPENAI_INFERENCE__TOKEN="t")
    assert settings.openai_inference is not None
    assert settings.openai_inference.url == "http://a"
    assert settings.openai_inference.token.get_secret_value() == "t"


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("NAMESPACES__TEAM1__DIRECTORY", "team1"),
        ("NAMESPACES__1A2B__DIRECTORY", "1a2b"),
        ("NAMESPACES__MY_TEAM__DIRECTORY", "my-team"),
        ("namespaces__my-team__directory", "my-team"),
        ("Namespaces__Dev__Directory", "dev"),
    ],
)
def test_names_of_namespaces_in_variables(load: Load, variable: str, name: str) -> None:
    assert list(load(**{variable: "x"}).namespaces) == [name]


def test_lists_in_variables(load: Load) -> None:
    settings = load(
        CORS_ALLOW_ORIGINS="http://a,http://b",
        NAMESPACES__DEV__PATH="skills",
        NAMESPACES__DEV__SKILLS='["a", {"name": "b", "tag": "v2"}]',
        NAMESPACES__DEV__NATIVE_TOOLS="add, subtract",
        NAMESPACES__DEV__MCP_SERVERS='["http://mcp"]',
    )
    dev = settings.namespaces["dev"]
    assert isinstance(dev, InPlaceNamespace)
    assert settings.cors_allow_origins == ["http://a", "http://b"]
    assert [(entry.name, getattr(entry, "tag", None)) for entry in dev.skills] == [
        ("a", "latest"),
        ("b", "v2"),
    ]
    assert dev.native_tools == ["add", "subtract"]
    assert [server.url for server in dev.mcp_servers] == ["http://mcp"]


def test_an_empty_variable_unsets_the_key(load: Load) -> None:
    settings = load(
        'inference-url = "http://a"\nengines = 7',
        INFERENCE_URL="",
        ENGINES="",
        OTEL_ENDPOINT="",
        OPENAI_INFERENCE__URL="",
        OPENAI_INFERENCE__TOKEN="",
        WASMTIME_CACHE_DIR="",
        MEMORY_LIMIT="",
    )
    assert settings.inference_url is None
    assert settings.engines == config.Settings().engines
    assert settings.otel_endpoint is None
    assert settings.openai_inference is None
    assert str(settings.wasmtime_cache_dir) == "/home/me/.cache/pharia-kernel"


def test_empty_strings_in_toml(load: Load) -> None:
    assert load('authorization-url = ""\nlog-level = ""').authorization_url is None


def test_dotenv_of_a_parent_directory(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("export ENGINES='4' # four\nLOG_LEVEL=$HOME")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    with pytest.raises(config.ConfigError) as caught:
        config.load(below, {"HOME": "/"})
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("LOG_LEVEL", '"$HOME"')
    assert problem.source == str(tmp_path / ".env")


def test_the_nearest_dotenv_is_the_only_one(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ENGINES=4\nCOMPILE_JOBS=4")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".env").write_text("ENGINES=5")
    settings = config.load(tmp_path / "a", {"HOME": "/"})
    assert (settings.engines, settings.compile_jobs) == (5, 1)


def test_other_variables_do_not_matter(load: Load) -> None:
    load(PATH="/bin", ENGINES_TOTAL="x", KERNEL="x", __ENGINES="x", OPENAI_API_KEY="sk")


# --- files with secrets --------------------------------------------------------------------------


def test_secrets_from_files(load: Load, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sk-1\n")
    (tmp_path / "password").write_text("hunter2")
    settings = load(
        f"""
        [openai-inference]
        url = "http://a"
        token-file = "{tmp_path}/token"
        """,
        NAMESPACES__DEV__CONFIG_URL="http://b",
        NAMESPACES__DEV__CONFIG_ACCESS_TOKEN_FILE="token",
        NAMESPACES__DEV__REGISTRY="c",
        NAMESPACES__DEV__REGISTRY_USER="d",
        NAMESPACES__DEV__REGISTRY_PASSWORD_FILE="password",
    )
    assert settings.openai_inference is not None
    assert settings.openai_inference.token.get_secret_value() == "sk-1"
    dev = settings.namespaces["dev"]
    assert isinstance(dev, config.TeamOwnedNamespace)
    assert dev.config_access_token is not None
    assert dev.config_access_token.get_secret_value() == "sk-1"
    assert isinstance(dev.registry, config.OciRegistryConfig)
    assert dev.registry.password
    assert dev.registry.password.get_secret_value() == "hunter2"


def test_a_secret_in_a_variable_beats_a_missing_file_in_toml(load: Load) -> None:
    toml = 'openai-inference = { url = "http://a", token-file = "missing" }'
    inference = load(toml, OPENAI_INFERENCE__TOKEN="t").openai_inference
    assert inference is not None
    assert inference.token.get_secret_value() == "t"


def test_a_file_in_a_variable_beats_a_secret_in_toml(load: Load, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file")
    toml = 'openai-inference = { url = "http://a", token = "t" }'
    inference = load(toml, OPENAI_INFERENCE__TOKEN_FILE="token").openai_inference
    assert inference is not None
    assert inference.token.get_secret_value() == "from-file"


def test_secret_files_that_are_no_use(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    toml = 'openai-inference = { url = "http://a", token-file = "empty" }'
    assert problems(toml, NAMESPACES__A__CONFIG_ACCESS_TOKEN_FILE="/missing")[:2] == [
        'openai-inference.token-file (config.toml): expected a file that is not empty, got "empty"',
        "NAMESPACES__A__CONFIG_ACCESS_TOKEN_FILE (environment): "
        'expected a readable file (No such file or directory), got "/missing"',
    ]


def test_secret_and_file_in_one_source(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a")
    found = problems(
        OPENAI_INFERENCE__URL="http://a",
        OPENAI_INFERENCE__TOKEN="hunter2",
        OPENAI_INFERENCE__TOKEN_FILE="token",
    )
    assert found == [
        "OPENAI_INFERENCE__TOKEN_FILE (environment): contradicts OPENAI_INFERENCE__TOKEN, "
        "which sets the same key: keep one"
    ]


# --- sources that can't be read ------------------------------------------------------------------


def test_toml_syntax(problems: Problems) -> None:
    (problem,) = problems("engines = 1\nlog-level = \n")
    assert problem.startswith("config.toml (config.toml): is not valid TOML: ")
    assert "line 2" in problem


def test_toml_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / ".env").touch()
    (tmp_path / "config.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(config.ConfigError, match="is not UTF-8 text"):
        config.load(tmp_path, {"HOME": "/"})


def test_toml_that_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / ".env").touch()
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(config.ConfigError, match="cannot be read: Is a directory"):
        config.load(tmp_path, {"HOME": "/"})


def test_tables_that_are_none(problems: Problems) -> None:
    assert problems('namespaces.dev = "x"\nopenai-inference = 1', OPENAI_INFERENCE__URL="") == [
        "namespaces.dev (config.toml): expected a table",
        "openai-inference (config.toml): expected a table",
    ]
    assert problems("namespaces = 1") == ["namespaces (config.toml): expected a table"]


def test_variables_for_whole_tables(problems: Problems) -> None:
    assert problems(NAMESPACES="{}", NAMESPACES__DEV="skills", OPENAI_INFERENCE="x") == [
        "NAMESPACES (environment): expected a name of the form NAMESPACES__<NAME>__<KEY>",
        "NAMESPACES__DEV (environment): expected a name of the form NAMESPACES__<NAME>__<KEY>",
        "OPENAI_INFERENCE (environment): expected OPENAI_INFERENCE__URL or OPENAI_INFERENCE__TOKEN",
    ]


def test_keys_beneath_a_plain_setting(problems: Problems) -> None:
    (problem,) = problems(KERNEL_ADDRESS__PORT="1")
    assert problem == (
        "KERNEL_ADDRESS__PORT (environment): unknown key; KERNEL_ADDRESS has no keys beneath it"
    )


def test_one_key_in_two_spellings(load: Load, problems: Problems) -> None:
    assert load(ENGINES="2", engines="2").engines == 2
    assert problems(ENGINES="2", engines="3") == [
        "engines (environment): contradicts ENGINES, which sets the same key: keep one"
    ]
