"""A kernel whose only namespace is what the author edits."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

from pharia_kernel.config.namespaces import TeamOwnedNamespace, WatchNamespace
from pharia_kernel.config.settings import Settings
from pharia_kernel.config.values import Address
from pharia_kernel.dev.engine import Launch
from pharia_kernel.dev.engines import SourceEngines
from pharia_kernel.dev.session import Session
from pharia_kernel.engine.process import EngineSettings
from pharia_kernel.kernel import Kernel
from pharia_kernel.shell.serve import serve as serve_http
from pharia_kernel.skills.metadata import MetadataCache
from pharia_kernel.skills.versions import Versions
from pharia_kernel.telemetry.service import Telemetry


class DevKernel(Kernel):
    """Runs sources instead of components; everything else is the kernel as it is."""

    def __init__(self, settings: Settings, engines: SourceEngines) -> None:
        super().__init__(settings)
        self._pool = engines  # type: ignore[assignment]
        self._store._versions = Versions(engines, engines, capacity=settings.skill_cache_size)
        self.skills._pool = engines
        self.skills._metadata = MetadataCache(engines)
        self.skills._components["engines"] = engines.statistics

    def look(self, namespace: str) -> None:
        """Look at what the namespace's sources are now."""
        self._store.check(namespace)


def dev_settings(
    settings: Settings, session: Session, namespace: str, address: Address
) -> Settings:
    """Backends as they are configured; open to this machine only; one namespace, with its tools."""
    configured = settings.namespaces.get(namespace)
    served = WatchNamespace(directory=session.directory)
    if configured is not None and not isinstance(configured, TeamOwnedNamespace):
        tools = {name: getattr(configured, name) for name in ("mcp_servers", "native_tools")}
        served = served.model_copy(update=tools)
    return settings.model_copy(
        update={
            "kernel_address": address,
            "namespaces": {namespace: served},
            "namespace_update_interval": 1.0,
            "authorization_url": None,
            "api_keys": {},
            "oidc": None,
            "drain_timeout": 0.0,
        }
    )


async def serve(settings: Settings, session: Session, namespace: str, launch: Launch) -> None:
    """Until SIGINT or SIGTERM. Raises what a kernel raises that can't start."""
    engines = SourceEngines(
        EngineSettings(
            max_runs=1,
            memory_limit=settings.skill_memory_limit,
            output_limit=settings.skill_output_limit,
        ),
        launch,
        session,
        import_timeout=settings.compile_timeout,
    )
    address = settings.kernel_address
    kernel = DevKernel(settings, engines)
    async with Telemetry(settings), kernel:
        look = partial(kernel.look, namespace)
        following = asyncio.create_task(session.follow(look))
        try:
            await serve_http(
                kernel.app,
                address.host,
                address.port,
                drain_timeout=settings.drain_timeout,
                on_bound=session.bound,
            )
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
