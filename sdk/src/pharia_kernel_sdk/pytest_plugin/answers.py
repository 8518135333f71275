"""Scripted answers: what tests may write for short, and what it means."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from pharia_kernel_sdk.csi.chunking import Chunk
from pharia_kernel_sdk.csi.document_index import (
    Cursor,
    Document,
    DocumentPath,
    SearchResult,
    Text,
)
from pharia_kernel_sdk.csi.inference import (
    ChatResponse,
    Completion,
    CompletionAppend,
    FinishReason,
    Message,
    MessageAppend,
    MessageBegin,
    Reasoning,
    TokenUsage,
    ToolCallChunk,
    ToolCallEvent,
)
from pharia_kernel_sdk.csi.language import Language
from pharia_kernel_sdk.csi.tools import ToolError, ToolOutput

_PIECES = re.compile(r"\S+\s*|\s+")


class AnswerError(TypeError):
    """A scripted answer does not fit the call that it is for."""


def answer_to(function: str, request: Any, answer: Any) -> Any:
    """The whole answer for a short one. Raises ``AnswerError``, or the answer if it is an exception
    (except for tools, whose errors are answers)."""
    if isinstance(answer, Exception) and not isinstance(answer, ToolError):
        raise answer
    try:
        return _WHOLE[function](request, answer)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AnswerError(
            f"The scripted answer {answer!r} does not fit `{function}`: {_FORMS[function]}"
        ) from error


def _message(answer: Any) -> Message:
    return answer if isinstance(answer, Message) else Message.assistant(_text(answer))


def _chat(_: Any, answer: Any) -> ChatResponse:
    if isinstance(answer, ChatResponse):
        return answer
    message = _message(answer)
    return ChatResponse(message, _reason(message), [], _usage(message.content))


def _reason(message: Message) -> FinishReason:
    return FinishReason.TOOL_CALLS if message.tool_calls else FinishReason.STOP


def _chat_stream(_: Any, answer: Any) -> list[Any]:
    """Events; those that every stream has are added where they are missing."""
    events: list[Any]
    reason = FinishReason.STOP
    if isinstance(answer, list):
        events = [MessageAppend(piece) if isinstance(piece, str) else piece for piece in answer]
    else:
        message = _message(answer)
        reason = _reason(message)
        events = [Reasoning(message.reasoning_content)] if message.reasoning_content else []
        events += [MessageAppend(piece) for piece in _PIECES.findall(message.content)]
        events += [
            ToolCallEvent([ToolCallChunk(index, call.id, call.name, call.arguments)])
            for index, call in enumerate(message.tool_calls or [])
        ]
    if not (events and isinstance(events[0], MessageBegin)):
        events.insert(0, MessageBegin("assistant"))
    text = "".join(event.content for event in events if isinstance(event, MessageAppend))
    return _ended(events, reason, text)


def _ended(events: list[Any], reason: FinishReason, text: str) -> list[Any]:
    if not any(isinstance(event, FinishReason) for event in events):
        events.append(reason)
    if not any(isinstance(event, TokenUsage) for event in events):
        events.append(_usage(text))
    return events


def _complete(_: Any, answer: Any) -> Completion:
    if isinstance(answer, Completion):
        return answer
    return Completion(_text(answer), FinishReason.STOP, [], _usage(_text(answer)))


def _completion_stream(_: Any, answer: Any) -> list[Any]:
    pieces = answer if isinstance(answer, list) else _PIECES.findall(_text(answer))
    events = [CompletionAppend(piece, []) if isinstance(piece, str) else piece for piece in pieces]
    text = "".join(event.text for event in events if isinstance(event, CompletionAppend))
    return _ended(events, FinishReason.STOP, text)


def _chunk(request: Any, answer: Any) -> list[Chunk]:
    """Texts are looked for in the text of the request, one behind the other."""
    chunks, start = [], 0
    for chunk in _list(answer):
        if not isinstance(chunk, Chunk):
            start = max(start, request.text.find(_text(chunk), start))
            chunk = Chunk(chunk, start)
        chunks.append(chunk)
    return chunks


def _select_language(_: Any, answer: Any) -> Language | None:
    return None if answer is None else Language(answer)


def _search(request: Any, answer: Any) -> list[SearchResult]:
    return [_found(request, number, result) for number, result in enumerate(_list(answer))]


def _found(request: Any, number: int, result: Any) -> SearchResult:
    if isinstance(result, SearchResult):
        return result
    index = request.index_path
    path = DocumentPath(index.namespace, index.collection, f"document-{number + 1}")
    end = Cursor(0, max(0, len(_text(result)) - 1))
    return SearchResult(path, result, 1.0 - number / 100, Cursor(0, 0), end)


def _document(path: Any, answer: Any) -> Document:
    return answer if isinstance(answer, Document) else Document(path, [Text(_text(answer))], None)


def _document_metadata(_: Any, answer: Any) -> Any:
    return json.loads(json.dumps(answer))


def _invoke_tool(_: Any, answer: Any) -> ToolOutput | ToolError:
    if isinstance(answer, ToolOutput | ToolError):
        return answer
    return ToolOutput([answer if isinstance(answer, str) else json.dumps(answer)])


def _list(answer: Any) -> list[Any]:
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        raise TypeError("no list")
    return list(answer)


def _list_of_it(_: Any, answer: Any) -> list[Any]:
    return _list(answer)


def _text(answer: Any) -> str:
    if not isinstance(answer, str):
        raise TypeError("no text")
    return answer


def _usage(text: str) -> TokenUsage:
    return TokenUsage(0, len(text.split()))


_WHOLE: dict[str, Callable[[Any, Any], Any]] = {
    "chat": _chat,
    "chat_stream": _chat_stream,
    "chunk": _chunk,
    "complete": _complete,
    "completion_stream": _completion_stream,
    "document": _document,
    "document_metadata": _document_metadata,
    "explain": _list_of_it,
    "invoke_tool": _invoke_tool,
    "list_tools": _list_of_it,
    "search": _search,
    "select_language": _select_language,
}
_FORMS = {
    "chat": "a text, a Message or a ChatResponse.",
    "chat_stream": "a text, a Message, or a list of texts and events.",
    "chunk": "a list of texts or of Chunk.",
    "complete": "a text or a Completion.",
    "completion_stream": "a text, or a list of texts and events.",
    "document": "a text or a Document.",
    "document_metadata": "any JSON value.",
    "explain": "a list of TextScore.",
    "invoke_tool": "a text, another JSON value, a ToolOutput or a ToolError.",
    "list_tools": "a list of Tool.",
    "search": "a list of texts or of SearchResult.",
    "select_language": "a Language, its ISO 639-3 code, or None.",
}
