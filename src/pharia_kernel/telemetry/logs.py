"""Logging: readable lines on a terminal, JSON where nobody watches."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

import msgspec

from pharia_kernel.config.values import LogFilter
from pharia_kernel.telemetry import scope

TRACE = 5
_LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
_COLOURS = {logging.ERROR: "31", logging.WARNING: "33", logging.INFO: "32"}
_NOT_EXTRA = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}
"""What every record has, what formatters add to it, and uvicorn's message for terminals."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, further line ends, and what can't be encoded."""
_encode = msgspec.json.Encoder().encode


def configure(
    log_filter: LogFilter, format_: Literal["auto", "text", "json"], stream: TextIO | None = None
) -> None:
    """Send the records of all loggers to ``stream`` (default: standard error), as the filter says.

    ``auto`` is text on a terminal and JSON elsewhere.
    """
    stream = stream or sys.stderr
    terminal = stream.isatty()
    as_json = format_ == "json" or (format_ == "auto" and not terminal)
    # Nothing that is written needs them, and each record would look them up.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
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
    """What the record was given, and the ids of what the task that logs is working on."""
    extra = {
        key: value
        for key, value in vars(record).items()
        if key not in _NOT_EXTRA and not key.startswith("_")
    }
    here = scope.current()
    if here.run:
        extra.setdefault("run_id", here.run.id)
        extra.setdefault("namespace", here.run.namespace)
        extra.setdefault("skill", here.run.skill)
    if here.trace_id:
        extra.setdefault("trace_id", here.trace_id)
        if here.span_id:
            extra.setdefault("span_id", here.span_id)
    return extra


def _one_line(text: str) -> str:
    """Escaped, so that no message can look like a further record or play with the terminal."""
    return _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)


def _indented(text: str) -> str:
    """Lines that belong to the record above them."""
    return "".join(f"\n  {_one_line(line)}" for line in text.split("\n"))


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
        extra = "".join(f" {key}={_quoted(value)}" for key, value in _extra(record).items())
        message = _one_line(f"{record.name}: {record.getMessage()}{extra}")
        trace = _indented(self.formatException(record.exc_info)) if record.exc_info else ""
        return f"{_time(record)} {level} {message}{trace}"


def _quoted(value: object) -> str:
    text = str(value)
    return text if text and " " not in text else json.dumps(text, ensure_ascii=False)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII: whatever the stream's encoding, a parser can read it."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        for key, value in _extra(record).items():
            entry.setdefault(key, _jsonable(value))
        return _dumped(entry)


def _dumped(entry: dict[str, object]) -> str:
    """``json.dumps``, but for the usual entry, which is ASCII anyway, in an eighth of the time."""
    try:
        line = _encode(entry)
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(entry)
    return line.decode() if line.isascii() else json.dumps(entry)


def _jsonable(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else str(value)
