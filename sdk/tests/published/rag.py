"""A search, and a chat about its results."""

from pharia_skill import ChatParams, ChatResponse, Csi, IndexPath, Message, skill
from pydantic import BaseModel

index = IndexPath("dev", "animals", "sections")


class Input(BaseModel):
    question: str
    min_score: float = 0.0


class Output(BaseModel):
    answer: str
    number_of_documents: int


@skill
def answer_about_animals(csi: Csi, input: Input) -> Output:
    """Answers a question from documents."""
    documents = csi.search(index, input.question, 3, input.min_score)
    if not documents:
        return Output(answer="nothing found", number_of_documents=0)
    context = "\n".join(document.content for document in documents)
    message = Message.user(f"{context}\n\nQuestion: {input.question}")
    params = ChatParams(max_tokens=16, temperature=0.0)
    response: ChatResponse = csi.chat("llama-3.1-8b-instruct", [message], params)
    return Output(answer=response.message.content, number_of_documents=len(documents))
