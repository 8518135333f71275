"""Lets a model do arithmetic with tools, because it is bad at it."""

from dataclasses import dataclass, field
from typing import Annotated

from pharia_kernel_sdk import ChatParams, Csi, Field, Message, MessageWriter, message_stream


@dataclass
class Input:
    task: Annotated[str, Field(min_length=1, description="What to find out.")]
    tools: list[str] = field(default_factory=lambda: ["add", "subtract"])
    model: str = "llama-3.1-8b-instruct"


@message_stream
def my_skill(csi: Csi, writer: MessageWriter[None], input: Input) -> None:
    """Solves a task with the tools of its namespace."""
    messages = [
        Message.system("Use the tools for every calculation. Then answer in one sentence."),
        Message.user(input.task),
    ]
    params = ChatParams(max_tokens=300)
    # Calls the tools that the model asks for, and goes on until it answers without them.
    with csi.chat_stream(input.model, messages, params, tools=input.tools, max_turns=5) as answer:
        writer.forward_response(answer)
