"""The functions of ``/csi/v1`` and ``/csi/v2``: what each takes, calls and answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Raw

from pharia_kernel.csi import types
from pharia_kernel.csi.api import Csi
from pharia_kernel.csi.streams import ending_with_usage
from pharia_kernel.csi.types import CallContext
from pharia_kernel.shell.csi import answers, requests
from pharia_kernel.shell.csi.requests import ChatRequest, chat_request


class Call:
    """One call with one answer."""

    def __init__(
        self,
        body: Any,
        answer: Any,
        call: Callable[[Csi, Any, CallContext], Awaitable[Any]],
    ) -> None:
        """``body`` and ``answer`` are the types whose JSON comes and goes."""
        self.body = body
        self.answer = answer
        self.call = call
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(body)


class Batch(Call):
    """A list of requests, and a list of as many answers in the same order."""

    def __init__(
        self,
        request: Any,
        answer: Any,
        call: Callable[[Csi, list[Any], CallContext], Awaitable[list[Any]]],
    ) -> None:
        super().__init__(list[request], list[answer], call)


class Stream:
    """One request, and events as they come."""

    def __init__(
        self,
        body: Any,
        open: Callable[[Csi, Any, CallContext], AsyncGenerator[Any, None]],
        frame: Callable[[Any], bytes],
    ) -> None:
        self.body = body
        self.open = open
        self.frame = frame
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(body)


Function = Call | Stream


async def _chat_v1(
    csi: Csi, asked: list[ChatRequest], context: CallContext
) -> list[answers.ChatResponseV1]:
    responses = await csi.chat([chat_request(r) for r in asked], context, split_reasoning=False)
    return [answers.chat_response_v1(response) for response in responses]


async def _chat_v2(
    csi: Csi, asked: list[ChatRequest], context: CallContext
) -> list[answers.ChatResponseV2]:
    responses = await csi.chat([chat_request(r) for r in asked], context, split_reasoning=True)
    return [answers.chat_response_v2(response) for response in responses]


def _chat_stream_v1(
    csi: Csi, asked: ChatRequest, context: CallContext
) -> AsyncGenerator[types.ChatEvent, None]:
    return ending_with_usage(csi.chat_stream(chat_request(asked), context, split_reasoning=False))


def _chat_stream_v2(
    csi: Csi, asked: ChatRequest, context: CallContext
) -> AsyncGenerator[types.ChatEvent, None]:
    return csi.chat_stream(chat_request(asked), context, split_reasoning=True)


async def complete(
    csi: Csi, asked: list[types.CompletionRequest], context: CallContext
) -> list[answers.Completion]:
    return [answers.completion(value) for value in await csi.complete(asked, context)]


def _completion_stream_v1(
    csi: Csi, asked: types.CompletionRequest, context: CallContext
) -> AsyncGenerator[types.CompletionEvent, None]:
    return ending_with_usage(csi.completion_stream(asked, context))


def _completion_stream_v2(
    csi: Csi, asked: types.CompletionRequest, context: CallContext
) -> AsyncGenerator[types.CompletionEvent, None]:
    return csi.completion_stream(asked, context)


async def explain(
    csi: Csi, asked: list[types.ExplanationRequest], context: CallContext
) -> list[list[types.TextScore]]:
    return await csi.explain(asked, context)


async def chunk(
    csi: Csi, asked: list[requests.TextOnlyChunkRequest], context: CallContext
) -> list[list[str]]:
    chunked = await csi.chunk([types.ChunkRequest(r.text, r.params) for r in asked], context)
    return [[chunk.text for chunk in chunks] for chunks in chunked]


async def chunk_with_offsets(
    csi: Csi, asked: list[types.ChunkRequest], context: CallContext
) -> list[list[types.Chunk]]:
    return await csi.chunk(asked, context)


async def select_language(
    csi: Csi, asked: list[types.SelectLanguageRequest], context: CallContext
) -> list[str | None]:
    return await csi.select_language(asked, context)


async def search(
    csi: Csi, asked: list[types.SearchRequest], context: CallContext
) -> list[list[types.SearchResult]]:
    return await csi.search(asked, context)


async def documents(
    csi: Csi, asked: list[types.DocumentPath], context: CallContext
) -> list[types.Document]:
    return await csi.documents(asked, context)


async def document_metadata(
    csi: Csi, asked: list[types.DocumentPath], context: CallContext
) -> list[Raw | None]:
    return await csi.document_metadata(asked, context)


async def _invoke_tool(
    csi: Csi, asked: requests.InvokeToolBody, context: CallContext
) -> list[list[types.TextOutput] | str]:
    return await csi.invoke_tool(asked.namespace, asked.requests, context)


async def _list_tools(
    csi: Csi, asked: requests.ListToolsBody, context: CallContext
) -> list[types.Tool]:
    return await csi.list_tools(asked.namespace, context)


_COMMON: dict[str, Function] = {
    "chunk": Batch(requests.TextOnlyChunkRequest, list[str], chunk),
    "chunk_with_offsets": Batch(types.ChunkRequest, list[types.Chunk], chunk_with_offsets),
    "complete": Batch(types.CompletionRequest, answers.Completion, complete),
    "documents": Batch(types.DocumentPath, types.Document, documents),
    "document_metadata": Batch(types.DocumentPath, Raw, document_metadata),
    "explain": Batch(types.ExplanationRequest, list[types.TextScore], explain),
    "invoke_tool": Call(requests.InvokeToolBody, list[list[types.TextOutput] | str], _invoke_tool),
    "list_tools": Call(requests.ListToolsBody, list[types.Tool], _list_tools),
    "search": Batch(types.SearchRequest, list[types.SearchResult], search),
    "select_language": Batch(types.SelectLanguageRequest, str | None, select_language),
}

VERSIONS: dict[str, dict[str, Function]] = {
    "v1": {
        **_COMMON,
        "chat": Batch(ChatRequest, answers.ChatResponseV1, _chat_v1),
        "chat_stream": Stream(ChatRequest, _chat_stream_v1, answers.frame),
        "completion_stream": Stream(types.CompletionRequest, _completion_stream_v1, answers.frame),
    },
    "v2": {
        **_COMMON,
        "chat": Batch(ChatRequest, answers.ChatResponseV2, _chat_v2),
        "chat_stream": Stream(ChatRequest, _chat_stream_v2, answers.frame_v2),
        "completion_stream": Stream(types.CompletionRequest, _completion_stream_v2, answers.frame),
    },
}
