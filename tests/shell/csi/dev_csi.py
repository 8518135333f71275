"""Makes every call that the published SDK's ``DevCsi`` has, and prints what it got as JSON.

Runs in the SDK's own environment, not in that of the tests. The kernel's address and the token are
in the environment variables that the SDK reads.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pharia_skill as sdk  # type: ignore[import-not-found]
from pharia_skill.testing import DevCsi  # type: ignore[import-not-found]


def plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return list(value) if isinstance(value, bytes) else value


def failure(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:
        return str(error)
    raise AssertionError("the call did not fail")


csi = DevCsi(namespace="dev")
path = sdk.DocumentPath("kernel", "docs", "intro")
index = sdk.IndexPath("kernel", "docs", "asymmetric")
messages = [sdk.Message.system("Be brief."), sdk.Message.user("Capital of France?")]
chat_params = sdk.ChatParams(max_tokens=64, logprobs=sdk.TopLogprobs(2))
completion_params = sdk.CompletionParams(max_tokens=16, stop=["."], logprobs="sampled")
filters = [
    sdk.With([sdk.MetadataFilter("year", sdk.GreaterThan(2023))]),
    sdk.Without([sdk.MetadataFilter("a[].b", sdk.IsNull())]),
    sdk.WithOneOf([sdk.MetadataFilter("draft", sdk.EqualTo("no"))]),
]

completion_stream = csi.completion_stream("m", "An apple a day", completion_params)
chat_stream = csi.chat_stream("m", messages, chat_params)
answers = {
    "complete": csi.complete("m", "An apple a day", completion_params),
    "chat": csi.chat("m", messages, chat_params),
    "chunk": csi.chunk("One. Two.", sdk.ChunkParams("m", 4, 1)),
    "select_language": csi.select_language("Ein Apfel", [sdk.Language("eng"), sdk.Language("deu")]),
    "explain": csi.explain("p", "t", "m", sdk.Granularity("word")),
    "search": csi.search(index, "skill", 2, 0.5, filters),
    "document": csi.document(path),
    "document_metadata": csi.document_metadata(path),
    "list_tools": csi.list_tools(),
    "invoke_tool": csi.invoke_tool("add", a=1, b=2),
    "invoke_tool_concurrent": csi.invoke_tool_concurrent(
        [sdk.InvokeRequest("add", {"a": 1}), sdk.InvokeRequest("saboteur", {})]
    ),
    "completion_stream": list(completion_stream.stream()),
    "completion_finish_reason": completion_stream.finish_reason(),
    "completion_usage": completion_stream.usage(),
    "chat_role": chat_stream.role,
    "chat_stream": list(chat_stream.stream()),
    "chat_finish_reason": chat_stream.finish_reason(),
    "chat_usage": chat_stream.usage(),
    "failed_chat": failure(lambda: csi.chat("no-such-model", messages)),
    "failed_stream": failure(lambda: csi.chat_stream("no-such-model", messages)),
    "broken_stream": failure(
        lambda: list(csi.completion_stream("breaks", "p", completion_params).stream())
    ),
}
print(json.dumps(plain(answers)))
