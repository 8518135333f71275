"""``POST /csi``: the first interface, in which the body names version and function.

Its version is that of a WIT line, 0.2 or 0.3. Clients of later lines use ``/csi/v1`` and
``/csi/v2``.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from pharia_kernel.csi import types
from pharia_kernel.csi.api import Csi
from pharia_kernel.csi.types import U32, CallContext
from pharia_kernel.errors import UnknownCsiFunction, UnsupportedCsiVersion
from pharia_kernel.shell.csi import answers, functions, requests
from pharia_kernel.shell.csi.answers import (
    BareChatResponse,
    BareCompletion,
    BareSearchResult,
    PlainChatResponse,
    PlainMessage,
)
from pharia_kernel.shell.csi.functions import Batch, Call
from pharia_kernel.shell.csi.requests import decode, invalid

PATH = "/csi"
_NEWEST_LINE = (0, 5)
_VERSION = re.compile(
    r"\s*(?:=|[<>]=?|[~^])?\s*(\d{1,19})(?:\.(\d{1,19}|[*xX])(?:\.(?:\d{1,19}|[*xX])\S*)?)?\s*"
)
_NOT_YET = "not supported by this Kernel installation yet"
_NO_LONGER = "no longer supported"


class _Envelope(Struct):
    version: Raw | UnsetType = UNSET
    function: Raw | UnsetType = UNSET


_envelope = msgspec.json.Decoder(_Envelope)


def function(body: bytes) -> Call:
    """The function that the body asks for; the body's other members are its arguments.

    Raises ``UnsupportedCsiVersion``, ``UnknownCsiFunction``, or ``InvalidCsiRequest`` if the two
    members are not texts.
    """
    envelope = decode(_envelope, body)
    version = _text("version", envelope.version)
    if version is None or version not in FUNCTIONS:
        raise UnsupportedCsiVersion(_advice(version))
    name = _text("function", envelope.function)
    found = FUNCTIONS[version].get(name or "")
    if found is None:
        raise UnknownCsiFunction(_unknown(name, version))
    return found


def _text(member: str, value: Raw | UnsetType) -> str | None:
    if isinstance(value, UnsetType):
        return None
    text = msgspec.json.decode(value)
    if text is not None and not isinstance(text, str):
        raise invalid("Expected `str`", f"/{member}")
    return text


def _advice(version: str | None) -> str:
    """Why the version can't be used, and what to do."""
    match = _VERSION.fullmatch(version or "")
    if match is None:
        return "A valid CSI version is required: `version` must be `0.2` or `0.3`."
    shown = f"The CSI version `{(version or '')[:40]}`"
    major, minor = int(match[1]), int(match[2] or 0) if (match[2] or "0").isdecimal() else 0
    if (major, minor) > _NEWEST_LINE:
        return f"{shown} is {_NOT_YET}. Use `0.3`, or `/csi/v2/FUNCTION` without a version."
    if f"{major}.{minor}" in FUNCTIONS:
        return f"{shown} must be written as a line, without more: `{major}.{minor}`."
    if (major, minor) > (0, 3):
        return (
            f"{shown} is not served at `/csi`, which ends with `0.3`: call `/csi/v2/FUNCTION`, "
            "which needs no version."
        )
    return f"{shown} is {_NO_LONGER}. Use `/csi/v1/FUNCTION`, or here `0.2` or `0.3`."


def _unknown(name: str | None, version: str) -> str:
    known = ", ".join(sorted(FUNCTIONS[version]))
    what = "The CSI function must be specified in `function`; none is"
    if name is not None:
        what = f"The CSI function `{name[:100]}` of version {version} is {_NOT_YET}"
    return f"{what}. The functions of {version} are: {known}."


# --- 0.2: single requests whose members stand beside version and function -------------------------


class _CompleteAll(Struct):
    requests: list[types.CompletionRequest]


class _ChatParams02(Struct):
    max_tokens: U32 | None = None
    temperature: float | None = None
    top_p: float | None = None


class _Chat02(Struct):
    model: str
    messages: list[PlainMessage]
    params: _ChatParams02


class _ChunkParams02(Struct):
    model: str
    max_tokens: U32


class _Chunk02(Struct):
    text: str
    params: _ChunkParams02


class _SelectLanguage02(Struct):
    text: str
    languages: list[answers.Language]


class _Search02(Struct):
    query: str
    index_path: types.IndexPath
    max_results: U32
    min_score: float | None = None


class _Documents(Struct):
    requests: list[types.DocumentPath]


class _DocumentMetadata02(Struct):
    document_path: types.DocumentPath


async def _complete_02(
    csi: Csi, asked: types.CompletionRequest, context: CallContext
) -> BareCompletion:
    (value,) = await csi.complete([asked], context)
    return _bare(value)


async def _complete_all(
    csi: Csi, asked: _CompleteAll, context: CallContext
) -> list[BareCompletion]:
    return [_bare(value) for value in await csi.complete(asked.requests, context)]


def _bare(value: types.Completion) -> BareCompletion:
    return BareCompletion(value.text, value.finish_reason)


