"""Indexes documents in the background, from a queue that survives crashes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

import msgspec

from pharia_kernel.drivers.retrieval.local import bm25, metadata
from pharia_kernel.drivers.retrieval.local.embedding import Embedder, Embedders, Kind
from pharia_kernel.drivers.retrieval.local.records import Binding, Built, Job
from pharia_kernel.drivers.retrieval.local.sections import Chunker, cut
from pharia_kernel.drivers.retrieval.local.store import Store
from pharia_kernel.drivers.retrieval.local.types import (
    IndexConfig,
    InstructableEmbedding,
    Section,
)
from pharia_kernel.drivers.retrieval.local.vectors import Point, Vectors
from pharia_kernel.errors import BadUpstreamAnswer, CsiError

log = logging.getLogger("pharia_kernel.retrieval")

_DOCUMENTS_AT_ONCE = 32
_BYTES_AT_ONCE = 2 * 1024 * 1024
_GENERATIONS_AT_ONCE = 100
_RETRY_SECONDS = 5.0
"""After a failure that is not one of a document."""

Pause = Callable[[int, bool], float]
"""Seconds until the next attempt, from the number of failed ones and whether a retry may help."""


def pause(failures: int, retryable: bool) -> float:
    """Grows with each failure; an outage is looked at again sooner than a refusal."""
    longest, first = (120.0, 1.0) if retryable else (3600.0, 30.0)
    return min(longest, first * 2.0 ** min(failures, 20)) * random.uniform(0.8, 1.2)  # noqa: S311


class Indexer:
    """Works on each index of each collection independently."""

    def __init__(
        self,
        store: Store,
        vectors: Vectors,
        embedders: Embedders,
        chunker: Chunker,
        pause: Pause = pause,
    ) -> None:
        self._store = store
        self._vectors = vectors
        self._embedders = embedders
        self._chunker = chunker
        self._pause = pause
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.create_task(self._run())

    def wake(self) -> None:
        """There may be something to do."""
        self._idle.clear()
        self._wake.set()

    async def idle(self) -> None:
        """Wait until all that can be done at the moment is done."""
        await self._idle.wait()

    async def close(self) -> None:
        """Whatever is unfinished will be done after the next start."""
        tasks = [*self._running.values(), *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what is to be done ---

    async def _run(self) -> None:
        recovered = False
        while True:
            self._wake.clear()
            try:
                if not recovered:
                    await self._recover()
                    recovered = True
                await self._clear_up()
                await self._start_due()
                timeout = await self._store.next_due()
                if not self._running and not self._wake.is_set():
                    self._idle.set()
            except CsiError as error:
                log.warning("Indexing is interrupted: %s", error.detail)
                timeout = _RETRY_SECONDS
            except Exception:
                log.exception("Indexing is interrupted")
                timeout = _RETRY_SECONDS
            await self._wait(timeout)

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            self._idle.clear()

    async def _recover(self) -> None:
        """Vectors that were lost with their files are made anew from the documents."""
        for binding in await self._store.bindings():
            needed = await self._store.visible_count(binding.id)
            if needed > await self._vectors.count(binding.vectors):
                log.warning("Vectors of `%s` are lost: indexing again", binding.vectors)
                await self._vectors.drop(binding.vectors)
                await self._store.start_over(binding.id)

    async def _start_due(self) -> None:
        for binding in await self._store.due_bindings():
            if binding not in self._running:
                task = asyncio.create_task(self._work(binding))
                self._running[binding] = task
                task.add_done_callback(lambda _, binding=binding: self._ended(binding))  # type: ignore[misc]

    def _ended(self, binding: int) -> None:
        self._running.pop(binding, None)
        self._wake.set()

    async def _clear_up(self) -> None:
        for name in await self._store.dropped_vectors():
            await self._vectors.drop(name)
            await self._store.forget_dropped(name)
        while garbage := await self._store.garbage(_GENERATIONS_AT_ONCE):
            await self._vectors.delete(garbage.vectors, garbage.ids)
            await self._store.forget(garbage)

    # --- the documents of one index ---

    async def _work(self, id: int) -> None:
        try:
            while jobs := await self._store.due_jobs(
                id, limit=_DOCUMENTS_AT_ONCE, size=_BYTES_AT_ONCE
            ):
                await self._process(id, jobs)
                # Dead versions are cleared up in between, not only at the end.
                self._wake.set()
        except CsiError as error:
            log.warning("Indexing is interrupted: %s", error.detail)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _process(self, id: int, jobs: list[Job]) -> None:
        try:
            binding = await self._store.binding_by_id(id)
            if binding is not None:
                await self._index(binding, jobs)
        except CsiError as error:
            if len(jobs) > 1 and not error.retryable:
                # One of them may be the reason.
                for job in jobs:
                    await self._process(id, [job])
                return
            await self._postpone(jobs, error.detail, error.retryable)
        except Exception:
            log.exception("Indexing failed")
            await self._postpone(jobs, "The kernel failed; its log says more.", False)

    async def _postpone(self, jobs: list[Job], error: str, retryable: bool) -> None:
        for job in jobs:
            log.warning("Document `%s` is not indexed yet: %s", job.name, error)
            await self._store.postpone(job, self._pause(job.failures, retryable), error)

    async def _index(self, binding: Binding, jobs: list[Job]) -> None:
        cuts = [await cut(job.contents, binding.config, self._chunker) for job in jobs]
        texts = [section.text for sections in cuts for section in sections]
        vectors = await embed(self._embedders, binding.config, texts, "document")
        if vectors:
            await self._make_room(binding, len(vectors[0]))
        built = await self._store.begin(list(zip(jobs, cuts, strict=True)))
        if not built:
            return
        try:
            points = await asyncio.to_thread(_points, binding, built, cuts, vectors)
            await self._vectors.put(binding.vectors, points)
        except Exception:
            await self._store.abandon(built)
            raise
        await self._store.finish(built)

    async def _make_room(self, binding: Binding, size: int) -> None:
        if binding.size is None:
            hybrid = binding.config.hybrid_index is not None
            await self._vectors.create(binding.vectors, size, hybrid=hybrid)
            await self._store.set_size(binding.id, size)
        elif binding.size != size:
            raise BadUpstreamAnswer(
                f"The embedding model `{binding.config.embedding.model_name}` makes vectors of "
                f"{size} numbers now, but the index holds ones of {binding.size}: "
                "take the index off the collection and assign it again."
            )


async def embed(
    embedders: Embedders, config: IndexConfig, texts: list[str], kind: Kind
) -> list[list[float]]:
    """The vectors of texts, as the index wants them. Raises a ``CsiError``."""
    if not texts:
        return []
    embedding = config.embedding
    model: Embedder = embedders.of(embedding.model_name)
    if isinstance(embedding, InstructableEmbedding):
        of_kind = {
            "document": embedding.document_instruction,
            "query": embedding.query_instruction,
        }
        return await model.embed([of_kind[kind] + text for text in texts], kind)
    return await model.embed(texts, "document" if embedding.representation == "symmetric" else kind)


def _points(
    binding: Binding, built: list[Built], cuts: list[list[Section]], vectors: list[list[float]]
) -> list[Point]:
    hybrid = binding.config.hybrid_index is not None
    points: list[Point] = []
    remaining = iter(vectors)
    for each, sections in zip(built, cuts, strict=True):
        payload = metadata.payload(msgspec.json.decode(each.job.metadata))
        for id, section in zip(each.ids, sections, strict=True):
            keywords = bm25.of_document(section.text) if hybrid else None
            points.append(Point(id, next(remaining), keywords, payload))
    return points
