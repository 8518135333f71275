"""One chat."""

from pharia_skill import ChatParams, Csi, Message, skill
from pydantic import BaseModel


class Input(BaseModel):
    topic: str


class Output(BaseModel):
    haiku: str


@skill
def haiku(csi: Csi, input: Input) -> Output:
    """Writes a haiku."""
    request = Message.user(f"Answer with a haiku.\n\n{input.topic}")
    params = ChatParams(max_tokens=16, temperature=0.0)
    answer = csi.chat("llama-3.1-8b-instruct", [request], params)
    return Output(haiku=answer.message.content.strip())
