"""Tells from wasmtime's error text what went wrong in a guest."""

from __future__ import annotations

import re

from pharia_kernel.errors import (
    InvalidOutput,
    KernelError,
    SkillBug,
    SkillCrashed,
    SkillOutOfMemory,
    SkillStackOverflow,
)

_EXIT = re.compile(r"Exited with i32 exit status (-?\d+)")
_TRAP = re.compile(r"wasm trap: (.+)")
_NOT_UTF8 = re.compile(r"in(?:valid|complete) utf-8 .*")
"""At the beginning of the text: the guest has returned. Where a guest is executing, because it
passes something to a host function, the text begins with that."""


def trap_error(text: str, memory_limit: int, setting: str = "skill-memory-limit") -> KernelError:
    """The error for a run that ended with wasmtime's ``text`` (message, backtrace, causes).

    ``memory_limit`` is in bytes and comes from ``setting``.
    """
    if "call stack exhausted" in text or "overflowed its stack" in text:
        return SkillStackOverflow("The skill used up its stack; its recursion is too deep.")
    if "exceeds memory limits" in text or "memory minimum size" in text:
        return SkillOutOfMemory(
            f"The skill needs more than its memory limit of {memory_limit >> 20} MiB (`{setting}`)."
        )
    if "fuel allocated for hostcalls" in text:
        return SkillCrashed(
            "The skill passed more data across its boundary in one call than the runtime copies "
            "(128 MiB of text, such as its output, or 2,796,201 bytes of a byte list)."
        )
    if flaw := _NOT_UTF8.match(text):
        return InvalidOutput(f"The skill's output, or its error message, is not UTF-8: {flaw[0]}.")
    if exit_ := _EXIT.search(text):
        return SkillCrashed(f"The skill ended its process with exit status {exit_[1]}.")
    if trap := _TRAP.search(text):
        return SkillCrashed(f"The skill crashed: {trap[1]}.")
    return SkillBug(f"The skill could not go on: {_cause(text)}.")


def _cause(text: str) -> str:
    """The innermost cause, or the message itself."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "no reason was given"
    last = lines[-1] if "Caused by:" in text else lines[0]
    return re.sub(r"^\d+: ", "", last)[:300].rstrip(".")
