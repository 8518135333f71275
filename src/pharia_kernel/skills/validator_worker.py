"""The process that checks inputs against schemas.

Both come from outside, and a few hundred bytes of JSON Schema can ask for an exponential amount of
work, so it is done where it can be stopped: a process that takes longer than its time limit ends
itself. Requests are ``[schema, instance]`` and answers lists of violations, both msgpack behind a
4-byte little-endian length.
"""

from __future__ import annotations

import resource
import signal
import struct
import sys
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, BinaryIO

import jsonschema_rs
import msgspec

from pharia_kernel.skills.nesting import is_too_deep

LENGTH = struct.Struct("<I")
MEMORY_LIMIT = 4 << 30
MAX_ERRORS = 20
MAX_MESSAGE = 300
_BACKTRACKING = 100_000


@lru_cache(maxsize=128)
def _validator(schema: bytes) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(
        msgspec.json.decode(schema),
        # References that lead elsewhere are never followed; what they demand is unknown, so they
        # accept all.
        retriever=lambda _: True,
        pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKING),
    )


def pointer(path: Sequence[str | int]) -> str:
    """JSON Pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def violations(schema: bytes, instance: bytes) -> list[dict[str, str]] | None:
    """At most ``MAX_ERRORS`` of ``path`` and ``message``; none if the schema can't be used.

    An instance that can't be looked at, because of its depth or its numbers, has no violations: it
    must not be the schema's fault, which would then not be used for others either.
    """
    try:
        validator = _validator(schema)
    except (ValueError, RecursionError, MemoryError, jsonschema_rs.ReferencingError):
        return None
    try:
        value = msgspec.json.decode(instance)
        if is_too_deep(value):
            return []
        errors = validator.iter_errors(value)
        return [
            {"path": pointer(error.instance_path), "message": _short(error)}
            for error in islice(errors, MAX_ERRORS)
        ]
    except (ValueError, RecursionError, MemoryError):
        return []
    except jsonschema_rs.ReferencingError:
        return None


def _short(error: jsonschema_rs.ValidationError) -> str:
    message = error.message
    return message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…"


def _receive(stream: BinaryIO) -> Any:
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    return msgspec.msgpack.decode(stream.read(*LENGTH.unpack(head)))


def serve(requests: BinaryIO, answers: BinaryIO, time_limit: float) -> None:
    while (request := _receive(requests)) is not None:
        # Nobody handles SIGALRM: it ends the process, even in the middle of native code.
        signal.setitimer(signal.ITIMER_REAL, time_limit)
        body = msgspec.msgpack.encode(violations(*request))
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(LENGTH.pack(len(body)) + body)
        answers.flush()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    serve(sys.stdin.buffer, sys.stdout.buffer, float(sys.argv[1]))
