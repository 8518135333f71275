"""Messages over a pipe, seen from a worker process: msgpack behind a 4-byte length.

Questions are msgspec structs; one that carries a text ends with the number of its bytes, which
follow as they are.
"""

from __future__ import annotations

import resource
import struct
import sys
from collections.abc import Callable, Iterable
from typing import BinaryIO, TypeVar

import msgspec

Q = TypeVar("Q")

LENGTH = struct.Struct("<I")


def serve(
    questions: msgspec.msgpack.Decoder[Q], answer: Callable[[Q, BinaryIO], Iterable[object]]
) -> None:
    """Answer questions from standard input until it ends.

    The process's argument is the number of bytes of memory that it may have.
    """
    memory_limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    input_, output = sys.stdin.buffer, sys.stdout.buffer
    while len(head := input_.read(LENGTH.size)) == LENGTH.size:
        question = questions.decode(input_.read(*LENGTH.unpack(head)))
        for message in answer(question, input_):
            body = msgspec.msgpack.encode(message)
            output.write(LENGTH.pack(len(body)) + body)
        output.flush()
