"""Several providers at once: which of them a model belongs to."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

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
from pharia_kernel.drivers.inference.base import InferenceDriver
from pharia_kernel.errors import ModelNotFound


class Route(Struct, frozen=True):
    """A model, or all that match a pattern with ``*``, ``?`` and ``[...]``."""

    pattern: str
    provider: str
    model: str | None = None
    """What the provider calls it; none: the same."""


class Router:
    """An ``InferenceDriver`` that passes each request to the provider of its model.

    An exact name wins over patterns, and an earlier pattern over a later one. What matches nothing
    goes to ``default``, if there is one.
    """

    def __init__(
        self,
        providers: Mapping[str, InferenceDriver],
        routes: list[Route],
        default: str | None = None,
    ) -> None:
        """Raises ``KeyError`` for a provider that is not there."""
        self._providers = dict(providers)
        self._default = None if default is None else self._providers[default]
        self._exact = {route.pattern: route for route in reversed(routes)}
        self._patterns = [route for route in routes if set(route.pattern) & set("*?[")]
        for route in routes:
            self._providers[route.provider]

    def route(self, model: str) -> tuple[InferenceDriver, str]:
        """The provider, and its name for the model; raises ``ModelNotFound``."""
        route = self._exact.get(model) or next(
            (r for r in self._patterns if fnmatch.fnmatchcase(model, r.pattern)), None
        )
        if route is not None:
            return self._providers[route.provider], route.model or model
        if self._default is not None:
            return self._default, model
        known = ", ".join(f"`{pattern}`" for pattern in self._exact) or "none"
        raise ModelNotFound(
            f"No provider is configured for the model `{model[:200]}`; configured are {known}."
        )

    async def chat(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> ChatResponse:
        driver, model = self.route(request.model)
        request = msgspec.structs.replace(request, model=model)
        return await driver.chat(request, context, split_reasoning=split_reasoning)

    async def chat_stream(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[ChatEvent, None]:
        driver, model = self.route(request.model)
        request = msgspec.structs.replace(request, model=model)
        stream = driver.chat_stream(request, context, split_reasoning=split_reasoning)
        async with aclosing(stream) as events:
            async for event in events:
                yield event

    async def complete(self, request: CompletionRequest, context: CallContext) -> Completion:
        driver, model = self.route(request.model)
        return await driver.complete(msgspec.structs.replace(request, model=model), context)

    async def completion_stream(
        self, request: CompletionRequest, context: CallContext
    ) -> AsyncGenerator[CompletionEvent, None]:
        driver, model = self.route(request.model)
        request = msgspec.structs.replace(request, model=model)
        async with aclosing(driver.completion_stream(request, context)) as events:
            async for event in events:
                yield event

    async def explain(self, request: ExplanationRequest, context: CallContext) -> list[TextScore]:
        driver, model = self.route(request.model)
        return await driver.explain(msgspec.structs.replace(request, model=model), context)

    async def close(self) -> None:
        await asyncio.gather(*(driver.close() for driver in self._providers.values()))
