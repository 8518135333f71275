"""``pharia:skill`` 0.2: one interface, single calls, three roles, two languages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pharia_kernel.csi import types
from pharia_kernel.csi.lines import common
from pharia_kernel.csi.lines.common import Shape
from pharia_kernel.csi.lines.function import Function, call, named

if TYPE_CHECKING:
    from pharia_kernel.csi.guest import GuestCalls


class CompletionParams(Shape):
    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    stop: list[str]


class CompletionRequest(Shape):
    model: str
    prompt: str
    params: CompletionParams


class Completion(Shape):
    text: str
    finish_reason: str


class Message(Shape):
    role: Literal["user", "assistant", "system"]
    content: str


class ChatParams(Shape):
    max_tokens: int | None
    temperature: float | None
    top_p: float | None


class ChatResponse(Shape):
    message: Message
    finish_reason: str


class ChunkParams(Shape):
    model: str
    max_tokens: int


class SearchResult(Shape):
    document_path: common.DocumentPath
    content: str
    score: float


async def _complete(
    guest: GuestCalls, requests: list[CompletionRequest], special_tokens: bool
) -> list[Completion]:
    completions = await guest.csi.complete(
        [
            types.CompletionRequest(
                request.model,
                request.prompt,
                types.CompletionParams(
                    return_special_tokens=special_tokens,
                    max_tokens=request.params.max_tokens,
                    temperature=request.params.temperature,
                    top_k=request.params.top_k,
                    top_p=request.params.top_p,
                    stop=request.params.stop,
                ),
            )
            for request in requests
        ],
        guest.context,
    )
    return [
        Completion(c.text, common.finish_reason_without_tools(c.finish_reason)) for c in completions
    ]


async def complete(
    guest: GuestCalls, model: str, prompt: str, params: CompletionParams
) -> Completion:
    return (await _complete(guest, [CompletionRequest(model, prompt, params)], False))[0]


async def complete_return_special_tokens(
    guest: GuestCalls, model: str, prompt: str, params: CompletionParams
) -> Completion:
    return (await _complete(guest, [CompletionRequest(model, prompt, params)], True))[0]


async def complete_all(guest: GuestCalls, requests: list[CompletionRequest]) -> list[Completion]:
    return await _complete(guest, requests, False)


async def chat(
    guest: GuestCalls, model: str, messages: list[Message], params: ChatParams
) -> ChatResponse:
    request = types.ChatRequest(
        model,
        [types.Message(role=message.role, content=message.content) for message in messages],
        types.ChatParams(
            max_tokens=params.max_tokens, temperature=params.temperature, top_p=params.top_p
        ),
    )
    (response,) = await guest.csi.chat([request], guest.context, split_reasoning=False)
    return ChatResponse(
        Message("assistant", response.message.content or ""),
        common.finish_reason_without_tools(response.finish_reason),
    )


async def chunk(guest: GuestCalls, text: str, params: ChunkParams) -> list[str]:
    request = types.ChunkRequest(text, types.ChunkParams(params.model, params.max_tokens))
    (chunks,) = await guest.csi.chunk([request], guest.context)
    return [chunk.text for chunk in chunks]


async def select_language(
    guest: GuestCalls, text: str, languages: list[Literal["eng", "deu"]]
) -> str | None:
    request = types.SelectLanguageRequest(text, list(languages))
    return (await guest.csi.select_language([request], guest.context))[0]


async def search(
    guest: GuestCalls,
    index_path: common.IndexPath,
    query: str,
    max_results: int,
    min_score: float | None,
) -> list[SearchResult]:
    request = types.SearchRequest(
        index_path=common.index_path(index_path),
        query=query,
        max_results=max_results,
        min_score=min_score,
    )
    (results,) = await guest.csi.search([request], guest.context)
    return [
        SearchResult(common.document_path_shape(r.document_path), r.content, r.score)
        for r in results
    ]


async def document_metadata(guest: GuestCalls, path: common.DocumentPath) -> bytes | None:
    return (await common.document_metadata(guest, [path]))[0]


async def documents(guest: GuestCalls, requests: list[common.DocumentPath]) -> Any:
    return await common.documents(guest, requests)


def functions() -> dict[str, Function]:
    completion = (str, str, CompletionParams)
    return named(
        "0.2",
        {
            "csi": {
                "complete": call(complete, *completion),
                "complete-return-special-tokens": call(complete_return_special_tokens, *completion),
                "complete-all": call(complete_all, list[CompletionRequest]),
                "chat": call(chat, str, list[Message], ChatParams),
                "chunk": call(chunk, str, ChunkParams),
                "select-language": call(select_language, str, list[Literal["eng", "deu"]]),
                "search": call(search, common.IndexPath, str, int, float | None),
                "document-metadata": call(document_metadata, common.DocumentPath),
                "documents": call(documents, list[common.DocumentPath]),
            }
        },
    )
