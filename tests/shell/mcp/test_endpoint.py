"""``POST /mcp/{namespace}``, with the client of the MCP SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from msgspec import Raw

from pharia_kernel.errors import InvalidMetadata, KernelError, SkillFailed, SkillUnavailable
from pharia_kernel.shell.auth import Authorizers
from pharia_kernel.shell.mcp import endpoint
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import (
    Caller,
    MessageAppend,
    MessageBegin,
    MessageEnd,
    NamespaceDetail,
    NamespaceState,
    Reasoning,
    SkillInfo,
    SkillKind,
    SkillMetadata,
    SkillStatus,
    StreamEvent,
)
from tests.shell.auth.support import KEY, OTHER_KEY, api_keys, bearer, settings
from tests.shell.support import (
    Hanging,
    MemorySkills,
    Settings,
    app_of,
    drop,
    echo,
    listening,
    raises,
    running,
    within,
)

OBJECT = Raw(b'{"type":"object"}')
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "tests", "version": "1"},
    },
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


async def story(body: bytes) -> AsyncGenerator[StreamEvent, None]:
    yield MessageBegin()
    yield Reasoning("hm")
    yield MessageAppend("Once ")
    yield MessageAppend("upon")
    yield MessageEnd(Raw(b'{"input":%b}' % body))


class Described(MemorySkills):
    """The metadata of some of its skills can't be had."""

    trouble: dict[str, KernelError]

    async def metadata(self, path: SkillPath, caller: Caller) -> SkillMetadata:
        if path.name in self.trouble:
            raise self.trouble[path.name]
        return await super().metadata(path, caller)


def info(path: str, status: SkillStatus = SkillStatus.READY) -> SkillInfo:
    return SkillInfo(path=SkillPath(*path.split("/")), status=status)


def namespace(name: str) -> NamespaceDetail:
    return NamespaceDetail(
        name=name,
        state=NamespaceState.OK,
        form="directory",
        source="skills",
        generation=1,
        skill_states={},
        skills=[],
        tools=[],
        mcp_servers=[],
    )


@pytest.fixture
def skills() -> Described:
    names = ["dev/bug", "dev/echo", "dev/gone", "dev/story", "other/echo"]
    known = Described(
        runs={"echo": echo, "fails": raises(SkillFailed("No such city.")), "bug": echo},
        streams={"story": story},
        infos=[*map(info, names), info("dev/failed", SkillStatus.FAILED), info("dev/fails")],
        in_namespaces={name: namespace(name) for name in ("dev", "other")},
    )
    function = SkillMetadata("Says it again.", "0.4", SkillKind.FUNCTION, OBJECT, OBJECT)
    stream = SkillMetadata("Tells.", "0.4", SkillKind.MESSAGE_STREAM, OBJECT, None)
    known.descriptions = {"echo": function, "fails": function, "story": stream}
    known.trouble = {
        "bug": InvalidMetadata("Its schema is none."),
        "gone": SkillUnavailable("The registry does not answer."),
    }
    return known


@asynccontextmanager
async def mcp_client(
    port: int, path: str = "dev", token: str | None = None
) -> AsyncIterator[Client]:
    headers = bearer(token) if token else {}
    async with httpx2.AsyncClient(headers=headers, trust_env=False) as http:
        transport = streamable_http_client(f"http://127.0.0.1:{port}/mcp/dev", http_client=http)
        async with Client(transport) as client:
            yield client


def texts(result: types.CallToolResult) -> list[str]:
    return [part.text for part in result.content if isinstance(part, types.TextContent)]


async def test_skills_of_the_namespace_are_tools(skills: Described) -> None:
    async with listening(app_of(skills)) as port, mcp_client(port) as client:
        tools = (await within(client.list_tools())).tools
    # `gone` and `failed` can't be run; `bug` can, although its metadata are broken.
    assert [tool.name for tool in tools] == ["bug", "echo", "story", "fails"]
    described = {tool.name: tool.description for tool in tools}
    assert described == {
        "bug": None,
        "echo": "Says it again.",
        "story": "Tells.",
        "fails": "Says it again.",
    }


async def test_a_function_is_called(skills: Described) -> None:
    async with listening(app_of(skills)) as port, mcp_client(port) as client:
        result = await within(client.call_tool("echo", {"name": "Ada"}))
    assert not result.is_error
    assert json.loads(texts(result)[0]) == result.structured_content == {"name": "Ada"}


async def test_a_stream_is_collected_and_its_text_is_progress(skills: Described) -> None:
    heard: list[tuple[float, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message))

    async with listening(app_of(skills)) as port, mcp_client(port) as client:
        result = await within(client.call_tool("story", {}, progress_callback=on_progress))
    assert texts(result) == ["Once upon"]
    assert result.structured_content == {"input": {}}
    assert heard == [(1, "Once "), (2, "upon")]


