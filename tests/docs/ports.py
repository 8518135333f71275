"""Free ports in place of those that pages show, so that tests don't meet other kernels."""

from __future__ import annotations

import random
import re
import socket

_ADDRESS = re.compile(r"\b(127\.0\.0\.1|localhost):([1-9]\d{1,4})\b")
_CANDIDATES = range(20000, 32000)
"""Below the ports that systems choose themselves."""

KERNEL, METRICS = 8081, 9000
"""Where a kernel listens by default."""

_DEV = re.compile(r"\bpharia-kernel dev\b(?!.*--address)")


class Ports:
    """The ports of one page."""

    def __init__(self) -> None:
        self._taken: dict[int, int] = {}

    def assign(self, shown: int, port: int) -> None:
        """What listens there exists already."""
        self._taken[shown] = port

    def of(self, shown: int) -> int:
        if shown not in self._taken:
            self._taken[shown] = _free()
        return self._taken[shown]

    def in_text(self, text: str) -> str:
        """With all addresses of this machine changed."""
        return _ADDRESS.sub(lambda found: f"{found[1]}:{self.of(int(found[2]))}", text)

    def in_command(self, text: str) -> str:
        """The same for a command. Kernels and ``pharia-sdk`` get their default addresses from the
        environment; ``pharia-kernel dev`` has only an option."""
        return _DEV.sub(
            f"pharia-kernel dev --address 127.0.0.1:{self.of(KERNEL)}", self.in_text(text)
        )

    @property
    def environment(self) -> dict[str, str]:
        kernel = f"127.0.0.1:{self.of(KERNEL)}"
        return {
            "KERNEL_ADDRESS": kernel,
            "METRICS_ADDRESS": f"127.0.0.1:{self.of(METRICS)}",
            "PHARIA_KERNEL_ADDRESS": f"http://{kernel}",
        }


def _free() -> int:
    for port in random.sample(_CANDIDATES, 100):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise AssertionError("no free port")