async def _chat_02(csi: Csi, asked: _Chat02, context: CallContext) -> BareChatResponse:
    params = asked.params
    request = types.ChatRequest(
        asked.model,
        _messages(asked.messages),
        types.ChatParams(
            max_tokens=params.max_tokens, temperature=params.temperature, top_p=params.top_p
        ),
    )
    (response,) = await csi.chat([request], context, split_reasoning=False)
    return BareChatResponse(_plain(response.message), response.finish_reason)


def _messages(messages: list[PlainMessage]) -> list[types.Message]:
    return [types.Message(role=message.role, content=message.content) for message in messages]


def _plain(message: types.Message) -> PlainMessage:
    return PlainMessage(message.role, message.content or "")


async def _chunk_02(csi: Csi, asked: _Chunk02, context: CallContext) -> list[str]:
    params = types.ChunkParams(asked.params.model, asked.params.max_tokens)
    (chunks,) = await csi.chunk([types.ChunkRequest(asked.text, params)], context)
    return [chunk.text for chunk in chunks]


async def _select_language_02(
    csi: Csi, asked: _SelectLanguage02, context: CallContext
) -> str | None:
    request = types.SelectLanguageRequest(asked.text, list(asked.languages))
    (language,) = await csi.select_language([request], context)
    return language


async def _search_02(csi: Csi, asked: _Search02, context: CallContext) -> list[BareSearchResult]:
    request = types.SearchRequest(
        index_path=asked.index_path,
        query=asked.query,
        max_results=asked.max_results,
        min_score=asked.min_score,
    )
    (results,) = await csi.search([request], context)
    return [BareSearchResult(r.document_path, r.content, r.score) for r in results]


async def _documents_02(csi: Csi, asked: _Documents, context: CallContext) -> list[types.Document]:
    return await csi.documents(asked.requests, context)


async def _document_metadata_02(
    csi: Csi, asked: _DocumentMetadata02, context: CallContext
) -> Raw | None:
    (metadata,) = await csi.document_metadata([asked.document_path], context)
    return metadata


# --- 0.3: the batches of /csi/v1, in an object ----------------------------------------------------


class _ChatParams03(_ChatParams02):
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: types.LogprobsChoice = "no"


class _ChatRequest03(Struct):
    model: str
    messages: list[PlainMessage]
    params: _ChatParams03


async def _chat_03(
    csi: Csi, asked: list[_ChatRequest03], context: CallContext
) -> list[PlainChatResponse]:
    responses = await csi.chat([_chat_request(r) for r in asked], context, split_reasoning=False)
    return [
        PlainChatResponse(
            _plain(response.message),
            response.finish_reason,
            answers.distributions(response.logprobs),
            response.usage,
        )
        for response in responses
    ]


def _chat_request(request: _ChatRequest03) -> types.ChatRequest:
    params = request.params
    return types.ChatRequest(
        request.model,
        _messages(request.messages),
        types.ChatParams(
            max_tokens=params.max_tokens,
            temperature=params.temperature,
            top_p=params.top_p,
            frequency_penalty=params.frequency_penalty,
            presence_penalty=params.presence_penalty,
            logprobs=params.logprobs,
        ),
    )


def _enveloped(batch: Batch, name: str) -> Call:
    """The batch with its requests in the member `requests`."""
    body = msgspec.defstruct(f"{name}_03", [("requests", batch.body)])

    async def call(csi: Csi, asked: Any, context: CallContext) -> list[Any]:
        answer: list[Any] = await batch.call(csi, asked.requests, context)
        return answer

    return Call(body, batch.answer, call)


_BATCHES_03 = {
    "chat": Batch(_ChatRequest03, PlainChatResponse, _chat_03),
    "chunk": Batch(requests.TextOnlyChunkRequest, list[str], functions.chunk),
    "chunk_with_offsets": Batch(
        types.ChunkRequest, list[types.Chunk], functions.chunk_with_offsets
    ),
    "complete": Batch(types.CompletionRequest, answers.Completion, functions.complete),
    "documents": Batch(types.DocumentPath, types.Document, functions.documents),
    "document_metadata": Batch(types.DocumentPath, Raw, functions.document_metadata),
    "explain": Batch(types.ExplanationRequest, list[types.TextScore], functions.explain),
    "search": Batch(types.SearchRequest, list[types.SearchResult], functions.search),
    "select_language": Batch(types.SelectLanguageRequest, str | None, functions.select_language),
}

FUNCTIONS: dict[str, dict[str, Call]] = {
    "0.2": {
        "chat": Call(_Chat02, BareChatResponse, _chat_02),
        "chunk": Call(_Chunk02, list[str], _chunk_02),
        "complete": Call(types.CompletionRequest, BareCompletion, _complete_02),
        "complete_all": Call(_CompleteAll, list[BareCompletion], _complete_all),
        "documents": Call(_Documents, list[types.Document], _documents_02),
        "document_metadata": Call(_DocumentMetadata02, Raw, _document_metadata_02),
        "search": Call(_Search02, list[BareSearchResult], _search_02),
        "select_language": Call(_SelectLanguage02, str | None, _select_language_02),
    },
    "0.3": {name: _enveloped(batch, name) for name, batch in _BATCHES_03.items()},
}
