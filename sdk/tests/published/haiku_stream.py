"""A chat that is forwarded as it comes."""

from pharia_skill import (
    ChatParams,
    Csi,
    FinishReason,
    Message,
    MessageWriter,
    message_stream,
)
from pydantic import BaseModel


class Input(BaseModel):
    topic: str
    model: str = "llama-3.1-8b-instruct"


class End(BaseModel):
    finish_reason: FinishReason


@message_stream
def haiku_stream(csi: Csi, writer: MessageWriter[End], input: Input) -> None:
    """Writes a haiku, word by word."""
    messages = [Message.system("Answer with a haiku."), Message.user(input.topic)]
    params = ChatParams(max_tokens=16, temperature=0.0)
    with csi.chat_stream(input.model, messages, params) as response:
        writer.forward_response(response, lambda r: End(finish_reason=r.finish_reason()))
