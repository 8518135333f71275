"""Which tools each namespace has."""

from __future__ import annotations

from collections.abc import Iterable

from pharia_kernel.csi.types import Argument, TextOutput, Tool
from pharia_kernel.drivers.tools.native import NATIVE_TOOLS
from pharia_kernel.errors import ToolFailed


class Toolbox:
    def __init__(self) -> None:
        self._native: dict[str, list[str]] = {}

    def set_native(self, namespace: str, names: Iterable[str]) -> None:
        """Make the namespace known, with these native tools; raises ``KeyError`` for a name that is
        none."""
        self._native[namespace] = [NATIVE_TOOLS[name].description.name for name in names]

    def remove(self, namespace: str) -> None:
        self._native.pop(namespace, None)

    def tools(self, namespace: str) -> list[Tool] | None:
        """Sorted by name; none if the namespace is unknown."""
        names = self._native.get(namespace)
        if names is None:
            return None
        return [NATIVE_TOOLS[name].description for name in sorted(names)]

    async def invoke(
        self, namespace: str, name: str, arguments: list[Argument]
    ) -> list[TextOutput]:
        """The tool's output; raises ``ToolFailed`` if it fails or is not there."""
        if name not in self._native.get(namespace, []):
            raise ToolFailed(f"Tool {name} not found on any server.")
        return NATIVE_TOOLS[name].call(arguments)
