import logging

import pytest

from pharia_kernel.skills import output
from pharia_kernel.skills.output import GuestLog


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> GuestLog:
    caplog.set_level(logging.INFO, "pharia_kernel.skill")
    return GuestLog("dev/greet", "run1")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_lines_and_characters_may_be_split(log: GuestLog, caplog: pytest.LogCaptureFixture) -> None:
    data = "first\nzweite Zeile: ä€\r\n\nlast".encode()
    for byte in data:
        log.write("stdout", bytes([byte]))
    assert lines(caplog) == ["[dev/greet] first", "[dev/greet] zweite Zeile: ä€"]
    log.close()
    log.close()
    assert lines(caplog)[2:] == ["[dev/greet] last"]


def test_channels_do_not_mix(log: GuestLog, caplog: pytest.LogCaptureFixture) -> None:
    log.write("stdout", b"out")
    log.write("stderr", b"err\n")
    log.write("stdout", b"put\n")
    assert lines(caplog) == ["[dev/greet] err", "[dev/greet] output"]
    assert [record.channel for record in caplog.records] == ["stderr", "stdout"]  # type: ignore[attr-defined]
    assert {record.skill for record in caplog.records} == {"dev/greet"}  # type: ignore[attr-defined]
    assert {record.run_id for record in caplog.records} == {"run1"}  # type: ignore[attr-defined]


def test_lines_cannot_be_forged(log: GuestLog, caplog: pytest.LogCaptureFixture) -> None:
    log.write("stdout", b"a\rINFO forged\x1b[2J\x00\xff\n")
    assert lines(caplog) == ["[dev/greet] a\\rINFO forged\\x1b[2J\\x00\N{REPLACEMENT CHARACTER}"]


def test_long_lines_are_cut(log: GuestLog, caplog: pytest.LogCaptureFixture) -> None:
    log.write("stdout", b"x" * (2 * output.MAX_LINE_LENGTH + 1))
    log.close()
    assert [len(line) - len("[dev/greet] ") for line in lines(caplog)] == [
        output.MAX_LINE_LENGTH,
        output.MAX_LINE_LENGTH,
        1,
    ]


def test_lines_are_bounded(
    log: GuestLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_LINES", 3)
    log.write("stdout", b"x\n" * 10)
    log.write("stderr", b"x\n" * 10)
    log.close()
    assert lines(caplog)[:3] == ["[dev/greet] x"] * 3
    assert lines(caplog)[3:] == [
        "[dev/greet] (the skill printed more than 3 lines; the rest is dropped)"
    ]
