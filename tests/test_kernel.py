from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pharia_kernel import config, kernel, wiring
from pharia_kernel.drivers.retrieval.local.database import Database
from pharia_kernel.errors import SkillUnavailable
from pharia_kernel.kernel import Kernel
from tests.skills_layer.support import eventually
from tests.support.kernel import until

NAMESPACES = """
[namespaces.mine]
directory = "skills"
native-tools = ["subtract", "add"]
mcp-servers = ["http://b/mcp", "http://a/mcp"]

[namespaces.bare]
directory = "skills"
"""


def settings(directory: Path, toml: str = "", **environ: str) -> config.Settings:
    (directory / "config.toml").write_text(toml)
    (directory / ".env").touch()
    (directory / "skills").mkdir(exist_ok=True)
    return config.load(directory, {"WASMTIME_CACHE_DIR": str(directory / "cache")} | environ)


@asynccontextmanager
async def reading(directory: Path) -> AsyncGenerator[Kernel, None]:
    """A kernel that has read its namespaces."""
    toml = NAMESPACES.replace('"skills"', f'"{directory}/skills"')
    async with Kernel(settings(directory, toml, ENGINES="1")) as kernel:
        await eventually(lambda: kernel.skills.readiness()["namespaces"]["ready"])
        yield kernel


async def test_tools_of_a_namespace_are_plain_data(tmp_path: Path) -> None:
    async with reading(tmp_path) as kernel:
        tools = kernel.skills.tools("mine")
        assert tools is not None
        assert [tool["name"] for tool in tools] == ["add", "subtract"]
        assert tools[0]["description"] == "Add two numbers"
        assert tools[0]["input_schema"]["required"] == ["a", "b"]
        assert kernel.skills.tools("bare") == []
        assert kernel.skills.tools("unknown") is None


async def test_mcp_servers_of_a_namespace_are_sorted(tmp_path: Path) -> None:
    async with reading(tmp_path) as kernel:
        assert kernel.skills.mcp_servers("mine") == ["http://a/mcp", "http://b/mcp"]
        assert kernel.skills.mcp_servers("bare") == []
        assert kernel.skills.mcp_servers("unknown") is None


@pytest.mark.parametrize(
    ("switch", "tools"), [("true", ["add", "saboteur", "subtract"]), ("false", None)]
)
async def test_test_skills_have_all_native_tools(
    tmp_path: Path, switch: str, tools: list[str] | None
) -> None:
    kernel = Kernel(settings(tmp_path, TEST_SKILLS=switch))
    found: Any = kernel.skills.tools("test-beta")
    assert (found and [tool["name"] for tool in found]) == tools


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "no inference provider"),
        (
            {"OPENAI_INFERENCE__URL": "http://x", "OPENAI_INFERENCE__TOKEN": "secret"},
            "providers: openai",
        ),
        ({"INFERENCE_URL": "http://x"}, "providers: aleph-alpha"),
    ],
)
async def test_which_inference_is_used_is_logged(
    tmp_path: Path, environ: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        Kernel(settings(tmp_path, **environ))
    assert said in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("error", "trace"),
    [(SkillUnavailable("disk on fire"), False), (ValueError("disk on fire"), True)],
)
async def test_part_that_fails_to_start_is_logged(
    tmp_path: Path, error: Exception, trace: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for the parts, so an error that is not logged would be lost."""

    async def start() -> None:
        raise error

    await kernel._start("namespaces", start)
    assert "starting the namespaces failed" in caplog.text
    assert "disk on fire" in caplog.text
    assert ("Traceback" in caplog.text) is trace


async def test_document_index_that_cannot_be_opened_is_not_ready(tmp_path: Path) -> None:
    directory = tmp_path / "index"
    other_kernel = Database(directory / "documents.sqlite")
    await other_kernel.open("")
    environ = {
        "DOCUMENT_INDEX__DIRECTORY": str(directory),
        "OPENAI_INFERENCE__URL": "http://x",
        "OPENAI_INFERENCE__TOKEN": "secret",
    }
    try:
        async with Kernel(settings(tmp_path, ENGINES="1", **environ)) as kernel:

            async def problem() -> str | None:
                return kernel.skills.readiness()["document_index"].get("error")

            assert "used by another process" in await until(problem, "the index fails")
            assert kernel.skills.readiness()["document_index"]["ready"] is False
    finally:
        await other_kernel.close()


def test_engines_find_a_cache_directory_that_is_relative_to_the_kernels_own(tmp_path: Path) -> None:
    relative = settings(tmp_path).model_copy(update={"wasmtime_cache_dir": Path("cache")})
    assert kernel._compiler_settings(relative).directory == Path.cwd() / "cache"


async def test_the_document_index_needs_a_provider_that_embeds(tmp_path: Path) -> None:
    with pytest.raises(wiring.CannotStart, match=r"embedding-provider.*there are: none"):
        Kernel(settings(tmp_path, DOCUMENT_INDEX__DIRECTORY="documents"))


async def test_of_several_providers_one_must_be_named(tmp_path: Path) -> None:
    toml = """
    [document-index]
    directory = "documents"
    [inference-providers.a]
    type = "openai"
    url = "http://a"
    token = "x"
    [inference-providers.b]
    type = "openai"
    url = "http://b"
    token = "x"
    """
    with pytest.raises(wiring.CannotStart, match="there are: a, b"):
        Kernel(settings(tmp_path, toml))
    Kernel(settings(tmp_path, toml, DOCUMENT_INDEX__EMBEDDING_PROVIDER="b"))


async def test_a_missing_model_file_stops_the_start(tmp_path: Path) -> None:
    toml = '[inference-providers.laptop]\ntype = "local"\nmodel-file = "none.gguf"'
    with pytest.raises(wiring.CannotStart, match=r"laptop.*no model file"):
        Kernel(settings(tmp_path, toml))
