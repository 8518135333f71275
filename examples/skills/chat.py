"""Streams a model's answer while it is generated.

It needs an inference provider; the caller names one of the provider's models.
"""

from pharia_skill import ChatParams, Csi, Message, MessageWriter, message_stream
from pydantic import BaseModel, Field


class Input(BaseModel):
    model: str = Field(description="One of the inference provider's models.")
    messages: list[Message]
    max_tokens: int | None = None


class End(BaseModel):
    finish_reason: str


@message_stream
def chat(csi: Csi, writer: MessageWriter[End], input: Input) -> None:
    """Answers a conversation."""
    params = ChatParams(max_tokens=input.max_tokens)
    with csi.chat_stream(input.model, input.messages, params) as response:
        writer.forward_response(response, lambda r: End(finish_reason=r.finish_reason().value))
