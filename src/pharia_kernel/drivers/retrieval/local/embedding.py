"""Vectors of texts."""

from __future__ import annotations

import asyncio
import math
from typing import Literal, Protocol
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.inference.credentials import ConfiguredToken
from pharia_kernel.drivers.inference.local import Endpoint, LocalDriver
from pharia_kernel.drivers.inference.openai_errors import Asked, Redactor, failed_attempt
from pharia_kernel.drivers.inference.upstream import Upstream
from pharia_kernel.errors import BadUpstreamAnswer
from pharia_kernel.resilience import Deadline, Resilience, RetryPolicy

Kind = Literal["document", "query"]

_BATCH_SECONDS = 60.0
_TENANT = "documents"


class Embedder(Protocol):
    """One embedding model."""

    async def embed(self, texts: list[str], kind: Kind) -> list[list[float]]:
        """One vector per text, in order, all of the same length. Raises a ``CsiError``."""
        ...


class Embedders(Protocol):
    """Where embedding models come from."""

    def of(self, model: str) -> Embedder:
        """Raises ``ModelNotFound`` if it is known that there is no such model."""
        ...

    async def close(self) -> None: ...


class OpenAiEmbedders:
    """All models of a server with OpenAI's route ``/embeddings``."""

    def __init__(
        self,
        url: str,
        token: ConfiguredToken,
        *,
        batch_size: int = 64,
        max_concurrency: int = 8,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        """``batch_size`` is the number of texts per request. Raises ``ValueError`` for a URL that
        is not absolute."""
        self._upstream = Upstream(url, max_concurrency=max_concurrency)
        self._redactor = Redactor(urlsplit(url).hostname or url)
        self._resilience = Resilience(retry_policy)
        self._token = token
        self._batch_size = batch_size

    def of(self, model: str) -> Embedder:
        return _Model(self, model)

    async def embed(self, model: str, texts: list[str]) -> list[list[float]]:
        batches = [
            texts[start : start + self._batch_size]
            for start in range(0, len(texts), self._batch_size)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._embed_batch(model, batch)) for batch in batches]
        return [vector for task in tasks for vector in task.result()]

    async def close(self) -> None:
        await self._upstream.close()

    async def _embed_batch(self, model: str, texts: list[str]) -> list[list[float]]:
        asked = Asked(model, self._token.value, self._redactor)
        headers = {
            "Authorization": f"Bearer {self._token.value}",
            "Content-Type": "application/json",
        }
        request = {"model": model, "input": texts, "encoding_format": "float"}
        body = msgspec.json.encode(request)

        async def attempt() -> bytes:
            async with await self._upstream.post(
                "embeddings",
                body,
                headers,
                tenant=_TENANT,
                refusal=lambda status, body, after: failed_attempt(status, body, after, asked),
            ) as answer:
                return await answer.read()

        answer = await self._resilience.call(attempt, Deadline(_BATCH_SECONDS))
        # Decoding a batch takes milliseconds, so it happens off the event loop.
        return await asyncio.to_thread(_vectors, answer, len(texts))


class _Model:
    def __init__(self, server: OpenAiEmbedders, name: str) -> None:
        self._server = server
        self._name = name

    async def embed(self, texts: list[str], kind: Kind) -> list[list[float]]:
        """The API knows no kinds: models that tell them apart do it by an instruction, which is
        part of the texts."""
        try:
            return await self._server.embed(self._name, texts)
        except ExceptionGroup as failures:
            # All batches have the same backend; the first failure speaks for the others.
            raise failures.exceptions[0] from None


class LocalEmbedders:
    """The one model of a local server, which has another address whenever it is restarted."""

    def __init__(self, server: LocalDriver) -> None:
        self._server = server
        self._endpoint: Endpoint | None = None
        self._embedders: OpenAiEmbedders | None = None

    def of(self, model: str) -> Embedder:
        """Every name is taken for the server's model."""
        return self

    async def embed(self, texts: list[str], kind: Kind) -> list[list[float]]:
        endpoint = await self._server.endpoint(CallContext())
        if endpoint != self._endpoint or self._embedders is None:
            await self.close()
            self._embedders = OpenAiEmbedders(endpoint.url, ConfiguredToken(endpoint.token))
            self._endpoint = endpoint
        return await self._embedders.of(endpoint.model).embed(texts, kind)

    async def close(self) -> None:
        embedders, self._embedders = self._embedders, None
        if embedders:
            await embedders.close()


class _Embedding(Struct):
    index: int
    embedding: list[float]


class _Embeddings(Struct):
    data: list[_Embedding]


def _vectors(answer: bytes, count: int) -> list[list[float]]:
    try:
        data = msgspec.json.decode(answer, type=_Embeddings).data
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadUpstreamAnswer(f"The answer holds no embeddings: {error}.") from error
    vectors = {item.index: item.embedding for item in data}
    if sorted(vectors) != list(range(count)) or len(data) != count:
        raise BadUpstreamAnswer(f"{len(data)} embeddings came for {count} texts.")
    in_order = [vectors[index] for index in range(count)]
    size = len(in_order[0]) if in_order else 0
    if any(len(vector) != size or not all(map(math.isfinite, vector)) for vector in in_order) or (
        in_order and not size
    ):
        raise BadUpstreamAnswer("The embeddings are not vectors of one length.")
    return in_order
