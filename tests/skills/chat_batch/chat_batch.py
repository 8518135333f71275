from pharia_skill import ChatParams, ChatRequest, Csi, Message, skill
from pydantic import BaseModel, RootModel


class Input(BaseModel):
    model: str
    texts: list[str]


class Output(RootModel[list[str]]):
    root: list[str]


@skill
def chat_batch(csi: Csi, input: Input) -> Output:
    """Asks a model about all texts in one call."""
    params = ChatParams(max_tokens=16)
    requests = [ChatRequest(input.model, [Message.user(text)], params) for text in input.texts]
    return Output([response.message.content for response in csi.chat_concurrent(requests)])
