from pharia_skill import ChatParams, Csi, Message, MessageWriter, message_stream
from pydantic import BaseModel


class Input(BaseModel):
    model: str
    messages: list[Message]
    max_tokens: int | None = None


class Payload(BaseModel):
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@message_stream
def stream_chat(csi: Csi, writer: MessageWriter[Payload], input: Input) -> None:
    """Forwards the model's answer; ends with the finish reason and the usage."""
    params = ChatParams(max_tokens=input.max_tokens)
    with csi.chat_stream(input.model, input.messages, params) as response:
        writer.forward_response(
            response,
            lambda r: Payload(
                finish_reason=r.finish_reason().value,
                prompt_tokens=r.usage().prompt,
                completion_tokens=r.usage().completion,
            ),
        )
