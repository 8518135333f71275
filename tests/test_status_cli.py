"""``pharia-kernel status`` against the real HTTP surface."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from msgspec import structs
from typer.testing import CliRunner, Result

from pharia_kernel import cli
from pharia_kernel.skills.types import NamespaceState, SkillInfo, SkillKind, SkillStatus
from tests.shell.support import MemorySkills, app_of, listening
from tests.shell.test_namespaces import DEV, GREET, SERVING

WELL = structs.replace(GREET, error=None, next_attempt=None, history=[SERVING], since=0.0)
ALL_WELL = structs.replace(DEV, error=None, state=NamespaceState.OK, skills=[WELL])


@pytest.fixture
def skills() -> MemorySkills:
    return MemorySkills()


@pytest.fixture
async def url(skills: MemorySkills) -> AsyncIterator[str]:
    async with listening(app_of(skills)) as port:
        yield f"http://127.0.0.1:{port}"


async def status(url: str, *arguments: str, token: str = "") -> Result:
    environment = {"PHARIA_AI_TOKEN": token, "PHARIA_KERNEL_ADDRESS": ""}
    command = ["status", "--url", url, *arguments]
    return await asyncio.to_thread(CliRunner().invoke, cli.app, command, env=environment)


def have(skills: MemorySkills, detail: object) -> None:
    assert isinstance(detail, type(DEV))
    skills.in_namespaces = {"dev": detail}
    fields = SkillInfo.__struct_fields__
    skills.infos = [SkillInfo(**{f: getattr(skill, f) for f in fields}) for skill in detail.skills]


async def test_all_is_well(url: str, skills: MemorySkills) -> None:
    have(skills, ALL_WELL)
    result = await status(url)
    assert result.exit_code == 0, result.output
    for text in ("dev", "ok", "1 of 1 ready", "dev/greet", "v1", "d ago", "dev.toml"):
        assert text in result.stdout


async def test_something_failed(url: str, skills: MemorySkills) -> None:
    have(skills, DEV)
    result = await status(url)
    assert result.exit_code == 1
    for text in ("stale", "Line 3 is wrong.", "There is no signature."):
        assert text in result.stdout


async def test_one_namespace(url: str, skills: MemorySkills) -> None:
    have(skills, ALL_WELL)
    result = await status(url, "dev")
    assert result.exit_code == 0
    for text in ("versions of", "pulled 1.5 s", "compiled 7.0 s", "serving"):
        assert text in result.stdout


async def test_one_namespace_tells_what_its_skills_do(url: str, skills: MemorySkills) -> None:
    text = "Greets a [person].\n\nAt length."
    described = structs.replace(WELL, kind=SkillKind.MESSAGE_STREAM, description=text)
    have(skills, structs.replace(ALL_WELL, skills=[described, WELL]))
    result = await status(url, "dev")
    assert "Greets a [person]." in result.stdout and "message stream" in result.stdout
    assert "At length." not in result.stdout
    assert "Greets" not in (await status(url)).stdout


async def test_for_programs(url: str, skills: MemorySkills) -> None:
    have(skills, DEV)
    everything = await status(url, "--json")
    assert everything.exit_code == 1
    answer = json.loads(everything.stdout)
    assert [namespace["name"] for namespace in answer["namespaces"]] == ["dev"]
    assert [skill["path"] for skill in answer["skills"]] == ["dev/greet"]
    one = await status(url, "--json", "dev")
    assert json.loads(one.stdout)["skills"][0]["history"][1]["state"] == "serving"


async def test_without_anything(url: str) -> None:
    result = await status(url)
    assert result.exit_code == 0
    assert "namespace" in result.stdout


async def test_what_others_wrote_is_no_markup(url: str, skills: MemorySkills) -> None:
    odd = structs.replace(WELL, status=SkillStatus.READY, tag="[bold]x[/]")
    have(skills, structs.replace(ALL_WELL, skills=[odd]))
    assert "[bold]x[/]" in (await status(url)).stdout


async def test_an_unknown_namespace(url: str) -> None:
    result = await status(url, "other")
    assert result.exit_code == 2
    assert "Namespace `other` not found" in result.stderr


async def test_no_kernel() -> None:
    async with listening(app_of(MemorySkills())) as port:
        pass
    result = await status(f"http://127.0.0.1:{port}")
    assert result.exit_code == 2
    assert "no answer" in result.stderr


@pytest.mark.parametrize("body", ["[1]", "{}", "<html>"])
async def test_another_server(body: str, unused_tcp_port: int) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
        result = await status(f"http://127.0.0.1:{unused_tcp_port}")
    finally:
        await runner.cleanup()
    assert result.exit_code == 2
    assert "no PhariaKernel" in result.stderr


async def test_the_token_is_sent_and_never_shown(unused_tcp_port: int) -> None:
    seen: list[str | None] = []

    async def refuse(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.json_response({"detail": "Bearer token invalid."}, status=403)

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
        result = await status(f"http://127.0.0.1:{unused_tcp_port}", token="s3cret")
    finally:
        await runner.cleanup()
    assert seen == ["Bearer s3cret"]
    assert result.exit_code == 2
    assert "Bearer token invalid." in result.stderr
    assert "s3cret" not in result.output


def test_other_commands_do_not_wait_for_its_imports() -> None:
    code = "import sys, pharia_kernel.status_cli; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
