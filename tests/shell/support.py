"""An in-memory skills layer, and a real server and client around the shell."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from starlette.types import ASGIApp

from pharia_kernel import config
from pharia_kernel.csi.api import Csi
from pharia_kernel.csi.service import CsiService
from pharia_kernel.drivers.tools.toolbox import Toolbox
from pharia_kernel.errors import SkillNotFound
from pharia_kernel.shell import create_app, serve
from pharia_kernel.shell.auth import Authorizer, Authorizers
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import (
    Caller,
    NamespaceDetail,
    NamespaceSummary,
    SkillInfo,
    SkillMetadata,
    StreamEvent,
)

T = TypeVar("T")

DEADLINE = 10.0
"""Seconds after which a test gives up waiting for what must happen."""
VERSION = "1.2.3"
JSON = {"Content-Type": "application/json"}
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"

Run = Callable[[bytes], Awaitable[bytes]]
Stream = Callable[[bytes], AsyncGenerator[StreamEvent, None]]


@dataclass
class Settings:
    max_body_size: int = 1 << 20
    run_timeout: float = 60.0
    cors_allow_origins: list[str] = field(default_factory=list)


@dataclass
class MemorySkills:
    """Skills are functions of the test, found by their name in any namespace."""

    runs: dict[str, Run] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)
    descriptions: dict[str, SkillMetadata] = field(default_factory=dict)
    infos: list[SkillInfo] = field(default_factory=list)
    in_cache: list[SkillPath] = field(default_factory=list)
    tools_of: dict[str, builtins.list[dict[str, Any]]] = field(default_factory=dict)
    servers_of: dict[str, builtins.list[str]] = field(default_factory=dict)
    components: dict[str, dict[str, Any]] = field(default_factory=dict)
    in_namespaces: dict[str, NamespaceDetail] = field(default_factory=dict)
    refreshed: builtins.list[str] = field(default_factory=list)
    calls: builtins.list[tuple[SkillPath, bytes, Caller]] = field(default_factory=list)

    async def run(self, path: SkillPath, body: bytes, caller: Caller) -> bytes:
        self.calls.append((path, body, caller))
        return await _find(self.runs, path)(body)

    async def message_stream(
        self, path: SkillPath, body: bytes, caller: Caller
    ) -> AsyncGenerator[StreamEvent, None]:
        self.calls.append((path, body, caller))
        return _find(self.streams, path)(body)

    async def metadata(self, path: SkillPath, caller: Caller) -> SkillMetadata:
        self.calls.append((path, b"", caller))
        return _find(self.descriptions, path)

    def list(self) -> builtins.list[SkillInfo]:
        return self.infos

    def cached(self) -> builtins.list[SkillPath]:
        return self.in_cache

    async def evict(self, path: SkillPath) -> bool:
        if path not in self.in_cache:
            return False
        self.in_cache.remove(path)
        return True

    def tools(self, namespace: str) -> builtins.list[dict[str, Any]] | None:
        return self.tools_of.get(namespace)

    def mcp_servers(self, namespace: str) -> builtins.list[str] | None:
        return self.servers_of.get(namespace)

    def namespaces(self) -> builtins.list[NamespaceSummary]:
        return [
            NamespaceSummary(**{f: getattr(detail, f) for f in NamespaceSummary.__struct_fields__})
            for detail in self.in_namespaces.values()
        ]

    def namespace(self, name: str) -> NamespaceDetail | None:
        return self.in_namespaces.get(name)

    def refresh(self, namespace: str) -> bool:
        self.refreshed.append(namespace)
        return namespace in self.in_namespaces

    def readiness(self) -> dict[str, dict[str, Any]]:
        return self.components


def _find(known: dict[str, T], path: SkillPath) -> T:
    if path.name not in known:
        raise SkillNotFound(f"There is no skill `{path}`.", skill=str(path))
    return known[path.name]


def returns(output: bytes) -> Run:
    async def run(body: bytes) -> bytes:
        return output

    return run


def raises(error: Exception) -> Run:
    async def run(body: bytes) -> bytes:
        raise error

    return run


async def echo(body: bytes) -> bytes:
    return body


class Hanging:
    """A run that never ends by itself, and tells when it has started and how it ended."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.outcome: BaseException | None = None

    async def __call__(self, body: bytes) -> bytes:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            self.outcome = error
            raise
        finally:
            self.ended.set()
        raise AssertionError("nobody sets the event")


def app_of(
    skills: MemorySkills,
    *,
    csi: Csi | None = None,
    auth: Authorizer | None = None,
    settings: Settings | None = None,
) -> ASGIApp:
    return create_app(
        skills=skills,
        csi=csi or CsiService(None, Toolbox()),
        auth=auth or Authorizers(config.Settings()),
        settings=settings or Settings(),
        version=VERSION,
    )


@asynccontextmanager
async def running(
    app: ASGIApp, *, drain_timeout: float = DEADLINE
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app, served on a loopback port."""
    async with listening(app, drain_timeout=drain_timeout) as port:
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, timeout=DEADLINE, trust_env=False) as client:
            yield client


@asynccontextmanager
async def listening(app: ASGIApp, *, drain_timeout: float = DEADLINE) -> AsyncIterator[int]:
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    server = asyncio.create_task(
        serve(
            app,
            "127.0.0.1",
            0,
            drain_timeout=drain_timeout,
            on_bound=lambda _, port: bound.set_result(port),
            stop=stop,
        )
    )
    try:
        yield await asyncio.wait_for(bound, DEADLINE)
    finally:
        stop.set()
        await server


async def within(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, DEADLINE)


async def post_raw(
    port: int, path: str, body: bytes = b"null"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An open connection on which the request is sent, for tests that drop it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST %b HTTP/1.1\r\nHost: kernel\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
    )
    await writer.drain()
    return reader, writer


async def drop(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()
