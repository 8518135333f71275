"""Makes every call of the published SDK's ``DevCsi`` at a whole kernel, and prints what it got.

Runs in the SDK's own environment, not in that of the tests. The kernel's address and the token are
in the environment variables that the SDK reads; the answers are JSON.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pharia_skill as sdk  # type: ignore[import-not-found]
from pharia_skill.testing import DevCsi  # type: ignore[import-not-found]

TEXT = "The quick brown fox jumps over the lazy dog."


def plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return list(value) if isinstance(value, bytes) else value


def failure(call: Any) -> str:
    try:
        call()
    except Exception as error:
        return str(error)
    raise AssertionError("the call did not fail")


csi = DevCsi(namespace="dev")
fox = sdk.DocumentPath("dev", "animals", "fox")
card = sdk.DocumentPath("dev", "animals", "card")
index = sdk.IndexPath("dev", "animals", "sections")
messages = [sdk.Message.system("x"), sdk.Message.user("Hi")]
chat_params = sdk.ChatParams(max_tokens=8, temperature=0.0, logprobs=sdk.TopLogprobs(2))
completion_params = sdk.CompletionParams(max_tokens=6, temperature=0.0, logprobs="sampled")
filters = [
    sdk.With([sdk.MetadataFilter("legs", sdk.GreaterThan(3))]),
    sdk.Without([sdk.MetadataFilter("a[].b", sdk.IsNull())]),
    sdk.WithOneOf([sdk.MetadataFilter("kind", sdk.EqualTo("animal"))]),
]
german = sdk.SelectLanguageRequest("Ein Apfel fällt vom Baum", ["eng", "deu"])
chunk_params = sdk.ChunkParams("tiny", 6, 2)

chat_stream = csi.chat_stream("tiny", messages, chat_params)
completion_stream = csi.completion_stream("tiny", "An apple a day", completion_params)
luminous_stream = csi.completion_stream("luminous", "An apple a day", completion_params)
answers = {
    "chat": csi.chat("tiny", messages, chat_params),
    "chat_concurrent": csi.chat_concurrent(
        [sdk.ChatRequest("tiny", messages, chat_params) for _ in range(2)]
    ),
    "complete": csi.complete("tiny", "An apple a day", completion_params),
    "complete_concurrent": csi.complete_concurrent(
        [
            sdk.CompletionRequest("tiny", "An apple a day", completion_params),
            sdk.CompletionRequest("luminous", "An apple a day", completion_params),
        ]
    ),
    "chat_stream": {
        "role": chat_stream.role,
        "texts": [append.content for append in chat_stream.stream()],
        "finish_reason": chat_stream.finish_reason(),
        "usage": chat_stream.usage(),
    },
    "completion_stream": {
        "texts": [append.text for append in completion_stream.stream()],
        "finish_reason": completion_stream.finish_reason(),
        "usage": completion_stream.usage(),
    },
    "luminous_stream": {
        "texts": [append.text for append in luminous_stream.stream()],
        "finish_reason": luminous_stream.finish_reason(),
        "usage": luminous_stream.usage(),
    },
    "explain": csi.explain(TEXT, "dog", "luminous", sdk.Granularity("word")),
    "explain_concurrent": csi.explain_concurrent(
        [sdk.ExplanationRequest(TEXT, "dog", "luminous", sdk.Granularity("auto"))] * 2
    ),
    "chunk": csi.chunk(TEXT, chunk_params),
    "chunk_concurrent": csi.chunk_concurrent([sdk.ChunkRequest("short", chunk_params)] * 2),
    "select_language": csi.select_language(TEXT, ["eng", "deu"]),
    "select_language_concurrent": csi.select_language_concurrent([german, german]),
    "search": csi.search(index, TEXT, 3, 0.9, filters),
    "search_concurrent": csi.search_concurrent([sdk.SearchRequest(index, TEXT, 1, None, [])] * 2),
    "document": csi.document(fox),
    "documents": csi.documents([fox, card]),
    "document_metadata": csi.document_metadata(fox),
    "documents_metadata": csi.documents_metadata([card, fox]),
    "list_tools": [tool.name for tool in csi.list_tools()],
    "invoke_tool": csi.invoke_tool("add", a=40, b=2),
    "invoke_tool_concurrent": csi.invoke_tool_concurrent(
        [sdk.InvokeRequest("echo", {"x": ["å"]}), sdk.InvokeRequest("fail", {})]
    ),
    "missing_document": failure(lambda: csi.document(sdk.DocumentPath("dev", "animals", "no"))),
    "failed_stream": failure(
        lambda: csi.chat_stream("tiny", messages, sdk.ChatParams(max_tokens=-1))
    ),
}
print(json.dumps(plain(answers)))
