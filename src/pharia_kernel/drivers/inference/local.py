"""Embedded driver: a GGUF file that the user points to, served by a process of its own.

The process runs llama.cpp's server (from the ``xllamacpp`` wheel, extra ``local``) on a loopback
port, with a key that only this driver knows and without the kernel's environment. It is started
when the driver is, or at the first call, and again after it has died.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import secrets
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import aiohttp
import msgspec
from msgspec import Struct

from pharia_kernel.csi.types import (
    CallContext,
    ChatEvent,
    ChatRequest,
    ChatResponse,
    Completion,
    CompletionEvent,
    CompletionRequest,
    ExplanationRequest,
    TextScore,
)
from pharia_kernel.drivers.inference.credentials import ConfiguredToken
from pharia_kernel.drivers.inference.local_server import Options, Pooling
from pharia_kernel.drivers.inference.openai import OpenAiDriver
from pharia_kernel.errors import NotConfigured, UpstreamTimeout, UpstreamUnavailable

log = logging.getLogger("pharia_kernel.inference")

_LOAD_SECONDS = 600.0
_POLL_SECONDS = 0.1
_LONGEST_BACKOFF = 30.0


class Endpoint(Struct, frozen=True):
    url: str
    """With ``/v1``."""
    token: str
    model: str


class LocalDriver:
    """An ``InferenceDriver`` for one model; every model name is taken for it."""

    def __init__(
        self,
        model_file: Path,
        *,
        parallel: int = 4,
        context: int = 4096,
        threads: int | None = None,
        pooling: Pooling | None = None,
    ) -> None:
        """With ``pooling`` the server embeds, too: as the file says (``model``) or as told.

        Raises ``ValueError`` if the file or the extra is missing.
        """
        if importlib.util.find_spec("xllamacpp") is None:
            raise ValueError("`xllamacpp` is not installed: pip install 'pharia-kernel[local]'")
        if not model_file.is_file():
            raise ValueError(f"there is no model file `{model_file}`")
        self._options = Options(
            model_file=str(model_file.absolute()),
            alias=model_file.stem,
            token=secrets.token_hex(16),
            parallel=parallel,
            context=context,
            threads=threads or os.cpu_count() or 1,
            pooling=pooling,
        )
        self._supervisor: asyncio.Task[None] | None = None
        self._driver: OpenAiDriver | None = None
        self._ready = asyncio.Event()
        self._closed = False
        self.address: str | None = None
        """Base URL of the server while it is up, with ``/v1``."""

    async def endpoint(self, context: CallContext) -> Endpoint:
        """Where the server is now; waits until the model is loaded."""
        await self._server(context)
        assert self.address is not None  # there is a driver
        return Endpoint(self.address, self._options.token, self._options.alias)

    @property
    def embeds(self) -> bool:
        return self._options.pooling is not None

    @property
    def token(self) -> str:
        """Key of the server."""
        return self._options.token

    def start(self) -> None:
        """Start the process in the background."""
        if self._closed:
            raise NotConfigured("The local model was shut down.")
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise())

    async def chat(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> ChatResponse:
        driver = await self._server(context)
        request = msgspec.structs.replace(request, model=self._options.alias)
        return await driver.chat(request, context, split_reasoning=split_reasoning)

    async def chat_stream(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[ChatEvent, None]:
        driver = await self._server(context)
        request = msgspec.structs.replace(request, model=self._options.alias)
        stream = driver.chat_stream(request, context, split_reasoning=split_reasoning)
        async with aclosing(stream) as events:
            async for event in events:
                yield event

    async def complete(self, request: CompletionRequest, context: CallContext) -> Completion:
        driver = await self._server(context)
        request = msgspec.structs.replace(request, model=self._options.alias)
        return await driver.complete(request, context)

    async def completion_stream(
        self, request: CompletionRequest, context: CallContext
    ) -> AsyncGenerator[CompletionEvent, None]:
        driver = await self._server(context)
        request = msgspec.structs.replace(request, model=self._options.alias)
        async with aclosing(driver.completion_stream(request, context)) as events:
            async for event in events:
                yield event

    async def explain(self, request: ExplanationRequest, context: CallContext) -> list[TextScore]:
        raise NotConfigured("The local model offers no explanations.")

    async def close(self) -> None:
        self._closed = True
        if self._supervisor:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)

    async def _server(self, context: CallContext) -> OpenAiDriver:
        """The driver of the running server; waits until the model is loaded."""
        self.start()
        try:
            async with asyncio.timeout(context.remaining()):
                await self._ready.wait()
        except TimeoutError:
            raise UpstreamTimeout("The local model was not loaded in time.") from None
        if self._driver is None:
            raise UpstreamUnavailable("The local model's process has just ended; try again.")
        return self._driver

    # --- the process

    async def _supervise(self) -> None:
        backoff = 0.5
        while True:
            began = time.monotonic()
            try:
                await self._run()
            except (OSError, TimeoutError, UpstreamUnavailable) as error:
                log.error("local model %s: %s", self._options.alias, error)
            backoff = 0.5 if time.monotonic() - began > 60 else min(2 * backoff, _LONGEST_BACKOFF)
            await asyncio.sleep(backoff)

    async def _run(self) -> None:
        """From the start of the process to its end."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", "pharia_kernel.drivers.inference.local_server",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.defpath},
        )  # fmt: skip
        try:
            await self._open(process)
            await process.wait()
            log.error("local model %s ended with %s", self._options.alias, process.returncode)
        finally:
            self._ready.clear()
            driver, self._driver, self.address = self._driver, None, None
            if process.returncode is None:
                process.kill()
                await process.wait()
            if driver:
                await driver.close()

    async def _open(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        process.stdin.write(msgspec.json.encode(self._options) + b"\n")
        async with asyncio.timeout(_LOAD_SECONDS):
            address = (await process.stdout.readline()).decode().strip()
            if not address:
                raise UpstreamUnavailable("the process ended before it served")
            await self._healthy(address)
        self.address = f"{address}/v1"
        self._driver = OpenAiDriver(
            self.address, ConfiguredToken(self._options.token), provider="llama.cpp"
        )
        self._ready.set()
        log.info("local model %s is served", self._options.alias)

    async def _healthy(self, address: str) -> None:
        """The server listens before it has loaded the model."""
        async with aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{address}/health") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(_POLL_SECONDS)
