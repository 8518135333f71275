"""The page of the Python API for authors of skills."""

from __future__ import annotations

from dataclasses import dataclass

from tools.reference import library
from tools.reference import markdown as md
from tools.reference.definitions import Sections

_INTRODUCTION = """
Everything here is imported from `pharia_kernel_sdk`, unless its section says from where. What
differs from `pharia_skill` is in [moving from pharia-skill](../sdk/moving-from-pharia-skill.md);
fixtures for tests are in [pytest](pytest.md).
"""


@dataclass(frozen=True)
class _Group:
    """What an author thinks of together."""

    title: str
    names: tuple[str, ...]
    module: str = ""
    """Its docstring introduces the group."""


_GROUPS = (
    _Group("Skills", ("skill", "message_stream", "SkillDefinitionError", "Csi")),
    _Group("Input and output", ("Field", "JsonSerializable"), "shapes"),
    _Group(
        "Chat",
        (
            "Csi.chat",
            "Csi.chat_concurrent",
            "Message",
            "Role",
            "ChatParams",
            "ResponseFormat",
            "JsonSchema",
            "ReasoningEffort",
            "ChatRequest",
            "ChatResponse",
            "FinishReason",
            "TokenUsage",
        ),
    ),
    _Group(
        "Chat, streamed",
        (
            "Csi.chat_stream",
            "Csi.chat_stream_step",
            "ChatStreamResponse",
            "csi.inference.ChatEvent",
            "csi.inference.MessageBegin",
            "csi.inference.MessageAppend",
            "Reasoning",
            "csi.inference.ToolCallEvent",
            "csi.inference.ToolCallChunk",
        ),
    ),
    _Group(
        "Tools",
        (
            "Csi.invoke_tool",
            "Csi.invoke_tool_concurrent",
            "Csi.list_tools",
            "Tool",
            "InvokeRequest",
            "ToolResult",
            "ToolOutput",
            "ToolError",
            "ToolCall",
            "ToolCallRequest",
            "ToolChoice",
            "NamedToolChoice",
        ),
    ),
    _Group(
        "Completion of prompts",
        (
            "Csi.complete",
            "Csi.complete_concurrent",
            "CompletionParams",
            "CompletionRequest",
            "Completion",
            "Csi.completion_stream",
            "CompletionStreamResponse",
            "csi.inference.CompletionEvent",
            "csi.inference.CompletionAppend",
        ),
    ),
    _Group(
        "Probabilities and explanations",
        (
            "Logprobs",
            "NoLogprobs",
            "SampledLogprobs",
            "TopLogprobs",
            "Distribution",
            "Logprob",
            "Csi.explain",
            "Csi.explain_concurrent",
            "ExplanationRequest",
            "Granularity",
            "TextScore",
        ),
    ),
    _Group(
        "Search",
        (
            "Csi.search",
            "Csi.search_concurrent",
            "IndexPath",
            "SearchRequest",
            "SearchResult",
            "Cursor",
            "SearchFilter",
            "With",
            "WithOneOf",
            "Without",
            "MetadataFilter",
            "FilterCondition",
            "EqualTo",
            "IsNull",
            "GreaterThan",
            "GreaterThanOrEqualTo",
            "LessThan",
            "LessThanOrEqualTo",
            "After",
            "AtOrAfter",
            "Before",
            "AtOrBefore",
        ),
    ),
    _Group(
        "Documents",
        (
            "Csi.document",
            "Csi.documents",
            "Csi.document_metadata",
            "Csi.documents_metadata",
            "DocumentPath",
            "Document",
            "Modality",
            "Text",
            "Image",
        ),
    ),
    _Group(
        "Chunks and languages",
        (
            "Csi.chunk",
            "Csi.chunk_concurrent",
            "ChunkParams",
            "ChunkRequest",
            "Chunk",
            "Csi.select_language",
            "Csi.select_language_concurrent",
            "SelectLanguageRequest",
            "Language",
        ),
    ),
    _Group(
        "Writing message streams",
        ("MessageWriter", "MessageItem", "MessageBegin", "MessageAppend", "MessageEnd"),
    ),
    _Group(
        "Outside of a kernel",
        (
            "testing.HttpCsi",
            "testing.DevCsi",
            "transport.HttpTransport",
            "transport.CsiError",
            "testing.StubCsi",
            "testing.MessageRecorder",
            "testing.RecordedMessage",
        ),
    ),
)


def page() -> str:
    """``sdk.md``. Raises ``UndocumentedError``."""
    sections = Sections([name for group in _GROUPS for name in group.names])
    sections.check("", "testing")
    return md.page(
        md.heading(1, "SDK for Python"),
        md.line(_INTRODUCTION),
        md.items(_contents(group, sections) for group in _GROUPS),
        *(_group(group, sections) for group in _GROUPS),
    )


def _contents(group: _Group, sections: Sections) -> str:
    names = ", ".join(sections.link(name) for name in group.names)
    return f"{md.link(group.title)}: {names}"


def _group(group: _Group, sections: Sections) -> str:
    introduction = library.docs(library.package()[group.module]) if group.module else ""
    return md.joined(
        md.heading(2, group.title),
        md.prose(introduction),
        *(sections.section(name) for name in group.names),
    )
