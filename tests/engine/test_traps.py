from __future__ import annotations

import pytest

from pharia_kernel.engine.traps import trap_error
from pharia_kernel.errors import (
    Fixer,
    KernelError,
    SkillBug,
    SkillCrashed,
    SkillOutOfMemory,
    SkillStackOverflow,
)

BACKTRACE = """error while executing at wasm backtrace:
    0:     0x1c4 - <unknown>!run

Caused by:
    wasm trap: {}"""


@pytest.mark.parametrize(
    ("text", "kind", "detail"),
    [
        (
            BACKTRACE.format("wasm `unreachable` instruction executed"),
            SkillCrashed,
            "`unreachable`",
        ),
        (
            BACKTRACE.format("integer divide by zero"),
            SkillCrashed,
            "crashed: integer divide by zero.",
        ),
        (BACKTRACE.format("out of bounds memory access"), SkillCrashed, "out of bounds memory"),
        (BACKTRACE.format("call stack exhausted"), SkillStackOverflow, "recursion"),
        ("execution on async fiber has overflowed its stack", SkillStackOverflow, "recursion"),
        (
            "memory minimum size of 9000 pages exceeds memory limits",
            SkillOutOfMemory,
            r"64 MiB \(`skill-memory-limit`\)",
        ),
        (
            "too much data is being copied between the host and the guest: fuel allocated for "
            "hostcalls has been exhausted",
            SkillCrashed,
            "more data across its boundary",
        ),
        ("Exited with i32 exit status 3", SkillCrashed, "exit status 3"),
        (
            "error while executing\n\nCaused by:\n    0: outer\n    1: inner.",
            SkillBug,
            "on: inner.$",
        ),
        ("something unheard of\nmore", SkillBug, "on: something unheard of.$"),
        ("", SkillBug, "no reason was given"),
        ("x" * 10_000, SkillBug, "^.{,400}$"),
    ],
)
def test_the_text_decides(text: str, kind: type[KernelError], detail: str) -> None:
    error = trap_error(text, 64 << 20)
    assert type(error) is kind
    with pytest.raises(kind, match=detail):
        raise error


def test_a_skill_that_crashes_is_its_author_s_to_fix() -> None:
    error = trap_error(BACKTRACE.format("unreachable"), 1)
    assert (error.fixer, error.retryable, error.status) == (Fixer.SKILL_AUTHOR, False, 500)
