"""The listener that Prometheus scrapes.

As in the original every path answers with the metrics, except ``/health``. It has an address of its
own and asks nobody who they are: what it tells are names of skills, models and tools, and numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator

import uvicorn
from prometheus_client.exposition import choose_encoder
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pharia_kernel.telemetry import metrics

log = logging.getLogger("pharia_kernel.telemetry")

_CLOSE_TIMEOUT = 2


class MetricsServer:
    """``state`` is asked in the event loop for each scrape."""

    def __init__(self, state: Callable[[], metrics.State]) -> None:
        self._state = state
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._scraping = asyncio.Lock()

    async def start(self, host: str, port: int) -> None:
        """Listen. If that is not possible the log says so: to be without metrics is no reason not
        to run skills."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family)
        except OSError as error:
            log.error(
                "no metrics are served, because %s:%d can't be listened on: %s. Free the address, "
                "or set another one with METRICS_ADDRESS.",
                host,
                port,
                (error.strerror or str(error)).lower(),
            )
            return
        self._server = _Server(_config(self))
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        log.info("Metrics on: %s:%d", host, listener.getsockname()[1])

    async def close(self) -> None:
        if self._server and self._serving:
            self._server.should_exit = True
            await asyncio.wait({self._serving})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/health":
            response = Response("OK", media_type="text/plain")
        else:
            response = await self._scraped(Headers(scope=scope).get("accept", ""))
        await response(scope, receive, send)

    async def _scraped(self, accept: str) -> Response:
        encode, content_type = choose_encoder(accept)
        # One at a time. Encoding thousands of series takes a while, hence the thread.
        async with self._scraping:
            metrics.show(self._state())
            body = await asyncio.to_thread(encode, metrics.REGISTRY)
        return Response(body, headers={"Content-Type": content_type})


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for the kernel's main listener."""
        yield


def _config(app: MetricsServer) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=32,
        timeout_graceful_shutdown=_CLOSE_TIMEOUT,
    )
