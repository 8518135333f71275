"""A kernel for skills in this process that tells of their tool calls, as kernels tell of those that
message streams make."""

from __future__ import annotations

from collections.abc import Sequence

from pharia_kernel_sdk.csi.tools import InvokeRequest, ToolError, ToolResult
from pharia_kernel_sdk.http_csi import HttpCsi
from pharia_kernel_sdk.running.skill import Listener, ToolNotice
from pharia_kernel_sdk.transport import Transport


class TellingCsi(HttpCsi):
    """Asks a running kernel, and tells the listener of tools."""

    def __init__(self, namespace: str, transport: Transport, listener: Listener) -> None:
        super().__init__(namespace, transport)
        self._listener = listener

    def invoke_tool_concurrent(self, requests: Sequence[InvokeRequest]) -> list[ToolResult]:
        for request in requests:
            self._listener(ToolNotice(request.name, "begin"))
        results = super().invoke_tool_concurrent(requests)
        for request, result in zip(requests, results, strict=True):
            self._listener(_ended(request.name, result))
        return results


def _ended(name: str, result: ToolResult) -> ToolNotice:
    if isinstance(result, ToolError):
        return ToolNotice(name, "error", result.message)
    return ToolNotice(name, "end")
