"""One tool, then others at the same time, then a chat about what they found."""

import json

from pharia_skill import ChatParams, Csi, InvokeRequest, Message, ToolOutput, skill
from pydantic import BaseModel


class Input(BaseModel):
    topic: str


class Output(BaseModel):
    sources: list[str]
    summary: str


@skill
def summarize(csi: Csi, input: Input) -> Output:
    """Looks up the news, reads them, and sums them up."""
    found = [
        json.loads(item) for item in csi.invoke_tool("search_news", query=input.topic).contents
    ]
    requests = [InvokeRequest(name="fetch", arguments={"url": news["url"]}) for news in found]
    pages = csi.invoke_tool_concurrent(requests)
    read = [
        (news["title"], page.text())
        for news, page in zip(found, pages, strict=True)
        if isinstance(page, ToolOutput)
    ]
    messages = [
        Message.system("Sum up the news."),
        Message.user("\n\n".join(f"{title}: {text}" for title, text in read)),
    ]
    params = ChatParams(max_tokens=16, temperature=0.0)
    answer = csi.chat("llama-3.3-70b-instruct", messages, params)
    return Output(sources=[title for title, _ in read], summary=answer.message.content.strip())
