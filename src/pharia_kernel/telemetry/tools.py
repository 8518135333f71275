"""Tool calls, as the semantic conventions for generative AI and MCP want them told."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec

from pharia_kernel.csi.types import Argument, TextOutput
from pharia_kernel.telemetry import generation, metrics, names, tracing

_LONGEST = generation.MAX_CONTENT


class Execution:
    """Context in which a tool is executed: the span ``execute_tool NAME``.

    ``tool`` is none if the namespace has no such tool.
    """

    __slots__ = ("_namespace", "_tool", "span")

    def __init__(
        self, namespace: str, tool: str | None, arguments: Sequence[Argument], *, mcp: bool
    ) -> None:
        self._namespace = namespace
        self._tool = tool
        kind: tracing.Kind = "client" if mcp else "internal"
        self.span = span = (
            tracing.span(f"{names.EXECUTE_TOOL} {tool}", kind) if tool else tracing.NOTHING
        )
        if span:
            span.set(names.OPERATION, names.EXECUTE_TOOL)
            span.set(names.GEN_AI_TOOL_NAME, tool)
            span.set(names.GEN_AI_TOOL_TYPE, "extension" if mcp else "function")
            span.set(names.MCP_METHOD, "tools/call" if mcp else None)
            if generation.captures_content():
                span.set(names.TOOL_ARGUMENTS, _object(arguments))

    def returned(self, output: list[TextOutput]) -> list[TextOutput]:
        """The same output, noted."""
        if self.span and generation.captures_content():
            texts = [{"type": "text", "content": part.text[:_LONGEST]} for part in output]
            self.span.set(names.TOOL_RESULT, msgspec.json.encode(texts).decode())
        return output

    def __enter__(self) -> Self:
        self.span.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        metrics.tool_called(self._namespace, self._tool, ok=error is None)
        self.span.__exit__(kind, error, traceback)


def _object(arguments: Sequence[Argument]) -> str:
    values = {argument.name: argument.value for argument in arguments}
    return msgspec.json.encode(values).decode(errors="replace")[:_LONGEST]
