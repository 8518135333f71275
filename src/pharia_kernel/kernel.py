"""Wires the parts together: the only module that knows all of them."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import msgspec
import uvloop
from fastapi import APIRouter
from msgspec import Struct
from starlette.types import ASGIApp

from pharia_kernel import wiring
from pharia_kernel.config.settings import Settings
from pharia_kernel.csi.guest import GuestCalls
from pharia_kernel.csi.service import CsiService
from pharia_kernel.drivers.language import LanguageSelector
from pharia_kernel.drivers.tools.native import NATIVE_TOOLS
from pharia_kernel.engine.api import Compiler, Engines
from pharia_kernel.engine.compiler import CompilerProcess, CompilerSettings
from pharia_kernel.engine.pool import Pool, PoolSettings
from pharia_kernel.engine.process import EngineSettings
from pharia_kernel.errors import KernelError
from pharia_kernel.namespace_tools import NamespaceTools
from pharia_kernel.reloading import Configuration, Reloader, on_hangup
from pharia_kernel.shell import documents
from pharia_kernel.shell.app import create_app
from pharia_kernel.shell.auth import ApiToken, Authorizers, exposure
from pharia_kernel.shell.serve import AddressUnavailable
from pharia_kernel.shell.serve import serve as serve_http
from pharia_kernel.skills.builtin import NAMESPACE as BUILTIN_NAMESPACE
from pharia_kernel.skills.builtin import builtin_skills
from pharia_kernel.skills.deployment import Pace
from pharia_kernel.skills.namespaces import Namespaces
from pharia_kernel.skills.registry.factory import Registries
from pharia_kernel.skills.runtime import SkillRuntime
from pharia_kernel.skills.signatures import Verifiers
from pharia_kernel.skills.store import SkillStore
from pharia_kernel.skills.types import NamespaceState
from pharia_kernel.telemetry import logs
from pharia_kernel.telemetry.metrics import State
from pharia_kernel.telemetry.service import Telemetry

if TYPE_CHECKING:
    from pharia_kernel.drivers.retrieval.local.index import LocalDocumentIndex

log = logging.getLogger("pharia_kernel.initialization")


class Execution(Struct, frozen=True):
    """What runs skills, and what makes them ready to run."""

    engines: Engines
    compiler: Compiler


class Kernel:
    """Everything but the listener. Use as a context: leaving it ends all processes and
    connections."""

    def __init__(
        self,
        settings: Settings,
        reload: Configuration | None = None,
        execution: Execution | None = None,
    ) -> None:
        """``reload`` tells how to read the configuration again while the kernel runs; ``execution``
        replaces the engine processes that run components.

        Raises ``OSError`` if the cache directory can't be used, or ``CannotStart``.
        """
        self._settings = settings
        providers = wiring.inference_providers(settings)
        self._inference = wiring.inference(settings, providers)
        self._chunker = wiring.chunker(settings)
        self._language = LanguageSelector()
        self._tools = NamespaceTools(self._chosen_elsewhere, settings.outbound.policy())
        if settings.test_skills:
            self._tools.configure(BUILTIN_NAMESPACE, (), list(NATIVE_TOOLS))
        self._retrieval = wiring.retrieval(settings, self._chunker, providers)
        self._csi = CsiService(
            self._inference, self._tools.toolbox, self._chunker, self._language, self._retrieval
        )
        execution = execution or _components(settings)
        self._pool = execution.engines
        self._store = SkillStore(
            execution.compiler,
            self._pool,
            cache_size=settings.skill_cache_size,
            compile_jobs=settings.compile_jobs,
            builtin=builtin_skills() if settings.test_skills else None,
            pace=Pace(interval=settings.namespace_update_interval),
        )
        self._registries = Registries()
        self._namespaces = Namespaces(
            settings.namespaces,
            self._store,
            self._tools,
            self._registries,
            Verifiers(),
            interval=settings.namespace_update_interval,
            fetch_timeout=settings.namespace_fetch_timeout,
            unload_broken=settings.unload_broken_namespaces,
            state_directory=settings.wasmtime_cache_dir.absolute() / "namespaces",
        )
        self._auth = Authorizers(settings)
        self._reloader = Reloader(settings, reload, self._apply) if reload else None
        self.skills = SkillRuntime(
            self._store,
            self._pool,
            self._csi,
            settings,
            system_calls=GuestCalls,
            tools=self._tools_of,
            mcp_servers=self._mcp_servers_of,
            components=self._components,
            namespace_statuses=self._namespaces.statuses,
            refresh_namespace=self._namespaces.poll,
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
            self._tools,
            self._registries,
        )
        for part in (*drivers, self._pool, self._store, self.skills, self._namespaces):
            if part:
                self._running.push_async_callback(part.close)
        starts: dict[str, Callable[[], Awaitable[None]]] = {
            "engines": self._pool.start,
            "authorization": self._auth.start,
            "namespaces": self._namespaces.start,
        }
        if self._reloader:
            starts["configuration reloader"] = self._reloader.run
        if index := self._own_index:
            starts["document index"] = partial(self._start_index, index)
        starting = [asyncio.create_task(_start(name, start)) for name, start in starts.items()]
        self._running.push_async_callback(_cancel, starting)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    def reload(self) -> None:
        """Read the configuration again, soon."""
        if self._reloader:
            self._reloader.reload()

    def look(self, namespace: str) -> None:
        """Look at what the registry has for the skills of the namespace, now."""
        self._store.check(namespace)

    async def _apply(self, settings: Settings) -> None:
        self._settings = settings
        try:
            await self._auth.reconfigure(settings)
        finally:
            await self._namespaces.reconfigure(settings.namespaces)

    def _chosen_elsewhere(self, namespace: str) -> bool:
        return wiring.chosen_elsewhere(self._settings.namespaces.get(namespace))

    def _tools_of(self, namespace: str) -> list[dict[str, Any]] | None:
        tools = self._tools.toolbox.tools(namespace)
        return None if tools is None else msgspec.json.decode(msgspec.json.encode(tools))

    def _mcp_servers_of(self, namespace: str) -> list[str] | None:
        return self._tools.urls(namespace) if namespace in self._settings.namespaces else None

    @property
    def _components(self) -> dict[str, Callable[[], dict[str, Any]]]:
        components = {"engines": self._pool.statistics, "mcp_servers": self._mcp_health}
        if self._reloader:
            components["configuration"] = self._reloader.health
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

    def state(self) -> State:
        """What metrics show of how the kernel is now."""
        pool = self._pool.statistics()
        components = self.skills.readiness()
        skills = components["skills"]
        servers = Counter(str(server.state) for server in self._tools.health())
        return State(
            ready=all(part["ready"] for part in components.values()),
            active_runs=self._pool.active_runs(),
            queued_runs=pool["queued"],
            queue_capacity=pool["queue_capacity"],
            engines_ready=sum(engine["ready"] for engine in pool["engines"]),
            cached_skills=len(self.skills.cached()),
            namespaces={n.name: n.state is NamespaceState.OK for n in self.skills.namespaces()},
            skills={name: skills[name] for name in ("serving", "preparing", "failed")},
            mcp_servers=servers,
        )

    def _mcp_health(self) -> dict[str, Any]:
        """A server that fails is its namespaces' trouble, not a reason to take the kernel out."""
        return {"ready": True, "servers": msgspec.to_builtins(self._tools.health())}


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


def _components(settings: Settings) -> Execution:
    pool = Pool(_pool_settings(settings))
    return Execution(pool, CompilerProcess(_compiler_settings(settings), pool.holds))


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


def serve(settings: Settings, reload: Configuration | None = None) -> None:
    """Serve until SIGINT or SIGTERM; exits the process with 1 if the kernel can't start."""
    logs.configure(settings.log_filter, settings.log_format)
    try:
        uvloop.run(_serve(settings, reload))
    except AddressUnavailable as error:
        sys.exit(f"error: {error.strerror}")
    except (OSError, wiring.CannotStart) as error:
        sys.exit(f"error: the kernel can't start: {error}")


async def _serve(settings: Settings, reload: Configuration | None) -> None:
    address = settings.kernel_address
    if warning := exposure(settings):
        log.warning(warning)
    stop = asyncio.Event()
    async with Telemetry(settings) as telemetry, Kernel(settings, reload) as kernel:
        await telemetry.serve_metrics(kernel.state)
        with on_hangup(kernel.reload, stop.set):
            await serve_http(
                kernel.app,
                address.host,
                address.port,
                drain_timeout=settings.drain_timeout,
                on_bound=lambda host, port: log.info("Listening on: %s:%d", host, port),
                stop=stop,
            )
