"""Streams a model's answer while it is generated.

It needs an inference provider; the caller names one of the provider's models.
"""

from dataclasses import dataclass
from typing import Annotated

from pharia_kernel_sdk import ChatParams, Csi, Field, Message, MessageWriter, message_stream


@dataclass
class Input:
    model: Annotated[str, Field(description="One of the inference provider's models.")]
    messages: list[Message]
    max_tokens: int | None = None


@dataclass
class End:
    finish_reason: str


@message_stream
def chat(csi: Csi, writer: MessageWriter[End], input: Input) -> None:
    """Answers a conversation."""
    params = ChatParams(max_tokens=input.max_tokens)
    with csi.chat_stream(input.model, input.messages, params) as response:
        writer.forward_response(response, lambda said: End(said.finish_reason().value))
