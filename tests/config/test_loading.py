"""How mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pharia_kernel import config

from .conftest import Load, Problems


def test_all_mistakes_at_once(problems: Problems) -> None:
    found = problems(
        'run-timeout = "soon"\nkernel-adress = "x"\n[namespaces.dev]\ndirectry = "x"',
        dotenv="LOG_LEVEL=loud",
        ENGINES="0",
        NAMESPACES__MY_TEAM__DIRECTRY="x",
    )
    assert sorted(found) == [
        'ENGINES (environment): expected at least 1, got "0"',
        "LOG_LEVEL (.env): expected one of error, warn, info, debug, trace, or a filter such as "
        'info,pharia_kernel.http=debug, got "loud"',
        "NAMESPACES__MY_TEAM__DIRECTRY (environment): unknown key; "
        "did you mean NAMESPACES__MY_TEAM__DIRECTORY?",
        "kernel-adress (config.toml): unknown key; did you mean kernel-address?",
        "namespaces.dev.directry (config.toml): unknown key; "
        "did you mean namespaces.dev.directory?",
        "run-timeout (config.toml): expected a duration with its unit, such as 500ms, 10s, 1h30m "
        'or PT10S, got "soon"',
    ]


def test_the_text_of_the_error(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ENGINES=many\nCOMPILE_JOBS=1.5")
    with pytest.raises(config.ConfigError) as caught:
        config.load(tmp_path, {"HOME": "/"})
    file = tmp_path / ".env"
    assert str(caught.value) == (
        "2 problems in the configuration:\n"
        f'  ENGINES ({file}): expected a whole number, got "many"\n'
        f'  COMPILE_JOBS ({file}): expected a whole number, got "1.5"'
    )


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("engines = true", "expected a whole number, got true"),
        ("engines = 1.5", "expected a whole number, got 1.5"),
        ("engines = []", "expected a whole number"),
        ("run-timeout = 600", "such as 500ms, 10s, 1h30m or PT10S, got 600"),
        ('run-timeout = "0s"', 'expected more than 0, got "0s"'),
        ('namespace-update-interval = "0s"', "expected more than 0"),
        ("run-queue-length = -1", "expected at least 0, got -1"),
        ('validate-input = "maybe"', 'expected true or false, got "maybe"'),
        ('log-format = "xml"', "expected 'auto', 'text' or 'json', got \"xml\""),
        ('max-body-size = "big"', "expected a size in bytes, such as 1024, 512MiB or 4G"),
        ("max-body-size = 0", "expected at least 1, got 0"),
        ("otel-sampling-ratio = 1.5", "expected a number between 0.0 and 1.0 inclusive, got 1.5"),
        ('cors-allow-origins = "*"', "expected a list"),
        ('cors-allow-origins = ["*", "x"]', "[1] (config.toml): expected an origin such as"),
        ('cors-allow-origins = ["*", "*"]', "`*` is listed more than once"),
        ('kernel-address = "::1:80"', "expected an address such as 127.0.0.1:8081"),
        ("kernel-address = 8081", "expected an address"),
        ('pharia-ai-feature-set = "betta"', "expected BETA or the number of a stable feature set"),
        ('otel-endpoint = "x"', "expected an http:// or https:// URL for OTLP over HTTP"),
    ],
)
def test_bad_values(problems: Problems, toml: str, told: str) -> None:
    (problem,) = problems(toml)
    assert problem.startswith(toml.split(" ")[0])
    assert told in problem


def test_unknown_keys_without_a_close_one(problems: Problems) -> None:
    (problem,) = problems(OPENAI_INFERENCE__XYZ="1", OPENAI_INFERENCE__URL="", dotenv="")[-1:]
    assert problem == (
        "OPENAI_INFERENCE__XYZ (environment): unknown key; known here are url, token, token-file"
    )


def test_toml_keys_in_snake_or_upper_case_are_unknown(problems: Problems) -> None:
    assert problems("run_timeout = '1s'\nENGINES = 1") == [
        "run_timeout (config.toml): unknown key; did you mean run-timeout?",
        "ENGINES (config.toml): unknown key; did you mean engines?",
    ]


def test_half_a_table_from_the_environment(problems: Problems) -> None:
    assert problems(OPENAI_INFERENCE__URL="http://a") == [
        "OPENAI_INFERENCE__TOKEN (environment): is missing"
    ]
    assert problems('openai-inference.url = "http://a"') == [
        "openai-inference.token (config.toml): is missing"
    ]


def test_misspelled_secrets_are_not_shown(problems: Problems) -> None:
    found = problems(
        "[namespaces.a]\ndirectory = 'x'\nregistry-password = 'hunter2'",
        OPENAI_INFERENCE__TOKN="hunter2",
        OPENAI_INFERENCE__URL="http://me:hunter2@",
        NAMESPACES__B__REGISTRY_PASWORD="hunter2",
        NAMESPACES__C__CONFIG_ACCESS_TOKEN="hunter\n2",
        OPENAI_INFERENCE__TOKEN="hunter2\r",
    )
    text = "\n".join(found)
    assert "hunter" not in text
    assert "did you mean OPENAI_INFERENCE__TOKEN?" in text
    assert "OPENAI_INFERENCE__TOKEN (environment): expected a string of one line" in text


def test_long_values_are_cut(problems: Problems) -> None:
    (problem,) = problems(ENGINES="x" * 10_000)
    assert len(problem) < 300


def test_no_place_for_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    (tmp_path / ".env").touch()
    with pytest.raises(config.ConfigError, match=r"WASMTIME_CACHE_DIR .* must be set"):
        config.load(tmp_path, {})
    assert config.load(tmp_path, {"WASMTIME_CACHE_DIR": "/x"}).wasmtime_cache_dir == Path("/x")


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/pharia-kernel"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/pharia-kernel"),
        ({"XDG_CACHE_HOME": "/cache", "WASMTIME_CACHE_DIR": "here"}, "here"),
    ],
)
def test_place_of_the_cache(load: Load, environ: dict[str, str], path: str) -> None:
    assert str(load(**environ).wasmtime_cache_dir) == path


def test_working_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("ENGINES=3")
    (tmp_path / "config.toml").write_text("compile-jobs = 4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENGINES", raising=False)
    monkeypatch.setenv("COMPILE_TIMEOUT", "5s")
    settings = config.load()
    assert (settings.engines, settings.compile_jobs, settings.compile_timeout) == (3, 4, 5)
