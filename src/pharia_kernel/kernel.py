"""Wires the parts together: the only module that knows all of them."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import msgspec
import uvloop
from fastapi import APIRouter
from starlette.types import ASGIApp

from pharia_kernel import wiring
from pharia_kernel.config.settings import Settings
from pharia_kernel.config.values import without_credentials
from pharia_kernel.csi.guest import GuestCalls
from pharia_kernel.csi.service import CsiService
from pharia_kernel.drivers.language import LanguageSelector
from pharia_kernel.engine.compiler import CompilerProcess, CompilerSettings
from pharia_kernel.engine.pool import Pool, PoolSettings
from pharia_kernel.engine.process import EngineSettings
from pharia_kernel.errors import KernelError
from pharia_kernel.shell import documents
from pharia_kernel.shell.app import create_app
from pharia_kernel.shell.auth import ApiToken, Authorizer, authorizer
from pharia_kernel.shell.serve import AddressUnavailable
from pharia_kernel.shell.serve import serve as serve_http
from pharia_kernel.skills.builtin import NAMESPACE as BUILTIN_NAMESPACE
from pharia_kernel.skills.builtin import builtin_skills
from pharia_kernel.skills.namespaces import Namespaces
from pharia_kernel.skills.runtime import SkillRuntime
from pharia_kernel.skills.store import SkillStore
from pharia_kernel.telemetry import logs

if TYPE_CHECKING:
    from pharia_kernel.drivers.retrieval.local.index import LocalDocumentIndex

log = logging.getLogger("pharia_kernel.initialization")


class Kernel:
    """Everything but the listener. Use as a context: leaving it ends all processes and
    connections."""

    def __init__(self, settings: Settings) -> None:
        """Raises ``OSError`` if the cache directory can't be used, or ``CannotStart``."""
        self._settings = settings
        providers = wiring.inference_providers(settings)
        self._inference = wiring.inference(settings, providers)
        self._chunker = wiring.chunker(settings)
        self._language = LanguageSelector()
        self._mcp = wiring.mcp_servers(settings)
        self._toolbox = wiring.toolbox(settings, self._mcp, BUILTIN_NAMESPACE)
        self._retrieval = wiring.retrieval(settings, self._chunker, providers)
        self._csi = CsiService(
            self._inference, self._toolbox, self._chunker, self._language, self._retrieval
        )
        self._pool = Pool(_pool_settings(settings))
        self._store = SkillStore(
            CompilerProcess(_compiler_settings(settings), self._pool.holds),
            self._pool,
            cache_size=settings.skill_cache_size,
            compile_jobs=settings.compile_jobs,
            builtin=builtin_skills() if settings.test_skills else None,
        )
        self._namespaces = Namespaces(
            settings.namespaces, self._store, interval=settings.namespace_update_interval
        )
        self._auth: Authorizer = authorizer(settings.authorization_url)
        self.skills = SkillRuntime(
            self._store,
            self._pool,
            self._csi,
            settings,
            system_calls=GuestCalls,
            tools=self._tools,
            mcp_servers=self._mcp_servers,
            components=self._components,
        )
        self._index_state: dict[str, Any] = {"ready": False}
        self._running = AsyncExitStack()

    @property
    def app(self) -> ASGIApp:
        return create_app(
            skills=self.skills,
            csi=self._csi,
            auth=self._auth,
            settings=self._settings,
            version=version("pharia-kernel"),
            documents=self._document_routes,
        )

    @property
    def _document_routes(self) -> Callable[[ApiToken], APIRouter] | None:
        """Only an index of our own can be managed here."""
        index, config = self._own_index, self._settings.document_index
        if index is None or config is None:
            return None
        return lambda token: documents.router(
            documents.DocumentRoutes(
                index, token, self._settings.max_body_size, config.embedding_model
            )
        )

    @property
    def _own_index(self) -> LocalDocumentIndex | None:
        if self._settings.document_index is None or self._settings.document_index_url:
            return None
        return cast("LocalDocumentIndex", self._retrieval)

    async def __aenter__(self) -> Kernel:
        """Start the parts in the background: ``/ready`` tells how far they are."""
        # Closed in reverse order, each whatever becomes of the others.
        drivers = (
            self._auth,
            self._language,
            self._chunker,
            self._retrieval,
            self._inference,
            self._mcp,
        )
        for part in (*drivers, self._pool, self._store, self.skills, self._namespaces):
            if part:
                self._running.push_async_callback(part.close)
        starts: dict[str, Callable[[], Awaitable[None]]] = {
            "engines": self._pool.start,
            "namespaces": self._namespaces.start,
        }
        if self._mcp:
            starts["MCP servers"] = self._mcp.start
        if index := self._own_index:
            starts["document index"] = partial(self._start_index, index)
        starting = [asyncio.create_task(_start(name, start)) for name, start in starts.items()]
        self._running.push_async_callback(_cancel, starting)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    def _tools(self, namespace: str) -> list[dict[str, Any]] | None:
        tools = self._toolbox.tools(namespace)
        return None if tools is None else msgspec.json.decode(msgspec.json.encode(tools))

    def _mcp_servers(self, namespace: str) -> list[str] | None:
        config = self._settings.namespaces.get(namespace)
        if config is None:
            return None
        return sorted(without_credentials(server.url) for server in wiring.mcp_servers_of(config))

    @property
    def _components(self) -> dict[str, Callable[[], dict[str, Any]]]:
        components = {"engines": self._pool.statistics, "mcp_servers": self._mcp_health}
        if self._own_index:
            components["document_index"] = lambda: self._index_state
        return components

    async def _start_index(self, index: LocalDocumentIndex) -> None:
        try:
            await index.start()
        except OSError as error:
            self._index_state = {"ready": False, "error": str(error)}
            raise
        self._index_state = {"ready": True}

    def _mcp_health(self) -> dict[str, Any]:
        """A server that fails is its namespaces' trouble, not a reason to take the kernel out."""
        servers = self._mcp.health() if self._mcp else []
        return {"ready": True, "servers": msgspec.to_builtins(servers)}


