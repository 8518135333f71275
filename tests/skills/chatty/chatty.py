from pharia_skill import ChatParams, Csi, Message, skill
from pydantic import BaseModel, RootModel


class Input(BaseModel):
    model: str
    text: str


class Output(RootModel[str]):
    root: str


@skill
def chatty(csi: Csi, input: Input) -> Output:
    """Asks a model once and answers with what it said."""
    response = csi.chat(input.model, [Message.user(input.text)], ChatParams(max_tokens=16))
    return Output(response.message.content)
