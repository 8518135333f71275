"""A conversation, with a model that may call tools."""

from pharia_skill import ChatParams, Csi, Message, MessageWriter, message_stream
from pydantic import BaseModel


class Input(BaseModel):
    messages: list[Message]


@message_stream
def web_search(csi: Csi, writer: MessageWriter[None], input: Input) -> None:
    """Answers questions, and may search the web for it."""
    messages = [Message.system("You are a helpful research assistant."), *input.messages]
    params = ChatParams(max_tokens=16, temperature=0.0)
    with csi.chat_stream(
        "llama-3.3-70b-instruct", messages, params, tools=["search", "fetch"]
    ) as response:
        writer.forward_response(response)
