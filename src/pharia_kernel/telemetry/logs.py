"""Logging: readable lines on a terminal, JSON where nobody watches."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

from pharia_kernel.config.values import LogFilter

TRACE = 5
_LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
_COLOURS = {logging.ERROR: "31", logging.WARNING: "33", logging.INFO: "32"}
_STANDARD = frozenset(vars(logging.makeLogRecord({})))


def configure(
    log_filter: LogFilter, format_: Literal["auto", "text", "json"], stream: TextIO | None = None
) -> None:
    """Send the records of all loggers to ``stream`` (default: standard error), as the filter says.

    ``auto`` is text on a terminal and JSON elsewhere.
    """
    stream = stream or sys.stderr
    terminal = stream.isatty()
    as_json = format_ == "json" or (format_ == "auto" and not terminal)
    logging.addLevelName(TRACE, "TRACE")
    logging.addLevelName(logging.WARNING, "WARN")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter(terminal))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[log_filter.default])
    for name, level in log_filter.loggers.items():
        logging.getLogger(name).setLevel(_LEVELS[level])


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {
        key: value
        for key, value in vars(record).items()
        if key not in _STANDARD and not key.startswith("_") and key not in ("message", "asctime")
    }


class TextFormatter(logging.Formatter):
    """``time LEVEL logger: message key=value``; colours only on a terminal."""

    def __init__(self, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname:5}"
        colour = _COLOURS.get(record.levelno) if self._colours else None
        if colour:
            level = f"\x1b[{colour}m{level}\x1b[0m"
        extra = "".join(f" {key}={value}" for key, value in _extra(record).items())
        line = f"{_time(record)} {level} {record.name}: {record.getMessage()}{extra}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)
