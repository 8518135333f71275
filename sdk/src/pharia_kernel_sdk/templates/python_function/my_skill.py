"""Writes a haiku about anything."""

from dataclasses import dataclass
from typing import Annotated

from pharia_kernel_sdk import ChatParams, Csi, Field, Message, skill


@dataclass
class Input:
    topic: Annotated[str, Field(min_length=1, description="What to write about.")]
    model: str = "llama-3.1-8b-instruct"


@dataclass
class Output:
    haiku: str


@skill
def my_skill(csi: Csi, input: Input) -> Output:
    """Writes a haiku."""
    messages = [
        Message.system("You write haiku: three short lines, and nothing else."),
        Message.user(f"A haiku about {input.topic}."),
    ]
    response = csi.chat(input.model, messages, ChatParams(max_tokens=100))
    return Output(response.message.content.strip())
