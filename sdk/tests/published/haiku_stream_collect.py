"""A chat whose events are written one by one."""

from pharia_skill import ChatParams, Csi, Message, MessageWriter, message_stream
from pydantic import BaseModel


class Input(BaseModel):
    topic: str


class End(BaseModel):
    content: str


@message_stream
def haiku_stream_collect(csi: Csi, writer: MessageWriter[End], input: Input) -> None:
    """Writes a haiku word by word, and the whole at the end."""
    messages = [Message.system("Answer with a haiku."), Message.user(input.topic)]
    params = ChatParams(max_tokens=16, temperature=0.0)
    content = ""
    with csi.chat_stream("llama-3.1-8b-instruct", messages, params) as response:
        writer.begin_message(response.role)
        for event in response.stream():
            content += event.content
            writer.append_to_message(event.content)
    writer.end_message(End(content=content))
