"""The Document Index API of the built-in index, and the command line that uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send
from typer.testing import CliRunner, Result

from pharia_kernel import config
from pharia_kernel.documents_cli import app as cli
from pharia_kernel.drivers.retrieval.local.index import LocalDocumentIndex
from pharia_kernel.errors import UpstreamRejected
from pharia_kernel.shell import document_paths, documents, problems
from pharia_kernel.shell.auth import ApiToken, Authorizer, Authorizers, Guard
from pharia_kernel.shell.documents import DocumentRoutes
from pharia_kernel.shell.problems import Problems
from tests.drivers.retrieval.support import WordEmbedders, opened, settled
from tests.shell.auth.support import KEY, api_keys, bearer, settings
from tests.shell.support import running

CONFIG = {
    "chunk_size": 40,
    "chunk_overlap": 0,
    "chunk_unit": "characters",
    "hybrid_index": None,
    "embedding": {
        "strategy": "semantic_embed",
        "model_name": "words",
        "representation": "asymmetric",
    },
}
COLLECTION = "/collections/dev/manuals"
NAME = "printers/laser jet?.md"
DOCUMENT = f"{COLLECTION}/docs/printers%2Flaser%20jet%3F.md"
SEARCH = f"{COLLECTION}/indexes/default/search"


def app_of(index: LocalDocumentIndex, auth: Authorizer | None = None) -> ASGIApp:
    handlers: Any = {
        HTTPException: problems.handle,
        RequestValidationError: problems.handle,
    }
    resources = FastAPI(
        redirect_slashes=False, exception_handlers=handlers, middleware=[Middleware(Problems)]
    )
    parts = DocumentRoutes(index, ApiToken(), 1 << 20, default_model="words")
    resources.include_router(documents.router(parts))

    guard = Guard(auth or Authorizers(config.Settings()))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope = document_paths.undecoded(scope) or scope
        if scope["type"] == "http":
            await guard.admit(scope, encoded=True)
        await resources(scope, receive, send)

    return Problems(app)


@pytest.fixture
def embedders() -> WordEmbedders:
    return WordEmbedders()


@pytest.fixture
async def index(tmp_path: Path, embedders: WordEmbedders) -> AsyncIterator[LocalDocumentIndex]:
    async with opened(tmp_path / "documents", embedders) as index:
        yield index


@pytest.fixture
async def client(index: LocalDocumentIndex) -> AsyncIterator[httpx.AsyncClient]:
    async with running(app_of(index)) as client:
        yield client


async def prepare(client: httpx.AsyncClient) -> None:
    assert (await client.put(COLLECTION)).status_code == 201
    assert (await client.put("/indexes/dev/default", json=CONFIG)).status_code == 201
    assert (await client.put(f"{COLLECTION}/indexes/default")).status_code == 201


def document(*texts: str, metadata: Any = None) -> dict[str, Any]:
    contents = [{"modality": "text", "text": text} for text in texts]
    return {"schema_version": "V1", "contents": contents, "metadata": metadata}


def query(text: str, **more: Any) -> dict[str, Any]:
    return {"query": [{"modality": "text", "text": text}], "max_results": 10, **more}


async def test_from_collection_to_hit(client: httpx.AsyncClient, index: LocalDocumentIndex) -> None:
    await prepare(client)
    body = document("Nothing.", "Switch it off and on.", metadata={"year": 2024})
    assert (await client.put(DOCUMENT, json=body)).status_code == 201
    assert (await client.put(DOCUMENT, json=body)).status_code == 204
    assert (await client.get(DOCUMENT)).json() == body
    await settled(index)
    assert (await client.get(f"{COLLECTION}/progress")).text == "0"
    path = {"namespace": "dev", "collection": "manuals", "name": NAME}
    section = {
        "document_path": path,
        "section": [{"modality": "text", "text": "Switch it off and on."}],
        "start": {"modality": "text", "item": 1, "position": 0},
        "end": {"modality": "text", "item": 1, "position": 20},
    }
    hit = (await client.post(SEARCH, json=query("switch on", min_score=0.4))).json()[0]
    assert 0.4 < hit.pop("score") <= 1
    assert hit == section
    assert section in (await client.get(f"{DOCUMENT}/indexes/default/chunks")).json()
    (info,) = (await client.get(f"{COLLECTION}/docs?starts_with=printers/&max_documents=5")).json()
    assert (info["path"], info["version"]) == (path, 1)
    assert (await client.get(f"{COLLECTION}/docs?starts_with=scanners")).json() == []
    assert (await client.delete(DOCUMENT)).status_code == 204
    assert (await client.get(DOCUMENT)).status_code == 404


async def test_lists_and_deletions(client: httpx.AsyncClient) -> None:
    await prepare(client)
    assert (await client.put(COLLECTION)).status_code == 204
    assert (await client.get("/namespaces")).json() == ["dev"]
    assert (await client.get("/collections/dev")).json() == ["manuals"]
    assert (await client.get("/indexes/dev")).json() == ["default"]
    assert (await client.get(f"{COLLECTION}/indexes")).json() == ["default"]
    assert (await client.get(f"{COLLECTION}/indexes/default")).json()["documents"] == 0
    shown = (await client.get("/indexes/dev/default")).json()
    assert CONFIG.items() <= shown.items()
    conflict = await client.delete("/indexes/dev/default")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")
    assert (await client.delete(f"{COLLECTION}/indexes/default")).status_code == 204
    assert (await client.delete("/indexes/dev/default")).status_code == 204
    assert (await client.delete(COLLECTION)).status_code == 204
    missing = await client.delete(COLLECTION)
    assert (missing.status_code, missing.json()["code"]) == (404, "collection_not_found")


async def test_older_clients_name_no_model(client: httpx.AsyncClient) -> None:
    old = {"chunk_size": 64, "embedding_type": "symmetric"}
    assert (await client.put("/indexes/dev/old", json=old)).status_code == 201
    shown = (await client.get("/indexes/dev/old")).json()
    assert (shown["embedding_type"], shown["chunk_overlap"]) == ("symmetric", 0)
    assert shown["embedding"]["model_name"] == "words"


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ([{"with": [{"modality": "text"}]}], ["a", "b"]),
        ([{"with": [{"modality": "image"}]}], []),
        ([{"without": [{"modality": "text"}]}], []),
        ([{"without": [{"modality": "image"}]}], ["a", "b"]),
        ([{"with_one_of": [{"modality": "image"}]}], []),
        (
            [
                {
                    "with_one_of": [
                        {"modality": "image"},
                        {"metadata": {"field": "n", "equal_to": 1}},
                    ]
                }
            ],
            ["a"],
        ),
        (
            [
                {"with": [{"metadata": {"field": "n", "greater_than": 1.5}}, {"modality": "text"}]},
                {"without": [{"metadata": {"field": "n", "is_null": True}}]},
            ],
            ["b"],
        ),
    ],
)
async def test_filters(
    client: httpx.AsyncClient, index: LocalDocumentIndex, filters: Any, names: list[str]
) -> None:
    await prepare(client)
    for name, number in {"a": 1, "b": 2}.items():
        body = document("red", metadata={"n": number})
        await client.put(f"{COLLECTION}/docs/{name}", json=body)
    await settled(index)
    answer = await client.post(SEARCH, json=query("red", filters=filters))
    assert sorted(hit["document_path"]["name"] for hit in answer.json()) == names


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/indexes/dev/x", {"chunk_size": 0, "embedding": CONFIG["embedding"]}, "chunk_size"),
        ("/indexes/dev/x", CONFIG | {"chunk_overlap": 40}, "chunk_overlap"),
        ("/indexes/dev/x", CONFIG | {"embedding": {"strategy": "magic"}}, "magic"),
        ("/indexes/dev/x", {"chunk_size": 10}, "embedding"),
        ("/indexes/dev/x", [], "object"),
        (f"{COLLECTION}/docs/x", {}, "contents"),
        (f"{COLLECTION}/docs/x", {"contents": [{"modality": "smell"}]}, "smell"),
        (f"{COLLECTION}/docs/{'x' * 1001}", {"contents": []}, "name"),
    ],
)
async def test_wrong_bodies(client: httpx.AsyncClient, path: str, body: Any, named: str) -> None:
    await prepare(client)
    answer = await client.put(path, json=body)
    assert answer.status_code == 422
    assert named in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": []},
        query("x", filters=[{}]),
        query("x", filters=[{"with": [{"metadata": {"field": "a"}}]}]),
        query("x", filters=[{"with": [{"metadata": {"field": "a", "equal_to": 1.5}}]}]),
        query("x", filters=[{"with": [{"metadata": {"field": "a", "after": "2023-01-01"}}]}]),
        query("x", max_results=-1),
    ],
)
async def test_wrong_searches(client: httpx.AsyncClient, body: Any) -> None:
    await prepare(client)
    answer = await client.post(SEARCH, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_csi_request")


async def test_names_keep_their_slashes(client: httpx.AsyncClient) -> None:
    await prepare(client)
    body = document("x")
    assert (await client.put(f"{COLLECTION}/docs/a%2Fb%252F", json=body)).status_code == 201
    (info,) = (await client.get(f"{COLLECTION}/docs")).json()
    assert info["path"]["name"] == "a/b%2F"
    assert (await client.get(f"{COLLECTION}/docs/a/b")).status_code == 404
    assert (await client.get(f"{COLLECTION}/docs/%ff")).status_code == 400


# --- the command line -----------------------------------------------------------------------------


async def run(client: httpx.AsyncClient, *arguments: str) -> Result:
    options = ["--url", str(client.base_url)]
    return await asyncio.to_thread(CliRunner().invoke, cli, [*options, *arguments])


async def prepare_by_cli(client: httpx.AsyncClient) -> None:
    index = ["create-index", "dev/default", "--model", "words", "--characters"]
    for arguments in (
        ["create-collection", "dev/manuals"],
        [*index, "--chunk-size", "40", "--hybrid"],
        ["assign", "dev/manuals", "default"],
    ):
        result = await run(client, *arguments)
        assert result.exit_code == 0, result.output


async def test_ingest_and_search(client: httpx.AsyncClient, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text("Switch it off and on.")
    (folder / "sub" / "b c.TXT").write_text("Call the helpdesk.")
    (folder / "ignored.pdf").write_bytes(b"\xff")
    await prepare_by_cli(client)
    result = await run(client, "ingest", "dev/manuals", str(folder))
    assert result.exit_code == 0, result.output
    assert "stored: 2 of 2 files" in result.output
    result = await run(client, "search", "dev/manuals", "default", "the helpdesk")
    assert "sub/b c.TXT  0:0-17" in result.output
    assert "Call the helpdesk." in result.output
    result = await run(client, "status", "dev/manuals")
    assert "default" in result.output
    result = await run(client, "delete", "dev/manuals", "sub/b c.TXT")
    assert result.exit_code == 0, result.output
    names = [info["path"]["name"] for info in (await client.get(f"{COLLECTION}/docs")).json()]
    assert names == ["a.md"]
    assert (await run(client, "delete", "dev/manuals", "--yes")).exit_code == 0
    assert (await client.get("/collections/dev")).json() == []


async def test_ingest_tells_what_it_could_not_do(
    client: httpx.AsyncClient, embedders: WordEmbedders, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "latin.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "files" / "good.txt").write_text("good")
    await prepare_by_cli(client)
    result = await run(client, "ingest", "dev/manuals", str(tmp_path / "files"))
    assert result.exit_code == 1
    assert "latin.txt" in result.output.replace("\n", "")  # which may be wrapped anywhere
    embedders.error = UpstreamRejected("The model is broken.")
    (tmp_path / "files" / "good.txt").write_text("better")
    result = await run(client, "ingest", "dev/manuals", str(tmp_path / "files"))
    assert result.exit_code == 2
    assert "The model is broken." in result.output


async def test_what_is_missing_is_named(client: httpx.AsyncClient) -> None:
    result = await run(client, "search", "dev/none", "default", "x")
    assert result.exit_code == 2
    assert "`dev/none`" in result.output
    result = await run(client, "status", "dev")
    assert result.exit_code == 2
    assert "slash" in result.output


async def test_callers_see_only_their_namespaces(index: LocalDocumentIndex) -> None:
    for namespace in ("team-a", "team-b", "Team A"):
        await index.create_collection(namespace, "manuals")
    keys = api_keys(a={"permissions": ["csi"], "namespaces": ["team-a"]})
    app = app_of(index, Authorizers(settings(api_keys=keys)))
    async with running(app) as client:
        client.headers.update(bearer(KEY))
        assert (await client.get("/namespaces")).json() == ["team-a"]
        assert (await client.get("/collections/team-a")).json() == ["manuals"]
        assert (await client.put("/collections/team-a/more")).status_code == 201
        for path in ("team-b", "team%2Db", "Team%20A", "team-%2562", "nobody"):
            answer = await client.get(f"/collections/{path}")
            assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
        assert (await client.get("/%63ollections/team-%2562")).status_code == 403
        assert (await client.delete("/collections/team-b/manuals")).status_code == 403
    assert await index.collections("team-b") == ["manuals"]
