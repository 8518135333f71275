"""Language, chunks, and completions at the same time, until one is left."""

from enum import Enum
from typing import NamedTuple

from pharia_skill import ChunkParams, CompletionParams, CompletionRequest, Csi, Language, skill
from pydantic import BaseModel, RootModel

MODEL = "llama-3.1-8b-instruct"


class Length(str, Enum):
    SHORT = "short"
    LONG = "long"


class Input(BaseModel):
    text: str
    length: Length
    language: Language | None = None


class Output(RootModel[str]):
    root: str


PROMPTS = {
    Length.SHORT: {
        Language.English: "Sum it up in a sentence.",
        Language.German: "Fasse es in einem Satz zusammen.",
    },
    Length.LONG: {
        Language.English: "Sum it up in a paragraph.",
        Language.German: "Fasse es in einem Absatz zusammen.",
    },
}


class Instruction(NamedTuple):
    prompt: str

    def request(self, text: str) -> CompletionRequest:
        params = CompletionParams(max_tokens=8, temperature=0.0)
        return CompletionRequest(model=MODEL, prompt=f"{self.prompt}\n\n{text}\n\n", params=params)


@skill
def summarize(csi: Csi, input: Input) -> Output:
    """Sums up a text of any length."""
    language = (
        input.language
        or csi.select_language(input.text, [Language.English, Language.German])
        or Language.English
    )
    instruction = Instruction(PROMPTS[input.length][language])
    params = ChunkParams(model=MODEL, max_tokens=64)
    text, before = input.text, None
    while True:
        requests = [instruction.request(chunk.text) for chunk in csi.chunk(text, params)]
        summaries = [answer.text.strip() for answer in csi.complete_concurrent(requests)]
        text = "\n".join(summaries)
        if len(summaries) == 1 or len(summaries) == before:
            return Output(root=text)
        before = len(summaries)
