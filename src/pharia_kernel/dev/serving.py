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
from pharia_kernel.kernel import Execution, Kernel
from pharia_kernel.shell.serve import serve as serve_http
from pharia_kernel.telemetry.service import Telemetry


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
    kernel = Kernel(settings, execution=Execution(engines, engines))
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
