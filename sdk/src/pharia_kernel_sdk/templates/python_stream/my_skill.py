"""Summarizes a text while you watch."""

from dataclasses import dataclass
from typing import Annotated

from pharia_kernel_sdk import ChatParams, Csi, Field, Message, MessageWriter, message_stream


@dataclass
class Input:
    text: Annotated[str, Field(min_length=1, description="What to summarize.")]
    model: str = "llama-3.1-8b-instruct"


@dataclass
class End:
    """What comes with the end of the message."""

    finish_reason: str
    tokens: int


@message_stream
def my_skill(csi: Csi, writer: MessageWriter[End], input: Input) -> None:
    """Summarizes a text in a few sentences."""
    messages = [Message.user(f"Summarize in at most three sentences:\n\n{input.text}")]
    with csi.chat_stream(input.model, messages, ChatParams(max_tokens=200)) as response:
        writer.forward_response(
            response, lambda said: End(said.finish_reason().value, said.usage().completion)
        )
