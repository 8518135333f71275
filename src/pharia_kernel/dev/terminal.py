"""What the author sees: short lines of what happens, and all that skills print."""

from __future__ import annotations

import logging
import re
import sys
from typing import TextIO

from pharia_kernel.config.values import LogFilter
from pharia_kernel.telemetry import logs

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_RED, _YELLOW, _GREEN, _DIM = "31", "33", "32", "2"
_SHOWN_AT_INFO = ("pharia_kernel.skill", "pharia_kernel.skills.runs")


class Terminal:
    """Lines for the author, who may be debugging: then they wait."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._colours = self._stream.isatty()
        self._held = False
        self._waiting: list[str] = []

    def say(self, text: str, colour: str | None = None) -> None:
        if colour and self._colours:
            text = f"\x1b[{colour}m{text}\x1b[0m"
        self._waiting.append(text)
        if not self._held:
            self._flush()

    def good(self, text: str) -> None:
        self.say(text, _GREEN)

    def warn(self, text: str) -> None:
        self.say(text, _YELLOW)

    def bad(self, text: str) -> None:
        self.say(text, _RED)

    def hold(self, held: bool) -> None:
        """Whether somebody else needs the terminal."""
        self._held = held
        if not held:
            self._flush()

    def _flush(self) -> None:
        lines, self._waiting = self._waiting, []
        for line in lines:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def show_logs(self, log_filter: LogFilter) -> None:
        """Send the records of all loggers here: those of skills, runs, and warnings; more if the
        filter was set to more."""
        logs.configure(log_filter, "text", self._stream)
        root = logging.getLogger()
        root.handlers[:] = [_Handler(self)]
        if log_filter.default == "info":  # which is the default
            root.setLevel(logging.WARNING)
            for name in _SHOWN_AT_INFO:
                logging.getLogger(name).setLevel(logging.INFO)


class _Handler(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "pharia_kernel.deployments":
            return  # the session tells it in fewer words
        try:
            text, colour = _shown(record)
        except Exception:
            self.handleError(record)
            return
        self._terminal.say(_UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text), colour)


def _shown(record: logging.LogRecord) -> tuple[str, str | None]:
    message = record.getMessage()
    if record.name == "pharia_kernel.skill":
        skill = str(getattr(record, "skill", ""))
        run = str(getattr(record, "run_id", ""))[:8] or "import"
        text = message.removeprefix(f"[{skill}] ")
        return f"{skill.rpartition('/')[2]} {run} | {text}", None
    if record.name in _SHOWN_AT_INFO and record.levelno < logging.ERROR:
        return message, _DIM
    if record.exc_info:
        message += "\n" + logging.Formatter().formatException(record.exc_info)
    colour = _RED if record.levelno >= logging.ERROR else _YELLOW
    return f"{record.levelname.lower()}: {message}", colour
