"""What a guest prints becomes log lines under the skill's name."""

from __future__ import annotations

import codecs
import logging
from typing import Literal

from pharia_kernel.skills.failures import printable

logger = logging.getLogger("pharia_kernel.skill")

MAX_LINES = 1000
MAX_LINE_LENGTH = 8192


class GuestLog:
    """Cuts the output of one run into lines.

    The engine bounds the bytes of a run; lines are bounded here, because each costs a log record.
    """

    def __init__(self, skill: str, run_id: str) -> None:
        self._skill = skill
        self._run_id = run_id
        self._lines = 0
        self._decoders = {
            "stdout": codecs.getincrementaldecoder("utf-8")("replace"),
            "stderr": codecs.getincrementaldecoder("utf-8")("replace"),
        }
        self._rest = {"stdout": "", "stderr": ""}

    def write(self, channel: Literal["stdout", "stderr"], data: bytes) -> None:
        if self._lines > MAX_LINES:
            return
        *lines, rest = (self._rest[channel] + self._decoders[channel].decode(data)).split("\n")
        for line in lines:
            self._log(channel, line)
        while len(rest) > MAX_LINE_LENGTH:
            self._log(channel, rest[:MAX_LINE_LENGTH])
            rest = rest[MAX_LINE_LENGTH:]
        self._rest[channel] = rest

    def close(self) -> None:
        """Log what was printed without a line break at the end."""
        for channel in self._rest:
            rest, self._rest[channel] = self._rest[channel], ""
            self._log(channel, rest + self._decoders[channel].decode(b"", final=True))

    def _log(self, channel: str, line: str) -> None:
        line = line.rstrip("\r")
        if not line or self._lines > MAX_LINES:
            return
        self._lines += 1
        if self._lines > MAX_LINES:
            line = f"(the skill printed more than {MAX_LINES} lines; the rest is dropped)"
        logger.info(
            "[%s] %s",
            self._skill,
            printable(line, MAX_LINE_LENGTH),
            extra={"skill": self._skill, "run_id": self._run_id, "channel": channel},
        )