async def _start(name: str, start: Callable[[], Awaitable[None]]) -> None:
    try:
        await start()
    except KernelError as error:
        log.error("starting the %s failed: %s", name, error.detail)
    except Exception:
        log.exception("starting the %s failed", name)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _pool_settings(settings: Settings) -> PoolSettings:
    return PoolSettings(
        engines=settings.engines,
        queue_length=settings.run_queue_length,
        quarantine_after=settings.quarantine_after,
        quarantine_window=settings.quarantine_window,
        engine=EngineSettings(
            max_runs=settings.max_runs_per_engine,
            memory_limit=settings.skill_memory_limit,
            output_limit=settings.skill_output_limit,
            pooling=settings.use_pooling_allocator,
        ),
    )


def _compiler_settings(settings: Settings) -> CompilerSettings:
    return CompilerSettings(
        # Engines and compilers have another working directory.
        directory=settings.wasmtime_cache_dir.absolute(),
        capacity=settings.artifact_cache_size,
        jobs=settings.compile_jobs,
        timeout=settings.compile_timeout,
        memory_limit=settings.compile_memory_limit,
    )


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; exits the process with 1 if the kernel can't start."""
    logs.configure(settings.log_filter, settings.log_format)
    try:
        uvloop.run(_serve(settings))
    except AddressUnavailable as error:
        sys.exit(f"error: {error.strerror}")
    except (OSError, wiring.CannotStart) as error:
        sys.exit(f"error: the kernel can't start: {error}")


async def _serve(settings: Settings) -> None:
    address = settings.kernel_address
    async with Kernel(settings) as kernel:
        await serve_http(
            kernel.app,
            address.host,
            address.port,
            drain_timeout=settings.drain_timeout,
            on_bound=lambda host, port: log.info("Listening on: %s:%d", host, port),
        )
