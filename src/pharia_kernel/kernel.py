"""Wires the parts together: the only module that knows all of them."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import msgspec
import uvloop
from starlette.types import ASGIApp

from pharia_kernel.config.namespaces import NamespaceConfig, TeamOwnedNamespace
from pharia_kernel.config.settings import Settings
from pharia_kernel.csi.guest import GuestCalls
from pharia_kernel.csi.service import CsiService
from pharia_kernel.drivers.inference.base import InferenceDriver
from pharia_kernel.drivers.inference.credentials import CallersToken, ConfiguredToken
from pharia_kernel.drivers.inference.openai import OpenAiDriver
from pharia_kernel.drivers.tools.native import NATIVE_TOOLS
from pharia_kernel.drivers.tools.toolbox import Toolbox
from pharia_kernel.engine.compiler import CompilerProcess, CompilerSettings
from pharia_kernel.engine.pool import Pool, PoolSettings
from pharia_kernel.engine.process import EngineSettings
from pharia_kernel.errors import KernelError
from pharia_kernel.shell.app import create_app
from pharia_kernel.shell.auth import Authorizer, authorizer
from pharia_kernel.shell.serve import AddressUnavailable
from pharia_kernel.shell.serve import serve as serve_http
from pharia_kernel.skills.builtin import NAMESPACE as BUILTIN_NAMESPACE
from pharia_kernel.skills.builtin import builtin_skills
from pharia_kernel.skills.namespaces import Namespaces
from pharia_kernel.skills.runtime import SkillRuntime
from pharia_kernel.skills.store import SkillStore
from pharia_kernel.telemetry import logs

log = logging.getLogger("pharia_kernel.initialization")


class Kernel:
    """Everything but the listener. Use as a context: leaving it ends all processes and
    connections."""

    def __init__(self, settings: Settings) -> None:
        """Raises ``OSError`` if the cache directory can't be used."""
        self._settings = settings
        self._inference = _inference(settings)
        self._toolbox = _toolbox(settings)
        self._pool = Pool(_pool_settings(settings))
        self._store = SkillStore(
            CompilerProcess(_compiler_settings(settings)),
            self._pool,
            cache_size=settings.skill_cache_size,
            compile_jobs=settings.compile_jobs,
            builtin=builtin_skills() if settings.test_skills else None,
        )
        self._namespaces = Namespaces(
            settings.namespaces, self._store, interval=settings.namespace_update_interval
        )
        self._auth: Authorizer = authorizer(settings.authorization_url)
        self._csi = CsiService(self._inference, self._toolbox)
        self.skills = SkillRuntime(
            self._store,
            self._pool,
            self._csi,
            settings,
            system_calls=GuestCalls,
            tools=self._tools,
            mcp_servers=self._mcp_servers,
            components={"engines": self._pool.statistics},
        )
        self._starting: list[asyncio.Task[None]] = []

    @property
    def app(self) -> ASGIApp:
        return create_app(
            skills=self.skills,
            csi=self._csi,
            auth=self._auth,
            settings=self._settings,
            version=version("pharia-kernel"),
        )

    async def __aenter__(self) -> Kernel:
        """Start engines and read namespaces in the background: ``/ready`` tells how far it is."""
        self._starting = [
            asyncio.create_task(self._start_part("engines", self._pool.start)),
            asyncio.create_task(self._start_part("namespaces", self._namespaces.start)),
        ]
        return self

    async def _start_part(self, name: str, start: Callable[[], Any]) -> None:
        try:
            await start()
        except KernelError as error:
            log.error("starting the %s failed: %s", name, error.detail)
        except Exception:
            log.exception("starting the %s failed", name)

    async def __aexit__(self, *_: object) -> None:
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await self._namespaces.close()
        await self.skills.close()
        await self._store.close()
        await self._pool.close()
        if self._inference:
            await self._inference.close()
        await self._auth.close()

    def _tools(self, namespace: str) -> list[dict[str, Any]] | None:
        tools = self._toolbox.tools(namespace)
        return None if tools is None else msgspec.json.decode(msgspec.json.encode(tools))

    def _mcp_servers(self, namespace: str) -> list[str] | None:
        config = self._settings.namespaces.get(namespace)
        return None if config is None else _mcp_servers(config)


def _mcp_servers(config: NamespaceConfig) -> list[str]:
    return [] if isinstance(config, TeamOwnedNamespace) else sorted(config.mcp_servers)


def _inference(settings: Settings) -> InferenceDriver | None:
    if settings.inference_url:
        log.info("inference: chat with Aleph Alpha's API, with the caller's token")
        return OpenAiDriver(settings.inference_url, CallersToken())
    if settings.openai_inference:
        log.info("inference: OpenAI-compatible server")
        token = ConfiguredToken(settings.openai_inference.token.get_secret_value())
        return OpenAiDriver(settings.openai_inference.url, token)
    log.warning("no inference provider is configured: skills that use inference will fail")
    return None


def _toolbox(settings: Settings) -> Toolbox:
    toolbox = Toolbox()
    if settings.test_skills:
        toolbox.set_native(BUILTIN_NAMESPACE, NATIVE_TOOLS)
    for name, config in settings.namespaces.items():
        native = [] if isinstance(config, TeamOwnedNamespace) else config.native_tools
        toolbox.set_native(name, native)
    return toolbox


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
        directory=settings.wasmtime_cache_dir,
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
    except OSError as error:
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