async def test_what_goes_wrong_in_a_skill_is_a_result_that_the_model_reads(
    skills: Described,
) -> None:
    async with listening(app_of(skills)) as port, mcp_client(port) as client:
        result = await within(client.call_tool("fails", {}))
        argument = await within(client.call_tool("bug", {"wrong": 1}))
    assert result.is_error
    assert texts(result) == ["Skill failed: No such city."]
    assert argument.is_error
    assert "`input`" in texts(argument)[0]


async def test_an_unknown_tool_is_an_error_of_the_protocol(skills: Described) -> None:
    async with listening(app_of(skills)) as port, mcp_client(port) as client:
        with pytest.raises(MCPError, match="Namespace `dev` has no skill `nothing`") as caught:
            await within(client.call_tool("nothing", {}))
    assert caught.value.code == types.INVALID_PARAMS


async def test_the_callers_token_decides(skills: Described) -> None:
    keys = api_keys(
        dev={"permissions": ["run"], "namespaces": ["dev"]},
        other={"permissions": ["run"], "namespaces": ["other"]},
    )
    app = app_of(skills, auth=Authorizers(settings(api_keys=keys)))
    async with listening(app) as port:
        async with mcp_client(port, token=KEY) as client:
            await within(client.call_tool("echo", {}))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as plain:
            refused = await plain.post("/mcp/dev", json=INITIALIZE, headers=bearer(OTHER_KEY))
            nobody = await plain.post("/mcp/dev", json=INITIALIZE)
    assert skills.calls[-1][2].token is None  # an API key is no token of the backends
    assert (refused.status_code, nobody.status_code) == (403, 401)


async def test_a_client_that_goes_away_ends_the_run(skills: Described) -> None:
    skills.runs["echo"] = hanging = Hanging()
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "echo", "arguments": {}},
    }
    body = json.dumps(call).encode()
    async with listening(app_of(skills)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /mcp/dev HTTP/1.1\r\nHost: kernel\r\nContent-Type: application/json\r\n"
            b"Accept: application/json, text/event-stream\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        await within(hanging.started.wait())
        await drop(writer)
        await within(hanging.ended.wait())
    assert isinstance(hanging.outcome, asyncio.CancelledError)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://elsewhere.example", 403),
        ("https://trusted.example", 200),
        ("http://localhost:6274", 200),
        ("null", 403),
        ("http://[", 403),
    ],
)
async def test_only_trusted_pages_may_ask(skills: Described, origin: str, status: int) -> None:
    app = app_of(skills, settings=Settings(cors_allow_origins=["https://trusted.example"]))
    async with running(app) as client:
        answer = await client.post(
            "/mcp/dev", json=INITIALIZE, headers={**ACCEPT, "Origin": origin}
        )
    assert answer.status_code == status


async def test_requests_that_are_none(skills: Described) -> None:
    async with running(app_of(skills, settings=Settings(max_body_size=1000))) as client:
        unknown = await client.post("/mcp/nothing", json=INITIALIZE, headers=ACCEPT)
        method = await client.get("/mcp/dev")
        large = await client.post("/mcp/dev", content=b" " * 1001, headers=ACCEPT)
    assert (unknown.status_code, unknown.json()["namespace"]) == (404, "nothing")
    assert (method.status_code, method.headers["allow"]) == (405, "POST")
    assert large.status_code == 413


async def endless(body: bytes) -> AsyncGenerator[StreamEvent, None]:
    yield MessageBegin()
    while True:
        await asyncio.sleep(0)
        yield MessageAppend("x" * (1 << 20))


async def test_an_answer_fits_into_memory(skills: Described) -> None:
    skills.streams["story"] = endless
    async with listening(app_of(skills)) as port, mcp_client(port) as client:
        result = await within(client.call_tool("story", {}))
    assert result.is_error
    assert "more than fits into one answer" in texts(result)[0]


async def test_the_list_does_not_wait_for_ever(
    skills: Described, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Preparing(Described):
        async def metadata(self, path: SkillPath, caller: Caller) -> SkillMetadata:
            if path.name == "echo":
                await asyncio.Event().wait()
            return await super().metadata(path, caller)

    preparing = Preparing(**{name: getattr(skills, name) for name in skills.__dataclass_fields__})
    preparing.trouble = skills.trouble
    monkeypatch.setattr(endpoint, "_LONGEST_WAIT", 0.01)
    async with listening(app_of(preparing)) as port, mcp_client(port) as client:
        tools = (await within(client.list_tools())).tools
    assert [tool.name for tool in tools] == ["bug", "story", "fails"]
