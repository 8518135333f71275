"""Interfaces that have the same shapes in every line from 0.3 on, and pieces of the others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Raw, Struct

from pharia_kernel.csi import types
from pharia_kernel.csi.lines.function import Function, call
from pharia_kernel.errors import BadUpstreamAnswer, UnexpectedToolCall

if TYPE_CHECKING:
    from pharia_kernel.csi.guest import GuestCalls


class Shape(Struct, rename="kebab"):
    """A WIT record."""


class Case(Struct, array_like=True):
    """A case of a WIT variant; the tag is its name."""


# --- inference ------------------------------------------------------------------------------------


class NoLogprobs(Case, tag="no"):
    pass


class SampledLogprobs(Case, tag="sampled"):
    pass


class TopLogprobs(Case, tag="top"):
    value: int


Logprobs = NoLogprobs | SampledLogprobs | TopLogprobs


def logprobs(value: Logprobs) -> types.LogprobsChoice:
    match value:
        case TopLogprobs(count):
            return types.TopLogprobs(count)
        case SampledLogprobs():
            return "sampled"
        case _:
            return "no"


class Logprob(Shape):
    token: bytes
    logprob: float


class Distribution(Shape):
    sampled: Logprob
    top: list[Logprob]


class TokenUsage(Shape):
    prompt: int
    completion: int


def _logprob(value: types.Logprob) -> Logprob:
    return Logprob(value.token, math.nan if value.logprob is None else value.logprob)


def distributions(values: list[types.Distribution]) -> list[Distribution]:
    return [
        Distribution(_logprob(value.sampled), [_logprob(top) for top in value.top])
        for value in values
    ]


_U32_MAX = 2**32 - 1


def usage(value: types.Usage) -> TokenUsage:
    return TokenUsage(_count(value.prompt), _count(value.completion))


def _count(tokens: int) -> int:
    """Nearest number that fits the type: nonsense in the accounts must not end a run."""
    return min(max(tokens, 0), _U32_MAX)


def u32(value: int, what: str) -> int:
    """The value, if it fits the type; raises ``BadUpstreamAnswer`` that names ``what`` if not."""
    if not 0 <= value <= _U32_MAX:
        raise BadUpstreamAnswer(f"The backend sent {value} as {what}.")
    return value


def finish_reason(value: types.FinishReason) -> str:
    """The WIT name of the case."""
    return value.value.replace("_", "-")


def finish_reason_without_tools(value: types.FinishReason) -> str:
    """Of an answer for which no tool can have been offered: completions, and chats before 0.4."""
    if value is types.FinishReason.TOOL_CALLS:
        raise unexpected_tool_call()
    return finish_reason(value)


def unexpected_tool_call() -> UnexpectedToolCall:
    return UnexpectedToolCall("The model called a tool although none was offered to it.")


class CompletionResult(Shape):
    text: str
    finish_reason: str
    logprobs: list[Distribution]
    usage: TokenUsage


def completion(value: types.Completion) -> CompletionResult:
    return CompletionResult(
        value.text,
        finish_reason_without_tools(value.finish_reason),
        distributions(value.logprobs),
        usage(value.usage),
    )


class CompletionAppend(Shape):
    text: str
    logprobs: list[Distribution]


def completion_event(event: types.CompletionEvent) -> list[Any]:
    match event:
        case types.CompletionAppend(text, logprobs):
            return ["append", CompletionAppend(text, distributions(logprobs))]
        case types.CompletionEnd(reason):
            return ["end", finish_reason_without_tools(reason)]
        case types.UsageEvent(value):
            return ["usage", usage(value)]


# --- chunking -------------------------------------------------------------------------------------


class ChunkParams(Shape):
    model: str
    max_tokens: int
    overlap: int


class ChunkRequest(Shape):
    text: str
    params: ChunkParams


class ChunkWithOffsetRequest(Shape):
    text: str
    params: ChunkParams
    character_offsets: bool


class ChunkWithOffset(Shape):
    text: str
    byte_offset: int
    character_offset: int | None


def _chunk_request(
    request: ChunkRequest | ChunkWithOffsetRequest, offsets: bool
) -> types.ChunkRequest:
    params = request.params
    return types.ChunkRequest(
        request.text, types.ChunkParams(params.model, params.max_tokens, params.overlap), offsets
    )


async def chunk(guest: GuestCalls, requests: list[ChunkRequest]) -> list[list[str]]:
    chunked = await guest.csi.chunk([_chunk_request(r, False) for r in requests], guest.context)
    return [[chunk.text for chunk in chunks] for chunks in chunked]


async def chunk_with_offsets(
    guest: GuestCalls, requests: list[ChunkWithOffsetRequest]
) -> list[list[ChunkWithOffset]]:
    chunked = await guest.csi.chunk(
        [_chunk_request(r, r.character_offsets) for r in requests], guest.context
    )
    return [
        [ChunkWithOffset(c.text, c.byte_offset, c.character_offset) for c in chunks]
        for chunks in chunked
    ]


# --- document index -------------------------------------------------------------------------------


class IndexPath(Shape):
    namespace: str
    collection: str
    index: str


class DocumentPath(Shape):
    namespace: str
    collection: str
    name: str


class TextCursor(Shape):
    item: int
    position: int


class StringValue(Case, tag="string-type"):
    value: str


class IntegerValue(Case, tag="integer-type"):
    value: int


class BooleanValue(Case, tag="boolean-type"):
    value: bool


class GreaterThan(Case, tag="greater-than"):
    value: float


class GreaterThanOrEqualTo(Case, tag="greater-than-or-equal-to"):
    value: float


class LessThan(Case, tag="less-than"):
    value: float


class LessThanOrEqualTo(Case, tag="less-than-or-equal-to"):
    value: float


class After(Case, tag="after"):
    value: str


class AtOrAfter(Case, tag="at-or-after"):
    value: str


class Before(Case, tag="before"):
    value: str


class AtOrBefore(Case, tag="at-or-before"):
    value: str


class EqualTo(Case, tag="equal-to"):
    value: StringValue | IntegerValue | BooleanValue


class IsNull(Case, tag="is-null"):
    pass


Condition = (
    GreaterThan
    | GreaterThanOrEqualTo
    | LessThan
    | LessThanOrEqualTo
    | After
    | AtOrAfter
    | Before
    | AtOrBefore
    | EqualTo
    | IsNull
)


class MetadataFilter(Shape):
    field: str
    condition: Condition


class Without(Case, tag="without"):
    value: list[MetadataFilter]


class WithOneOf(Case, tag="with-one-of"):
    value: list[MetadataFilter]


class WithAll(Case, tag="with-all"):
    value: list[MetadataFilter]


class SearchRequest(Shape):
    index_path: IndexPath
    query: str
    max_results: int
    min_score: float | None
    filters: list[Without | WithOneOf | WithAll]


class SearchResult(Shape):
    document_path: DocumentPath
    content: str
    score: float
    start: TextCursor
    end: TextCursor


def _condition(filter_: MetadataFilter) -> types.FilterItem:
    condition = filter_.condition
    key = condition.__struct_config__.tag.replace("-", "_")  # type: ignore[union-attr]
    value: Any = True if isinstance(condition, IsNull) else condition.value
    if isinstance(condition, EqualTo):
        value = condition.value.value
    return types.FilterItem(types.MetadataCondition(field=filter_.field, **{key: value}))


def _filter(filter_: Without | WithOneOf | WithAll) -> types.SearchFilter:
    items = [_condition(item) for item in filter_.value]
    match filter_:
        case Without():
            return types.SearchFilter(without=items)
        case WithOneOf():
            return types.SearchFilter(with_one_of=items)
        case WithAll():
            return types.SearchFilter(with_=items)


def index_path(path: IndexPath) -> types.IndexPath:
    return types.IndexPath(path.namespace, path.collection, path.index)


def document_path(path: DocumentPath) -> types.DocumentPath:
    return types.DocumentPath(path.namespace, path.collection, path.name)


def document_path_shape(path: types.DocumentPath) -> DocumentPath:
    return DocumentPath(path.namespace, path.collection, path.name)


async def search(guest: GuestCalls, requests: list[SearchRequest]) -> list[list[SearchResult]]:
    found = await guest.csi.search(
        [
            types.SearchRequest(
                index_path=index_path(request.index_path),
                query=request.query,
                max_results=request.max_results,
                min_score=request.min_score,
                filters=[_filter(filter_) for filter_ in request.filters],
            )
            for request in requests
        ],
        guest.context,
    )
    return [[_search_result(result) for result in results] for results in found]


def _search_result(result: types.SearchResult) -> SearchResult:
    return SearchResult(
        document_path_shape(result.document_path),
        result.content,
        result.score,
        TextCursor(result.start.item, result.start.position),
        TextCursor(result.end.item, result.end.position),
    )


class Document(Shape):
    path: DocumentPath
    contents: list[list[Any]]
    metadata: bytes | None


def raw_bytes(value: Raw | None) -> bytes | None:
    return None if value is None else bytes(value)


def document(value: types.Document) -> Document:
    return Document(
        document_path_shape(value.path),
        [
            ["text", part.text] if isinstance(part, types.TextModality) else ["image", None]
            for part in value.contents
        ],
        raw_bytes(value.metadata),
    )


async def documents(guest: GuestCalls, requests: list[DocumentPath]) -> list[Document]:
    found = await guest.csi.documents([document_path(r) for r in requests], guest.context)
    return [document(value) for value in found]


async def document_metadata(guest: GuestCalls, requests: list[DocumentPath]) -> list[bytes | None]:
    found = await guest.csi.document_metadata([document_path(r) for r in requests], guest.context)
    return [raw_bytes(value) for value in found]


# --- language -------------------------------------------------------------------------------------


class SelectLanguageRequest(Shape):
    text: str
    languages: list[str]


async def select_language(
    guest: GuestCalls, requests: list[SelectLanguageRequest]
) -> list[str | None]:
    return await guest.csi.select_language(
        [types.SelectLanguageRequest(r.text, r.languages) for r in requests], guest.context
    )


# --- tools ----------------------------------------------------------------------------------------


class Argument(Shape):
    name: str
    value: bytes


class InvokeRequest(Shape):
    tool_name: str
    arguments: list[Argument]


class Tool(Shape):
    name: str
    description: str
    input_schema: bytes


async def invoke_tool(guest: GuestCalls, requests: list[InvokeRequest]) -> list[list[Any]]:
    outputs = await guest.csi.invoke_tool(
        guest.namespace,
        [
            types.InvokeRequest(
                request.tool_name, [types.Argument(a.name, Raw(a.value)) for a in request.arguments]
            )
            for request in requests
        ],
        guest.context,
        guest.on_tool_event,
    )
    return [
        ["err", output] if isinstance(output, str) else ["ok", [["text", t.text] for t in output]]
        for output in outputs
    ]


async def list_tools(guest: GuestCalls) -> list[Tool]:
    tools = await guest.csi.list_tools(guest.namespace, guest.context)
    return [Tool(tool.name, tool.description, bytes(tool.input_schema)) for tool in tools]


Granularity = Literal["auto", "word", "sentence", "paragraph"]


def interfaces() -> dict[str, dict[str, Function]]:
    """The four interfaces that the lines share."""
    return {
        "chunking": {
            "chunk": call(chunk, list[ChunkRequest]),
            "chunk-with-offsets": call(chunk_with_offsets, list[ChunkWithOffsetRequest]),
        },
        "document-index": {
            "search": call(search, list[SearchRequest]),
            "documents": call(documents, list[DocumentPath]),
            "document-metadata": call(document_metadata, list[DocumentPath]),
        },
        "language": {"select-language": call(select_language, list[SelectLanguageRequest])},
        "tool": {
            "invoke-tool": call(invoke_tool, list[InvokeRequest]),
            "list-tools": call(list_tools),
        },
    }
