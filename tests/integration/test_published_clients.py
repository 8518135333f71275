"""What published documents and SDKs taught people to type keeps working."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.kernel import KernelProcess

JSON_BODY = ("-H", "Content-Type: application/json")
TOKEN = ("-H", "Authorization: Bearer any-token")


async def curl(*arguments: str) -> str:
    """What the program prints; fails as the program does."""
    process = await asyncio.create_subprocess_exec(
        "curl",
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_health(kernel: KernelProcess) -> None:
    assert await curl(f"{kernel.url}/health") == "ok"


@pytest.mark.parametrize("path", ["/skills", "/v1/skills"])
async def test_listing(kernel: KernelProcess, path: str) -> None:
    assert "dev/greet" in json.loads(await curl(*TOKEN, f"{kernel.url}{path}"))


async def test_running_a_skill(kernel: KernelProcess) -> None:
    output = await curl(
        "-X",
        "POST",
        *TOKEN,
        *JSON_BODY,
        "-d",
        '{"name": "Homer"}',
        f"{kernel.url}/v1/skills/dev/greet/run",
    )
    assert output == '"Hello Homer"'


async def test_streaming_a_skill(kernel: KernelProcess) -> None:
    output = await curl(
        "-N", *JSON_BODY, "-d", "{}", f"{kernel.url}/v1/skills/test-beta/hello/message-stream"
    )
    assert output.startswith('event: message\ndata: {"type":"begin"}\n\nevent: message\n')
    assert output.count('"type":"append"') == 5


async def test_the_cache(kernel: KernelProcess) -> None:
    cached = f"{kernel.url}/cached_skills"
    assert "dev/sleeper" in json.loads(await curl(*TOKEN, cached))
    answer = await curl("-X", "DELETE", *TOKEN, f"{cached}/dev/sleeper")
    assert json.loads(answer) == "Skill removed from cache"
    # It is loaded again when it is used.
    assert (await kernel.run("sleeper", {"seconds": 0})).json() == "slept"
    assert "dev/sleeper" in json.loads(await curl(*TOKEN, cached))


async def test_metadata(kernel: KernelProcess) -> None:
    metadata = json.loads(await curl(*TOKEN, f"{kernel.url}/v1/skills/dev/greet/metadata"))
    assert metadata["description"] == "Greets a person by name."


async def test_compressed_answers(kernel: KernelProcess) -> None:
    url = f"{kernel.url}/skill.wit"
    plain = await curl(url)
    assert plain.startswith("package pharia:skill@") or "package pharia:skill@" in plain
    assert await curl("--compressed", url) == plain


@pytest.mark.parametrize("line", ["0.2", "0.3", "0.4", "0.5"])
async def test_every_wit_line_is_served(kernel: KernelProcess, line: str) -> None:
    text = await curl(f"{kernel.url}/skill.wit?version={line}")
    assert f"package pharia:skill@{line}." in text


async def test_documents(kernel: KernelProcess) -> None:
    assert "<html" in (await curl(f"{kernel.url}/")).lower()
    assert "<html" in (await curl(f"{kernel.url}/api-docs")).lower()
    document = json.loads(await curl(f"{kernel.url}/openapi.json"))
    assert "/v1/skills/{namespace}/{name}/run" in document["paths"]
