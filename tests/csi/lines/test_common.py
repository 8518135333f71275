from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from pharia_kernel.csi import types
from tests.csi.lines.support import asked

pytestmark = pytest.mark.parametrize("line", ["0.3.11", "0.4.0", "0.5.0"])

PATH = {"namespace": "n", "collection": "c", "name": "d"}
INDEX = {"namespace": "n", "collection": "c", "index": "i"}


async def test_chunk(line: str) -> None:
    request = {"text": "ab", "params": {"model": "m", "max-tokens": 2, "overlap": 1}}
    chunks = [types.Chunk("a", 0, None), types.Chunk("b", 1, None)]
    result, got, _ = await asked(f"pharia:skill/chunking@{line}#chunk", [request], answer=chunks)
    assert got == types.ChunkRequest("ab", types.ChunkParams("m", 2, 1), False)
    assert result == [["a", "b"]]


@pytest.mark.parametrize("offsets", [True, False])
async def test_chunk_with_offsets(line: str, offsets: bool) -> None:
    params = {"model": "m", "max-tokens": 2, "overlap": 1}
    request = {"text": "ä", "params": params, "character-offsets": offsets}
    chunks = [types.Chunk("ä", 2**40, 1 if offsets else None)]
    result, got, _ = await asked(
        f"pharia:skill/chunking@{line}#chunk-with-offsets", [request], answer=chunks
    )
    assert got.character_offsets is offsets
    character = 1 if offsets else None
    assert result == [[{"text": "ä", "byte-offset": 2**40, "character-offset": character}]]


@pytest.mark.parametrize("found", ["eng", None])
async def test_select_language(line: str, found: str | None) -> None:
    result, got, _ = await asked(
        f"pharia:skill/language@{line}#select-language",
        [{"text": "x", "languages": ["eng", "fra"]}],
        answer=found,
    )
    assert got == types.SelectLanguageRequest("x", ["eng", "fra"])
    assert result == [found]


async def search(line: str, *filters: Any) -> tuple[Any, types.SearchRequest]:
    request = {
        "index-path": INDEX,
        "query": "q",
        "max-results": 3,
        "min-score": None,
        "filters": list(filters),
    }
    path = types.DocumentPath("n", "c", "d")
    found = types.SearchResult(path, "x", 0.5, types.TextCursor(0, 1), types.TextCursor(2, 3))
    result, got, _ = await asked(
        f"pharia:skill/document-index@{line}#search", [request], answer=[found]
    )
    assert isinstance(got, types.SearchRequest)
    return result, got


async def test_search(line: str) -> None:
    result, request = await search(line)
    assert request == types.SearchRequest(
        index_path=types.IndexPath("n", "c", "i"), query="q", max_results=3
    )
    assert result == [
        [
            {
                "document-path": PATH,
                "content": "x",
                "score": 0.5,
                "start": {"item": 0, "position": 1},
                "end": {"item": 2, "position": 3},
            }
        ]
    ]


def as_json(filters: list[types.SearchFilter]) -> Any:
    """As the document index is asked."""
    return msgspec.json.decode(msgspec.json.encode(filters))


@pytest.mark.parametrize(
    ("case", "key"), [("without", "without"), ("with-one-of", "with_one_of"), ("with-all", "with")]
)
async def test_search_filters(line: str, case: str, key: str) -> None:
    condition = {"field": "a.b", "condition": ["is-null", None]}
    _, request = await search(line, [case, [condition, condition]], [case, []])
    item = {"metadata": {"field": "a.b", "is_null": True}}
    assert as_json(request.filters) == [{key: [item, item]}, {key: []}]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (["greater-than", 1.5], {"greater_than": 1.5}),
        (["greater-than-or-equal-to", 0.0], {"greater_than_or_equal_to": 0.0}),
        (["less-than", -1.0], {"less_than": -1.0}),
        (["less-than-or-equal-to", 1.0], {"less_than_or_equal_to": 1.0}),
        (["after", "2020"], {"after": "2020"}),
        (["at-or-after", ""], {"at_or_after": ""}),
        (["before", "2020"], {"before": "2020"}),
        (["at-or-before", "2020"], {"at_or_before": "2020"}),
        (["equal-to", ["string-type", "x"]], {"equal_to": "x"}),
        (["equal-to", ["integer-type", -(2**63)]], {"equal_to": -(2**63)}),
        (["equal-to", ["integer-type", 0]], {"equal_to": 0}),
        (["equal-to", ["boolean-type", False]], {"equal_to": False}),
        (["is-null", None], {"is_null": True}),
    ],
)
async def test_conditions(line: str, condition: Any, expected: dict[str, Any]) -> None:
    _, request = await search(line, ["with-all", [{"field": "f", "condition": condition}]])
    (converted,) = as_json(request.filters)[0]["with"]
    assert converted == {"metadata": {"field": "f", **expected}}
    value, wanted = list(converted["metadata"].values())[1], next(iter(expected.values()))
    assert type(value) is type(wanted)


async def test_documents(line: str) -> None:
    document = types.Document(
        types.DocumentPath("n", "c", "d"),
        [types.ImageModality(), types.TextModality("x")],
        None,
    )
    result, got, _ = await asked(
        f"pharia:skill/document-index@{line}#documents", [PATH], answer=document
    )
    assert got == types.DocumentPath("n", "c", "d")
    contents = [["image", None], ["text", "x"]]
    assert result == [{"path": PATH, "contents": contents, "metadata": None}]


async def test_document_metadata_is_its_json(line: str) -> None:
    result, _, _ = await asked(
        f"pharia:skill/document-index@{line}#document-metadata", [PATH], answer=Raw(b'{"a": 1.0}')
    )
    assert result == [b'{"a": 1.0}']


@pytest.mark.parametrize(
    ("answer", "slot"),
    [
        ([types.TextOutput("a"), types.TextOutput("b")], ["ok", [["text", "a"], ["text", "b"]]]),
        ([], ["ok", []]),
        ("broken", ["err", "broken"]),
        ("", ["err", ""]),
    ],
)
async def test_invoke_tool(line: str, answer: Any, slot: Any) -> None:
    arguments = [{"name": "a", "value": b'{"x": 1}'}, {"name": "b", "value": b"not json"}]
    result, got, csi = await asked(
        f"pharia:skill/tool@{line}#invoke-tool",
        [{"tool-name": "add", "arguments": arguments}],
        answer=answer,
    )
    assert got == types.InvokeRequest(
        "add",
        [types.Argument("a", Raw(b'{"x": 1}')), types.Argument("b", Raw(b"not json"))],
    )
    assert result == [slot]
    assert csi.namespaces == ["playground"]


async def test_list_tools(line: str) -> None:
    tools = [types.Tool("add", "Adds", Raw(b'{"type": "object"}'))]
    result, _, _ = await asked(f"pharia:skill/tool@{line}#list-tools", answer=tools)
    assert result == [{"name": "add", "description": "Adds", "input-schema": b'{"type": "object"}'}]
