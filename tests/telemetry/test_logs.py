from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharia_kernel.config.values import LogFilter, parse_log_level
from pharia_kernel.telemetry import logs, runs, tracing
from tests.telemetry.support import SAMPLED, TRACE, exporting

Format = Literal["auto", "text", "json"]
log = logging.getLogger("pharia_kernel.test_logs")

NASTY = "a\nb\r\nc\x1b[31md\x00\x85\u2028\u2029\x9b\t\ud800 ä€😀"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Leaves the loggers of the process as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {
        name: logger.level
        for name, logger in root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, logger in root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger):
            logger.setLevel(levels.get(name, logging.NOTSET))
    logging.addLevelName(logging.WARNING, "WARNING")


def configured(
    format_: Format = "text", log_filter: str = "info", stream: io.StringIO | None = None
) -> io.StringIO:
    stream = stream or io.StringIO()
    logs.configure(parse_log_level(log_filter), format_, stream)
    return stream


def lines(stream: io.StringIO) -> list[str]:
    """Only at line feeds: what else may end a line must not be in there."""
    text = stream.getvalue()
    assert text.splitlines() == text.split("\n")[:-1]
    return text.split("\n")[:-1]


def entry(stream: io.StringIO) -> dict[str, Any]:
    (line,) = lines(stream)
    parsed = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert isinstance(parsed, dict)
    return parsed


def formatted(formatter: logging.Formatter, message: str, **extra: Any) -> str:
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": message, **extra})
    return formatter.format(record)


# --- which format ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format_", "terminal", "as_json", "coloured"),
    [
        ("auto", True, False, True),
        ("auto", False, True, False),
        ("text", True, False, True),
        ("text", False, False, False),
        ("json", True, True, False),
        ("json", False, True, False),
    ],
)
def test_format(format_: Format, terminal: bool, as_json: bool, coloured: bool) -> None:
    stream = configured(format_, stream=Terminal() if terminal else io.StringIO())
    log.error("hello")
    assert stream.getvalue().startswith("{") is as_json
    assert ("\x1b[31mERROR\x1b[0m" in stream.getvalue()) is coloured


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(parse_log_level("info"), "text")
    log.info("hello")
    assert capsys.readouterr().err.endswith(" hello\n")


def test_configuring_again_replaces_the_handler() -> None:
    first, second = configured(), configured()
    log.info("hello")
    assert [len(lines(first)), len(lines(second))] == [0, 1]


# --- which records --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("error", ["ERROR"]),
        ("warn", ["ERROR", "WARN"]),
        ("info", ["ERROR", "WARN", "INFO"]),
        ("debug", ["ERROR", "WARN", "INFO", "DEBUG"]),
        ("trace", ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"]),
    ],
)
def test_level(level: str, logged: list[str]) -> None:
    stream = configured(log_filter=level)
    for number in (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG, logs.TRACE):
        log.log(number, "x")
    assert [line.split()[1] for line in lines(stream)] == logged


def test_level_of_one_logger_and_those_beneath_it() -> None:
    stream = io.StringIO()
    logs.configure(LogFilter("error", {"quiet": "info", "quiet.loud": "trace"}), "text", stream)
    for name in ("other", "quiet", "quiet.child", "quiet.loud", "quiet.loud.child"):
        logging.getLogger(name).debug("x")
        logging.getLogger(name).info("x")
    seen = [(line.split()[2], line.split()[1]) for line in lines(stream)]
    assert seen == [
        ("quiet:", "INFO"),
        ("quiet.child:", "INFO"),
        ("quiet.loud:", "DEBUG"),
        ("quiet.loud:", "INFO"),
        ("quiet.loud.child:", "DEBUG"),
        ("quiet.loud.child:", "INFO"),
    ]


# --- text -----------------------------------------------------------------------------------------


def test_text_line() -> None:
    stream = configured()
    log.warning("%s of %d", "one", 2, extra={"skill": "a/b", "count": 3})
    (line,) = lines(stream)
    time, rest = line.split(" ", 1)
    assert rest == "WARN  pharia_kernel.test_logs: one of 2 skill=a/b count=3"
    assert abs(datetime.now(UTC) - datetime.fromisoformat(time)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("value", "shown"),
    [("two words", '"two words"'), ("", '""'), ('a "b"', '"a \\"b\\""'), (None, "None")],
)
def test_values_of_fields_can_be_told_apart(value: Any, shown: str) -> None:
    assert formatted(logs.TextFormatter(False), "m", field=value).endswith(f" x: m field={shown}")


def test_text_stays_on_one_line() -> None:
    stream = configured()
    log.info("%s", NASTY, extra={"field": NASTY})
    (line,) = lines(stream)
    assert "a\\nb\\r\\nc\\x1b[31md\\x00\\x85\\u2028\\u2029\\x9b\\t\\ud800 ä€😀" in line


