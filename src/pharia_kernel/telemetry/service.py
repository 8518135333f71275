"""Telemetry of a whole process: what is on from before the kernel starts until after it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from pharia_kernel.config.values import without_credentials
from pharia_kernel.telemetry import generation, history, metrics
from pharia_kernel.telemetry.metrics_server import MetricsServer

if TYPE_CHECKING:
    from pharia_kernel.config.settings import Settings
    from pharia_kernel.telemetry.export import Tracing

log = logging.getLogger("pharia_kernel.telemetry")

_GRPC_PORT = 4317


class Telemetry:
    """As the settings want it. A context: leaving it sends the spans that are left."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics: MetricsServer | None = None
        self.tracing: Tracing | None = None

    async def __aenter__(self) -> Self:
        metrics.version(version("pharia-kernel"))
        generation.capture_content(self._settings.otel_gen_ai_content_capture)
        if self._settings.console_runs:
            history.use(history.History(self._settings.console_runs))
        if self._settings.otel_endpoint is not None:
            self.tracing = self._start_tracing(self._settings.otel_endpoint)
        return self

    async def __aexit__(self, *_: object) -> None:
        history.use(None)
        if self._metrics:
            await self._metrics.close()
        if self.tracing:
            await self.tracing.close()

    async def serve_metrics(self, state: Callable[[], metrics.State]) -> None:
        self._metrics = MetricsServer(state)
        address = self._settings.metrics_address
        await self._metrics.start(address.host, address.port)

    def _start_tracing(self, endpoint: str) -> Tracing:
        from pharia_kernel.telemetry import export  # the SDK takes a while

        settings = self._settings
        self._warn_of_port(endpoint)
        tracing = export.start(
            export.Export(
                endpoint=endpoint,
                protocol=settings.otlp_protocol,
                ratio=settings.otel_sampling_ratio,
                content=settings.otel_gen_ai_content_capture,
            )
        )
        log.info(
            "Traces go to %s (%s, ratio %g)",
            without_credentials(endpoint),
            settings.otlp_protocol,
            settings.otel_sampling_ratio,
        )
        return tracing

    def _warn_of_port(self, endpoint: str) -> None:
        guessed = self._settings.otel_protocol is None and "://" in endpoint
        if guessed and urlsplit(endpoint).port == _GRPC_PORT:
            log.warning(
                "OTEL_ENDPOINT is a URL, so traces are sent over HTTP; but %d is the port of gRPC. "
                "Set OTEL_PROTOCOL to `grpc`, or use the port of HTTP, 4318.",
                _GRPC_PORT,
            )
