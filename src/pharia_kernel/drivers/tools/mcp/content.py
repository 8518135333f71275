"""What MCP transports and the CSI does not: arguments of all kinds in, text out."""

from __future__ import annotations

from collections.abc import Iterable

import mcp_types
import msgspec

from pharia_kernel.csi.types import Argument, TextOutput
from pharia_kernel.drivers.tools.mcp.session import CallResult
from pharia_kernel.errors import ToolFailed

MAX_DEPTH = 100
"""Of arguments. The SDK gives up somewhere between 100 and 200 levels, here or at the server."""


def decode_arguments(arguments: Iterable[Argument]) -> dict[str, object]:
    """Raises ``ToolFailed`` that names the argument that is not JSON, or too deep for the SDK."""
    return {argument.name: _decode(argument) for argument in arguments}


def _decode(argument: Argument) -> object:
    try:
        value: object = msgspec.json.decode(argument.value)
    except RecursionError:
        raise _too_deep(argument) from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ToolFailed(f"Argument {argument.name} is not valid JSON.") from None
    if _depth_exceeds(value, MAX_DEPTH):
        raise _too_deep(argument)
    return value


def _depth_exceeds(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        containers = (v for v in level if isinstance(v, dict | list))
        level = [child for c in containers for child in (c.values() if isinstance(c, dict) else c)]
    return any(isinstance(value, dict | list) for value in level)


def _too_deep(argument: Argument) -> ToolFailed:
    return ToolFailed(f"Argument {argument.name} is nested more than {MAX_DEPTH} levels deep.")


def text_of(tool: str, result: CallResult) -> list[TextOutput]:
    """Texts as they are, structured content as JSON if there is no text, and of everything else a
    description. Raises ``ToolFailed`` if the tool says that it failed."""
    if isinstance(result, mcp_types.InputRequiredResult):
        raise ToolFailed(f"Tool {tool} asks for input from a person, which nobody here can give.")
    parts = [_part(block) for block in result.content]
    has_text = any(isinstance(block, mcp_types.TextContent) for block in result.content)
    if result.structured_content is not None and not has_text:
        parts.insert(0, msgspec.json.encode(result.structured_content).decode())
    if result.is_error:
        raise ToolFailed("\n\n".join(parts) or f"Tool {tool} failed and did not say why.")
    return [TextOutput(part) for part in parts]


def _part(block: mcp_types.ContentBlock) -> str:
    match block:
        case mcp_types.TextContent():
            return block.text
        case mcp_types.ImageContent():
            return _description("image", block.mime_type, _size(block.data))
        case mcp_types.AudioContent():
            return _description("audio", block.mime_type, _size(block.data))
        case mcp_types.ResourceLink():
            return _description("resource link", block.mime_type, block.size, block.uri, block.name)
        case mcp_types.EmbeddedResource():
            return _resource(block.resource)


def _resource(
    resource: mcp_types.TextResourceContents | mcp_types.BlobResourceContents,
) -> str:
    if isinstance(resource, mcp_types.BlobResourceContents):
        return _description("resource", resource.mime_type, _size(resource.blob), resource.uri)
    size = len(resource.text.encode())
    description = _description("resource", resource.mime_type, size, resource.uri)
    return f"{description}\n{resource.text}"


def _description(kind: str, mime_type: str | None, size: int | None, *more: str) -> str:
    """Such as ``[image: image/png, 68 bytes]``."""
    known = [mime_type, None if size is None else f"{size} bytes", *more]
    return f"[{kind}: {', '.join(part for part in known if part)}]"


def _size(base64: str) -> int:
    """Of the bytes behind Base64."""
    return len(base64.rstrip("=")) * 3 // 4
