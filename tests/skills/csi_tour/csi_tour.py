from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from pharia_skill import (
    ChatParams,
    ChunkParams,
    ChunkRequest,
    CompletionParams,
    Csi,
    DocumentPath,
    EqualTo,
    Granularity,
    IndexPath,
    InvokeRequest,
    Language,
    Message,
    MetadataFilter,
    TopLogprobs,
    With,
    skill,
)
from pydantic import BaseModel, RootModel


class Input(BaseModel):
    steps: list[str]
    """Which calls to make, in this order."""
    model: str = "model"
    text: str = "The quick brown fox jumps over the lazy dog."
    tool: str = "add"
    arguments: dict[str, Any] = {"a": 1, "b": 2}
    namespace: str = "namespace"
    collection: str = "collection"
    index: str = "index"
    document: str = "document"


class Output(RootModel[list[Any]]):
    root: list[Any]
    """The result of each step, as JSON."""


def complete(csi: Csi, i: Input) -> Any:
    params = CompletionParams(max_tokens=8, temperature=0.0, stop=["\n\n"], logprobs=TopLogprobs(2))
    return csi.complete(i.model, i.text, params)


def complete_echo(csi: Csi, i: Input) -> Any:
    return csi.complete(i.model, i.text, CompletionParams(max_tokens=1, echo=True))


def completion_stream(csi: Csi, i: Input) -> Any:
    response = csi.completion_stream(i.model, i.text, CompletionParams(max_tokens=8))
    texts = [append.text for append in response.stream()]
    return {"texts": texts, "finish_reason": response.finish_reason(), "usage": response.usage()}


def chat(csi: Csi, i: Input) -> Any:
    return csi.chat(i.model, [Message.user(i.text)], ChatParams(max_tokens=8, logprobs="sampled"))


def chat_stream(csi: Csi, i: Input) -> Any:
    response = csi.chat_stream(i.model, [Message.user(i.text)], ChatParams(max_tokens=8))
    texts = [append.content for append in response.stream()]
    end = {"finish_reason": response.finish_reason(), "usage": response.usage()}
    return {"role": response.role, "texts": texts, **end}


def chat_stream_unread(csi: Csi, i: Input) -> Any:
    """Leaves the stream after its first event, so the kernel has to clean up."""
    response = csi.chat_stream(i.model, [Message.user(i.text)])
    return {"role": response.role}


def chunk(csi: Csi, i: Input) -> Any:
    params = ChunkParams(model=i.model, max_tokens=4, overlap=1)
    return csi.chunk_concurrent([ChunkRequest(i.text, params), ChunkRequest("short", params)])


def select_language(csi: Csi, i: Input) -> Any:
    return csi.select_language(i.text, [Language.English, Language.German])


def select_no_language(csi: Csi, i: Input) -> Any:
    return csi.select_language(i.text, [])


def explain(csi: Csi, i: Input) -> Any:
    return csi.explain(i.text, "fox", i.model, Granularity.WORD)


def search(csi: Csi, i: Input) -> Any:
    filters = [With([MetadataFilter("kind", EqualTo("animal"))])]
    path = IndexPath(i.namespace, i.collection, i.index)
    return csi.search(path, i.text, max_results=3, min_score=0.1, filters=filters)


def documents(csi: Csi, i: Input) -> Any:
    return csi.documents([DocumentPath(i.namespace, i.collection, i.document)])


def document_metadata(csi: Csi, i: Input) -> Any:
    return csi.document_metadata(DocumentPath(i.namespace, i.collection, i.document))


def list_tools(csi: Csi, i: Input) -> Any:
    return csi.list_tools()


def invoke_tool(csi: Csi, i: Input) -> Any:
    (result,) = csi.invoke_tool_concurrent([InvokeRequest(i.tool, i.arguments)])
    return {"error": result.message} if isinstance(result, Exception) else result


STEPS: dict[str, Callable[[Csi, Input], Any]] = {
    step.__name__: step
    for step in (
        complete,
        complete_echo,
        completion_stream,
        chat,
        chat_stream,
        chat_stream_unread,
        chunk,
        select_language,
        select_no_language,
        explain,
        search,
        documents,
        document_metadata,
        list_tools,
        invoke_tool,
    )
}


@skill
def csi_tour(csi: Csi, input: Input) -> Output:
    """Makes the calls that it is asked for and tells what the kernel answered."""
    return Output([to_json(STEPS[step](csi, input)) for step in input.steps])


def to_json(value: Any) -> Any:
    """As pydantic would, but bytes as lists of numbers: a token may be a part of a character."""
    match value:
        case bytes():
            return list(value)
        case Enum():
            return value.value
        case list():
            return [to_json(item) for item in value]
        case dict():
            return {key: to_json(item) for key, item in value.items()}
        case _ if is_dataclass(value):
            return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    return value
