"""A message stream with reasoning, a payload and an error on demand."""

from dataclasses import dataclass
from enum import Enum

from pharia_kernel_sdk import ChatParams, Csi, Message, MessageWriter, message_stream


class Mode(Enum):
    CHAT = "chat"
    FIXED = "fixed"
    BROKEN = "broken"
    DISORDER = "disorder"


@dataclass
class Input:
    mode: Mode
    model: str = ""


@dataclass
class End:
    finish_reason: str


@message_stream
def story(csi: Csi, writer: MessageWriter[End], input: Input) -> None:
    """Tells a story."""
    if input.mode is Mode.CHAT:
        params = ChatParams(max_tokens=6)
        with csi.chat_stream(input.model, [Message.user("hi")], params) as response:
            writer.forward_response(response, lambda r: End(r.finish_reason().value))
        return
    if input.mode is Mode.DISORDER:
        writer.append_to_message("too early")
    writer.begin_message("assistant")
    writer.append_to_reasoning("hm")
    writer.append_to_message("Once ")
    if input.mode is Mode.BROKEN:
        raise RuntimeError("the plot is lost")
    writer.append_to_message("upon a time")
    writer.end_message(End("stop"))
