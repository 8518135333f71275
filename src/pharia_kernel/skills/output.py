"""What a guest prints becomes log lines under the skill's name."""

from __future__ import annotations

import codecs
import logging
from typing import Literal

from pharia_kernel.skills.failures import printable
from pharia_kernel.telemetry import names, scope

logger = logging.getLogger("pharia_kernel.skill")

MAX_LINES = 1000
MAX_LINE_LENGTH = 8192


class _Channel:
    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.rest = ""
        """The line that has not ended yet."""


class GuestLog:
    """Cuts the output of one run into lines, which are also events of the run's span.

    The engine bounds the bytes of a run; lines are bounded here, because each costs a log record.
    """

    def __init__(self, skill: str, run_id: str) -> None:
        self._skill = skill
        self._run_id = run_id
        self._lines = 0
        self._scope = scope.current()
        self._channels: dict[str, _Channel] = {}
        """Those that were written to: most guests print nothing."""

    def write(self, channel: Literal["stdout", "stderr"], data: bytes) -> None:
        if self._lines > MAX_LINES:
            return
        state = self._channels.setdefault(channel, _Channel())
        *lines, rest = (state.rest + state.decoder.decode(data)).split("\n")
        for line in lines:
            self._log(channel, line)
        while len(rest) > MAX_LINE_LENGTH:
            self._log(channel, rest[:MAX_LINE_LENGTH])
            rest = rest[MAX_LINE_LENGTH:]
        state.rest = rest

    def close(self) -> None:
        """Log what was printed without a line break at the end."""
        for channel, state in self._channels.items():
            self._log(channel, state.rest + state.decoder.decode(b"", final=True))
        self._channels.clear()

    def _log(self, channel: str, line: str) -> None:
        line = line.rstrip("\r")
        if not line or self._lines > MAX_LINES:
            return
        self._lines += 1
        if self._lines > MAX_LINES:
            line = f"(the skill printed more than {MAX_LINES} lines; the rest is dropped)"
        line = printable(line, MAX_LINE_LENGTH)
        # What a guest prints comes in with the engine's frames, not in a task of the run.
        token = scope.enter(self._scope)
        logger.info(
            "[%s] %s",
            self._skill,
            line,
            extra={"skill": self._skill, "run_id": self._run_id, "channel": channel},
        )
        scope.leave(token)
        if self._scope.span:
            self._scope.span.event(
                names.OUTPUT, {names.LOG_IOSTREAM: channel, names.LOG_ORIGINAL: line}
            )
