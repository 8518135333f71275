"""Skills that the kernel itself brings: written in Python, over the same system calls that guests
have.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol, runtime_checkable

from pharia_kernel.csi.api import Csi, ToolEvent
from pharia_kernel.csi.types import CallContext
from pharia_kernel.skills.types import SkillMetadata, StreamEvent


class HostedRun:
    """What a hosted skill gets for one run."""

    def __init__(
        self,
        body: bytes,
        csi: Csi,
        context: CallContext,
        on_tool_event: Callable[[ToolEvent], None],
    ) -> None:
        self.body = body
        """UTF-8 JSON."""
        self.csi = csi
        self.context = context
        self.on_tool_event = on_tool_event


@runtime_checkable
class HostedSkill(Protocol):
    """A message-stream skill. Two that compare equal behave alike."""

    def metadata(self) -> SkillMetadata: ...

    def refuse_run(self) -> None:
        """Raise why the skill does not answer ``/run``, if there is more to say than that it is a
        stream.
        """
        ...

    def stream(self, run: HostedRun) -> AsyncGenerator[StreamEvent, None]:
        """Raises ``KernelError``; events are in the order that messages must have."""
        ...
