"""Answers questions from documents."""

from dataclasses import dataclass, field
from typing import Annotated

from pharia_kernel_sdk import ChatParams, Csi, Field, IndexPath, Message, SearchResult, skill

INSTRUCTIONS = (
    "Answer the question from the sources and from nothing else. "
    "If they do not have the answer, say that you don't know."
)


@dataclass
class Index:
    namespace: str = "my-company"
    collection: str = "manuals"
    index: str = "assets"


@dataclass
class Input:
    question: Annotated[str, Field(min_length=1)]
    index: Index = field(default_factory=Index)
    model: str = "llama-3.1-8b-instruct"


@dataclass
class Output:
    answer: str | None
    """None if no document fits the question."""
    sources: list[str]


@skill
def my_skill(csi: Csi, input: Input) -> Output:
    """Answers a question from documents, and names those that it used."""
    path = IndexPath(input.index.namespace, input.index.collection, input.index.index)
    found = csi.search(path, input.question, max_results=3)
    if not found:
        return Output(None, [])
    messages = [Message.system(INSTRUCTIONS), Message.user(prompt(input.question, found))]
    response = csi.chat(input.model, messages, ChatParams(max_tokens=300))
    names = dict.fromkeys(result.document_path.name for result in found)
    return Output(response.message.content, list(names))


def prompt(question: str, found: list[SearchResult]) -> str:
    sources = [f"{number}. {result.content}" for number, result in enumerate(found, start=1)]
    return "Sources:\n\n" + "\n\n".join(sources) + f"\n\nQuestion: {question}"