@given(message=st.text(), value=st.text())
def test_any_text_is_one_printable_line(message: str, value: str) -> None:
    line = formatted(logs.TextFormatter(False), message, field=value)
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    line.encode()


def test_exception_in_text_is_indented() -> None:
    stream = configured()
    try:
        raise LookupError("gone\n2026-01-01T00:00:00.000+00:00 INFO  forged: all is well\x1b[2J")
    except LookupError:
        log.exception("failed")
    head, *trace = lines(stream)
    assert head.endswith(" failed")
    assert trace[0] == "  Traceback (most recent call last):"
    assert trace[-2] == "  LookupError: gone"
    assert trace[-1].startswith("  2026-01-01")
    assert trace[-1].endswith("\\x1b[2J")


# --- JSON -----------------------------------------------------------------------------------------


def test_json_line() -> None:
    stream = configured("json")
    log.warning(
        "%s of %d", "one", 2, extra={"skill": "a/b", "count": 3, "ratio": 0.5, "none": None}
    )
    parsed = entry(stream)
    time = datetime.fromisoformat(parsed.pop("time"))
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=1)
    assert parsed == {
        "level": "warn",
        "logger": "pharia_kernel.test_logs",
        "message": "one of 2",
        "skill": "a/b",
        "count": 3,
        "ratio": 0.5,
        "none": None,
    }


def test_json_holds_every_text() -> None:
    stream = configured("json")
    log.info("%s", NASTY, extra={"field": NASTY})
    assert stream.getvalue().isascii()
    parsed = entry(stream)
    assert [parsed["message"], parsed["field"]] == [NASTY, NASTY]


@given(message=st.text(), value=st.text() | st.floats() | st.integers() | st.booleans())
def test_any_record_is_one_line_of_strict_json(message: str, value: object) -> None:
    line = formatted(logs.JsonFormatter(), message, field=value)
    assert len(line.splitlines()) == 1
    parsed = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert parsed["message"] == message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Path("a"), "a"),
        (math.nan, "nan"),
        ({1: math.inf, "a": (1, Path("b"))}, {"1": "inf", "a": [1, "b"]}),
        ([b"x"], ["b'x'"]),
        (True, True),
    ],
)
def test_values_that_json_does_not_know_become_text(value: Any, expected: Any) -> None:
    assert json.loads(formatted(logs.JsonFormatter(), "m", field=value))["field"] == expected


def test_fields_can_not_pose_as_the_records_own() -> None:
    parsed = json.loads(formatted(logs.JsonFormatter(), "m", time="never", level="x", logger="y"))
    assert [parsed["time"][:2], parsed["level"], parsed["logger"]] == ["20", "info", "x"]


@pytest.mark.parametrize("formatter", [logs.TextFormatter(False), logs.JsonFormatter()])
def test_private_attributes_and_messages_for_terminals_are_left_out(
    formatter: logging.Formatter,
) -> None:
    line = formatted(formatter, "m", _private=1, color_message="\x1b[31mm", asctime="now")
    assert not any(name in line for name in ("_private", "color_message", "asctime"))


def test_exception_in_json() -> None:
    stream = configured("json")
    try:
        raise LookupError("gone\nfor good")
    except LookupError:
        log.exception("failed")
    parsed = entry(stream)
    assert parsed["message"] == "failed"
    assert parsed["exception"].startswith("Traceback (most recent call last):\n")
    assert parsed["exception"].endswith("LookupError: gone\nfor good")


# --- ids of the run and the trace -----------------------------------------------------------------


def test_lines_carry_the_ids_of_the_run_and_the_trace() -> None:
    stream = configured("json")
    with tracing.Request("GET /", SAMPLED), runs.Tracked("dev", "greet", "r1", counted=False):
        log.info("inside")
    log.info("outside")
    inside, outside = (json.loads(line) for line in lines(stream))
    ids = ("run_id", "namespace", "skill", "trace_id")
    assert [inside.get(key) for key in ids] == ["r1", "dev", "dev/greet", TRACE]
    assert [outside.get(key) for key in ids] == [None] * 4


def test_lines_carry_the_span_if_there_is_one() -> None:
    stream = configured("text")
    with exporting(), tracing.Request("GET /", SAMPLED), tracing.span("inner") as span:
        log.info("inside")
    assert isinstance(span, tracing.Recorded)
    assert f"trace_id={TRACE} span_id={span.scope.span_id}" in lines(stream)[0]


def test_what_a_line_says_itself_counts() -> None:
    stream = configured("json")
    with runs.Tracked("dev", "greet", "r1", counted=False):
        log.info("inside", extra={"skill": "other"})
    (line,) = (json.loads(line) for line in lines(stream))
    assert (line["skill"], line["run_id"]) == ("other", "r1")
