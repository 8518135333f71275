"""Splits texts in processes of their own (see ``worker``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.tokenizers.base import (
    HuggingFaceTokenizer,
    TiktokenTokenizer,
    Tokenizer,
)
from pharia_kernel.drivers.tokenizers.protocol import Has, KnowsModel, Load, Spans, Split
from pharia_kernel.drivers.workers.pool import WorkerPool, WorkerSettings
from pharia_kernel.drivers.workers.process import WorkerProcess, encode
from pharia_kernel.errors import BadUpstreamAnswer, ModelNotFound

_GRACE = 5.0
"""The kernel kills a process that is late; this many seconds later it would end itself."""
_YES_OR_NO = msgspec.msgpack.Decoder(bool)
_REASON = msgspec.msgpack.Decoder(str)
_SPANS: msgspec.msgpack.Decoder[Spans | str] = msgspec.msgpack.Decoder(Spans | str)


class Splitters:
    """A pool of processes that parse tokenizers and split texts.

    A process whose caller leaves, or that takes too long, is killed.
    """

    def __init__(
        self, processes: int, *, time_limit: float = 600.0, memory_limit: int = 4 << 30
    ) -> None:
        """``time_limit`` in seconds is for one text, without the wait for a free process;
        ``memory_limit`` in bytes for one process."""
        self.pool = WorkerPool(
            WorkerSettings(
                module="pharia_kernel.drivers.tokenizers.worker",
                purpose="split the text",
                processes=processes,
                time_limit=time_limit,
                memory_limit=memory_limit,
            )
        )

    async def check(self, tokenizer: Tokenizer) -> None:
        """Raises ``ModelNotFound`` or ``BadUpstreamAnswer`` for one that can't be used."""

        async def work(process: WorkerProcess, seconds: float) -> None:
            if isinstance(tokenizer, HuggingFaceTokenizer):
                await _provide(process, tokenizer)
            else:
                await _check_model(process, tokenizer.model)

        await self.pool.run(work, CallContext())

    async def split(
        self,
        text: str,
        tokenizer: Tokenizer | None,
        *,
        max_tokens: int,
        overlap: int,
        context: CallContext,
        each: Callable[[Spans], None],
    ) -> None:
        """Call ``each`` with the spans of the chunks, in order, some at a time.

        Sizes are in characters if there is no tokenizer. Raises ``CsiError``, after which what
        ``each`` got is worth nothing.
        """
        encoded = await encode(text)

        async def work(process: WorkerProcess, seconds: float) -> None:
            question = Split(
                max_tokens=max_tokens,
                overlap=overlap,
                seconds=seconds + _GRACE,
                length=sum(map(len, encoded)),
            )
            if isinstance(tokenizer, HuggingFaceTokenizer):
                await _provide(process, tokenizer)
                question.digest = tokenizer.digest
            elif isinstance(tokenizer, TiktokenTokenizer):
                question.openai_model = tokenizer.model
            await process.send(question)
            await process.send_text(encoded)
            await _receive_spans(process, each)

        await self.pool.run(work, context)

    async def close(self) -> None:
        """Ends all processes; calls in flight fail."""
        await self.pool.close()


async def _provide(process: WorkerProcess, tokenizer: HuggingFaceTokenizer) -> None:
    await process.send(Has(tokenizer.digest))
    if await process.receive(_YES_OR_NO):
        return
    await process.send(Load(tokenizer.json, tokenizer.digest))
    if reason := await process.receive(_REASON):
        raise BadUpstreamAnswer(f"The model's tokenizer cannot be used: {reason}")


async def _check_model(process: WorkerProcess, model: str) -> None:
    await process.send(KnowsModel(model))
    if not await process.receive(_YES_OR_NO):
        raise ModelNotFound(f"OpenAI has no model `{model}` with a known tokenizer.")


async def _receive_spans(process: WorkerProcess, each: Callable[[Spans], None]) -> None:
    while spans := await process.receive(_SPANS):
        if isinstance(spans, str):
            raise BadUpstreamAnswer(f"The model's tokenizer fails on the text: {spans}")
        each(spans)
        await asyncio.sleep(0)
