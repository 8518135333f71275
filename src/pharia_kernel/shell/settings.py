"""What the shell needs to know of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class ShellSettings(Protocol):
    @property
    def max_body_size(self) -> int:
        """Bytes of the largest request body, after decompression."""
        ...

    @property
    def run_timeout(self) -> float:
        """Seconds that a system call over HTTP may take, like a run of a skill."""
        ...

    @property
    def cors_allow_origins(self) -> Sequence[str]:
        """Origins whose pages may call the kernel; ``*`` is any, none turns CORS off."""
        ...
