"""What the tests of the lines have in common."""

from __future__ import annotations

from typing import Any

from pharia_kernel.csi import types
from pharia_kernel.csi.guest import GuestCalls
from pharia_kernel.csi.types import FinishReason, Usage
from tests.csi.memory import CONTEXT, MemoryCsi, ask, read

Reasons = [("stop", FinishReason.STOP), ("length", FinishReason.LENGTH)]
Reasons += [("content-filter", FinishReason.CONTENT_FILTER)]

LOGPROBS = [
    types.Distribution(types.Logprob(b"\xff", -0.5), [types.Logprob(b"a", -1.0)]),
]
LOGPROBS_IN_WIT = [
    {
        "sampled": {"token": b"\xff", "logprob": -0.5},
        "top": [{"token": b"a", "logprob": -1.0}],
    }
]
USAGE = Usage(3, 4)
USAGE_IN_WIT = {"prompt": 3, "completion": 4}


def completion(reason: FinishReason = FinishReason.STOP) -> types.Completion:
    return types.Completion("text", reason, LOGPROBS, USAGE)


def chat_response(
    reason: FinishReason = FinishReason.STOP, content: str | None = "Hi", **message: Any
) -> types.ChatResponse:
    answer = types.Message(role="assistant", content=content, **message)
    return types.ChatResponse(answer, reason, LOGPROBS, USAGE)


async def asked(function: str, *arguments: Any, answer: Any) -> tuple[Any, Any, MemoryCsi]:
    """Result, the one request that the CSI got, and the CSI."""
    csi = MemoryCsi(lambda *_: answer)
    result = await ask(GuestCalls(csi, CONTEXT), function, *arguments)
    ((_, request),) = csi.asked
    return result, request, csi


async def streamed(
    interface: str, stream: str, init: Any, events: list[Any]
) -> tuple[list[Any], Any, MemoryCsi]:
    """Events that the guest reads, the request, and the CSI."""
    csi = MemoryCsi(lambda *_: events)
    guest = GuestCalls(csi, CONTEXT)
    await ask(guest, f"{interface}#[constructor]{stream}", 1, init)
    try:
        got = await read(guest, f"{interface}#[method]{stream}", 1)
    finally:
        await guest.close()
    ((_, request),) = csi.asked
    return got, request, csi
