"""Calls of the CSI, made by skills and over HTTP."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.aleph_alpha import AlephAlpha
from tests.support.kernel import KernelProcess, parse_events, until
from tests.support.mcp_servers import ToolServer

Json = Any
Call = tuple[str, Json]
"""Name of a function, and what it takes."""

TOURS = {
    "0.2": "csi_tour_02",
    "0.3": "csi_tour_03",
    "0.4": "csi_tour_04",
    "0.5": "csi_tour_05",
}
"""A skill of each WIT line that makes the calls that it is asked for."""
STREAMS = ("chat_stream", "completion_stream")
TOOL_TIMEOUT = 1.0
"""Seconds that the slow server has for a call."""
CALLER = {"Authorization": "Bearer token-of-the-caller"}

FOX = {"namespace": "dev", "collection": "animals", "name": "fox"}
CARD = {"namespace": "dev", "collection": "animals", "name": "card"}
INDEX = {"namespace": "dev", "collection": "animals", "index": "sections"}
FOX_TEXT = "The quick brown fox jumps over the lazy dog."
FOX_METADATA = {"kind": "animal", "legs": 4, "wild": True, "seen": "2024-05-01T12:00:00Z"}
_DOCUMENTS = {
    "fox": ([{"modality": "text", "text": FOX_TEXT}], FOX_METADATA),
    "card": (
        [{"modality": "image", "bytes": "iVBORw0KGgo="}, {"modality": "text", "text": "An oak."}],
        None,
    ),
}


@dataclass
class World:
    kernel: KernelProcess
    aleph_alpha: AlephAlpha
    tools: ToolServer
    slow_tools: ToolServer


async def fill_index(kernel: KernelProcess) -> None:
    """Two documents, searchable."""
    collection = "/collections/dev/animals"

    async def put(path: str, body: Json = None) -> None:
        (await kernel.client.put(path, json=body, headers=CALLER)).raise_for_status()

    config = {"chunk_size": 100, "chunk_unit": "characters", "embedding_type": "symmetric"}
    await put(collection)
    await put("/indexes/dev/sections", config)
    await put(f"{collection}/indexes/sections")
    for name, (contents, metadata) in _DOCUMENTS.items():
        document = {"schema_version": "V1", "contents": contents, "metadata": metadata}
        await put(f"{collection}/docs/{name}", document)

    async def indexed() -> bool:
        answer = await kernel.client.get(f"{collection}/indexes/sections", headers=CALLER)
        status = answer.raise_for_status().json()
        assert not status["failing"], status
        return status["documents"] == len(_DOCUMENTS) and not status["pending"]

    await until(indexed, "the documents are indexed")


# --- by a skill -----------------------------------------------------------------------------------


async def tour(
    kernel: KernelProcess, line: str, calls: list[Call], headers: Json = None
) -> list[Json]:
    """What a skill of the WIT line got for the calls."""
    if line == "0.5":
        result = await kernel.stream(TOURS[line], calls, headers=headers)
        assert result.status == 200, result.response.text
        return list(result.end)
    response = await kernel.run(TOURS[line], calls, headers=headers)
    assert response.status_code == 200, response.text
    return list(response.json())


# --- over HTTP ------------------------------------------------------------------------------------


async def post(
    kernel: KernelProcess, path: str, body: Json, headers: Json = None
) -> httpx.Response:
    return await kernel.client.post(path, json=body, headers=headers)


async def http(kernel: KernelProcess, version: str, call: Call) -> Json:
    """The answer of ``/csi/{version}``; of a stream its events."""
    name, body = call
    response = await post(kernel, f"/csi/{version}/{name}", body, CALLER)
    assert response.status_code == 200, (name, response.text)
    return events(response.text) if name in STREAMS else response.json()


async def legacy(kernel: KernelProcess, version: str, call: Call) -> Json:
    """The answer of ``/csi``; the body of 0.3 is a list of requests, that of 0.2 is one."""
    name, body = call
    members = {"requests": body} if version == "0.3" else body
    response = await post(kernel, "/csi", {"version": version, "function": name} | members, CALLER)
    assert response.status_code == 200, (name, response.text)
    return response.json()


def events(text: str) -> list[list[Json]]:
    return [[name, data] for name, data in parse_events(text)]


# --- comparing ------------------------------------------------------------------------------------


def same(value: Json) -> Json:
    """Equal to the value, except for what servers round differently when they batch requests."""
    match value:
        case bool():
            return value
        case float() if not math.isnan(value):
            return pytest.approx(value, rel=1e-3, abs=1e-3)
        case list():
            return [same(item) for item in value]
        case dict():
            return {key: same(item) for key, item in value.items()}
    return value
