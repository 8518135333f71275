"""The built-in document index over HTTP, with the paths and bodies of the Document Index API."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import unquote

import msgspec
from fastapi import APIRouter, Path, Query, Request, Security
from msgspec import Struct
from pydantic import AfterValidator
from starlette.responses import Response

from pharia_kernel.csi.types import (
    CallContext,
    DocumentPath,
    FilterItem,
    IndexPath,
    MetadataCondition,
    SearchFilter,
    SearchRequest,
    TextCursor,
)
from pharia_kernel.drivers.retrieval.local.types import (
    IndexConfig,
    InstructableEmbedding,
    NewDocument,
    SemanticEmbedding,
    TextItem,
)
from pharia_kernel.errors import InvalidCsiRequest
from pharia_kernel.shell.auth import ApiToken, Asking, Permission
from pharia_kernel.shell.body import read_json
from pharia_kernel.shell.openapi import json_response, problem_answers
from pharia_kernel.skills.types import Caller

if TYPE_CHECKING:  # its Qdrant client takes a second to import, and may not be needed
    from pharia_kernel.drivers.retrieval.local.index import LocalDocumentIndex

T = TypeVar("T")


def _decoded(part: str) -> str:
    return unquote(part, errors="strict")


def _part(description: str, example: str) -> Any:
    return Path(description=description, json_schema_extra={"example": example})


_Namespace = Annotated[
    str, _part("Holds collections and indexes.", "dev"), AfterValidator(_decoded)
]
_Collection = Annotated[str, _part("Holds documents.", "manuals"), AfterValidator(_decoded)]
_Index = Annotated[str, _part("Says how to search.", "default"), AfterValidator(_decoded)]
_Name = Annotated[
    str,
    _part("The document's name, percent-encoded.", "printers%2Flaser.md"),
    AfterValidator(_decoded),
]
_MaxDocuments = Annotated[int | None, Query(ge=0, description="At most so many; all if absent.")]
_StartsWith = Annotated[str, Query(description="Only documents whose names begin like this.")]

_EMBEDDING = {"strategy": "semantic_embed", "model_name": "bge-m3", "representation": "asymmetric"}
_CONFIG = {
    "chunk_size": 256,
    "chunk_overlap": 32,
    "hybrid_index": None,
    "embedding": _EMBEDDING,
}
_DOCUMENT = {
    "schema_version": "V1",
    "contents": [{"modality": "text", "text": "Switch it off and on again."}],
    "metadata": {"year": 2024},
}
_SEARCH = {
    "query": [{"modality": "text", "text": "The printer does not print"}],
    "max_results": 3,
    "min_score": 0.5,
    "filters": [{"with": [{"metadata": {"field": "year", "equal_to": 2024}}]}],
}
_SECTION = {
    "document_path": {"namespace": "dev", "collection": "manuals", "name": "printers/laser.md"},
    "section": [{"modality": "text", "text": "Switch it off and on again."}],
    "start": {"modality": "text", "item": 0, "position": 0},
    "end": {"modality": "text", "item": 0, "position": 26},
}
_HIT = {**_SECTION, "score": 0.8}
_INFO = {
    "path": _SECTION["document_path"],
    "created_timestamp": "2024-12-31T23:59:59.000000Z",
    "version": 1,
}
_STATUS = {"documents": 3, "pending": 1, "failing": 0, "sections": 14, "last_error": None}


class DocumentRoutes(Struct, frozen=True):
    """What the routes need."""

    index: LocalDocumentIndex
    token: ApiToken
    max_body_size: int
    default_model: str | None = None
    """The embedding model of indexes whose bodies name none, as older clients send them."""


def router(parts: DocumentRoutes) -> APIRouter:
    routes = APIRouter(tags=["documents"], dependencies=[Security(parts.token)])
    _add_collections(routes, parts.index)
    _add_indexes(routes, parts)
    _add_documents(routes, parts)
    _add_assigned(routes, parts)
    return routes


def _add_collections(routes: APIRouter, index: LocalDocumentIndex) -> None:
    @routes.get("/namespaces", **_answers("list_document_namespaces", ["dev"]))
    async def namespaces(asking: Asking) -> Response:
        """The namespaces that have collections or indexes."""
        found = await index.namespaces()
        return json_response([name for name in found if asking.may(name, Permission.CSI)])

    @routes.get("/collections/{namespace}", **_answers("list_collections", ["manuals"]))
    async def collections(namespace: _Namespace) -> Response:
        """The collections of a namespace."""
        return json_response(await index.collections(namespace))

    @routes.put("/collections/{namespace}/{collection}", **_creates("create_collection"))
    async def create_collection(namespace: _Namespace, collection: _Collection) -> Response:
        """Create a collection; nothing happens if it exists."""
        return _created(await index.create_collection(namespace, collection))

    @routes.delete("/collections/{namespace}/{collection}", **_empties("delete_collection"))
    async def delete_collection(namespace: _Namespace, collection: _Collection) -> Response:
        """Delete a collection with all its documents."""
        await index.delete_collection(namespace, collection)
        return Response(status_code=204)

    @routes.get("/collections/{namespace}/{collection}/progress", **_answers("progress", 2))
    async def progress(namespace: _Namespace, collection: _Collection) -> Response:
        """How many documents are not yet in all indexes of the collection."""
        return json_response(await index.progress(namespace, collection))


def _add_indexes(routes: APIRouter, parts: DocumentRoutes) -> None:
    index = parts.index

    @routes.get("/indexes/{namespace}", **_answers("list_indexes", ["default"]))
    async def indexes(namespace: _Namespace) -> Response:
        """The indexes of a namespace."""
        return json_response(await index.indexes(namespace))

    @routes.get("/indexes/{namespace}/{index_name}", **_answers("index_configuration", _CONFIG))
    async def configuration(namespace: _Namespace, index_name: _Index) -> Response:
        """The configuration of an index."""
        return json_response(_shown(await index.index(namespace, index_name)))

    @routes.put("/indexes/{namespace}/{index_name}", **_creates("create_index", _CONFIG))
    async def create_index(request: Request, namespace: _Namespace, index_name: _Index) -> Response:
        """Create an index; its configuration can't be changed later."""
        body = await _body(request, parts, _NewIndex)
        return _created(
            await index.create_index(namespace, index_name, _config(body, parts.default_model))
        )

    @routes.delete("/indexes/{namespace}/{index_name}", **_empties("delete_index"))
    async def delete_index(namespace: _Namespace, index_name: _Index) -> Response:
        """Delete an index that no collection has."""
        await index.delete_index(namespace, index_name)
        return Response(status_code=204)


def _add_documents(routes: APIRouter, parts: DocumentRoutes) -> None:
    index = parts.index
    documents = "/collections/{namespace}/{collection}/docs"

    @routes.get(documents, **_answers("list_documents", [_INFO]))
    async def list_documents(
        namespace: _Namespace,
        collection: _Collection,
        max_documents: _MaxDocuments = None,
        starts_with: _StartsWith = "",
    ) -> Response:
        """The documents of a collection, without their contents."""
        limit = -1 if max_documents is None else max_documents
        return json_response(
            await index.documents(namespace, collection, starts_with=starts_with, limit=limit)
        )

    @routes.put(f"{documents}/{{name}}", **_creates("put_document", _DOCUMENT))
    async def put_document(
        request: Request, namespace: _Namespace, collection: _Collection, name: _Name
    ) -> Response:
        """Store a document. It is safe at once, and is indexed in the background."""
        document = await _body(request, parts, NewDocument)
        put = await index.put(DocumentPath(namespace, collection, name), document)
        return _created(put.changed and put.version == 1)

    @routes.get(f"{documents}/{{name}}", **_answers("get_document", _DOCUMENT))
    async def document(namespace: _Namespace, collection: _Collection, name: _Name) -> Response:
        """A document as it was put."""
        return json_response(await index.stored(DocumentPath(namespace, collection, name)))

    @routes.delete(f"{documents}/{{name}}", **_empties("delete_document"))
    async def delete_document(
        namespace: _Namespace, collection: _Collection, name: _Name
    ) -> Response:
        """Delete a document."""
        await index.delete(DocumentPath(namespace, collection, name))
        return Response(status_code=204)

    @routes.get(
        f"{documents}/{{name}}/indexes/{{index_name}}/chunks",
        **_answers("list_chunks", [_SECTION]),
    )
    async def chunks(
        namespace: _Namespace, collection: _Collection, name: _Name, index_name: _Index
    ) -> Response:
        """The sections into which an index has cut a document."""
        path = DocumentPath(namespace, collection, name)
        found = await index.sections(path, index_name)
        return json_response(
            [
                _section(
                    each.path,
                    each.section.text,
                    TextCursor(each.section.item, each.section.start),
                    TextCursor(each.section.item, each.section.end),
                )
                for each in found
            ]
        )


def _add_assigned(routes: APIRouter, parts: DocumentRoutes) -> None:
    index = parts.index
    indexes = "/collections/{namespace}/{collection}/indexes"

    @routes.get(indexes, **_answers("list_assigned_indexes", ["default"]))
    async def assigned(namespace: _Namespace, collection: _Collection) -> Response:
        """The indexes of a collection."""
        return json_response(await index.assigned(namespace, collection))

    @routes.get(f"{indexes}/{{index_name}}", **_answers("index_status", _STATUS))
    async def status(
        namespace: _Namespace, collection: _Collection, index_name: _Index
    ) -> Response:
        """How far an index of a collection is."""
        return json_response(await index.status(IndexPath(namespace, collection, index_name)))

    @routes.put(f"{indexes}/{{index_name}}", **_creates("assign_index"))
    async def assign(
        namespace: _Namespace, collection: _Collection, index_name: _Index
    ) -> Response:
        """Give a collection an index of its namespace: all its documents are indexed."""
        return _created(await index.assign(IndexPath(namespace, collection, index_name)))

    @routes.delete(f"{indexes}/{{index_name}}", **_empties("unassign_index"))
    async def unassign(
        namespace: _Namespace, collection: _Collection, index_name: _Index
    ) -> Response:
        """Take an index off a collection."""
        await index.unassign(IndexPath(namespace, collection, index_name))
        return Response(status_code=204)

    caller_of = Security(parts.token)

    @routes.post(
        f"{indexes}/{{index_name}}/search", **_answers("search_collection", [_HIT], _SEARCH)
    )
    async def search(
        request: Request,
        namespace: _Namespace,
        collection: _Collection,
        index_name: _Index,
        caller: Caller = caller_of,
    ) -> Response:
        """The sections that fit a query best."""
        body = await _body(request, parts, _Search)
        filters = _metadata_filters(body.filters)
        if filters is None:
            return json_response([])
        found = await index.search(
            SearchRequest(
                index_path=IndexPath(namespace, collection, index_name),
                query=_query_text(body.query),
                max_results=body.max_results,
                min_score=body.min_score,
                filters=filters,
            ),
            CallContext(token=caller.token, trace_headers=caller.trace_headers),
        )
        return json_response(
            [
                _section(each.document_path, each.content, each.start, each.end)
                | {"score": each.score}
                for each in found
            ]
        )


# --- bodies ---------------------------------------------------------------------------------------


async def _body(request: Request, parts: DocumentRoutes, shape: type[T]) -> T:
    headers = dict(request.scope["headers"])
    body = await read_json(headers, request.receive, parts.max_body_size)
    return _converted(lambda: msgspec.json.decode(body, type=shape))


def _converted(convert: Callable[[], T]) -> T:
    try:
        return convert()
    except msgspec.ValidationError as error:
        raise InvalidCsiRequest(f"The body does not have the right shape: {error}.") from None


class _NewIndex(Struct, kw_only=True):
    chunk_size: int
    chunk_overlap: int = 0
    chunk_unit: str = "tokens"
    hybrid_index: str | None = None
    embedding: SemanticEmbedding | InstructableEmbedding | None = None
    embedding_type: Literal["symmetric", "asymmetric"] | None = None
    """Of older clients, instead of ``embedding``."""


def _config(body: _NewIndex, default_model: str | None) -> IndexConfig:
    fields: dict[str, Any] = {
        name: getattr(body, name)
        for name in ("chunk_size", "chunk_overlap", "chunk_unit", "hybrid_index")
    }
    if body.embedding is not None:
        fields["embedding"] = body.embedding
    elif body.embedding_type is not None and default_model is not None:
        fields["embedding"] = SemanticEmbedding(default_model, body.embedding_type)
    else:
        raise InvalidCsiRequest(
            "`embedding` is missing: it says which model makes the vectors of the index."
        )
    return _converted(lambda: msgspec.convert(msgspec.to_builtins(fields), type=IndexConfig))


def _shown(config: IndexConfig) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(config)
    if isinstance(config.embedding, SemanticEmbedding):
        shown["embedding_type"] = config.embedding.representation
    return shown


class _Item(Struct, forbid_unknown_fields=True):
    metadata: MetadataCondition | None = None
    modality: Literal["text", "image"] | None = None


class _Filter(Struct, kw_only=True, forbid_unknown_fields=True, rename={"with_": "with"}):
    without: list[_Item] | None = None
    with_one_of: list[_Item] | None = None
    with_: list[_Item] | None = None


class _Search(Struct, kw_only=True):
    query: list[TextItem]
    max_results: Annotated[int, msgspec.Meta(ge=0)] = 1
    min_score: float | None = None
    filters: list[_Filter] = []


def _query_text(query: list[TextItem]) -> str:
    if len(query) != 1:
        raise InvalidCsiRequest(f"`query` must be one text, but has {len(query)} items.")
    return query[0].text


def _metadata_filters(filters: list[_Filter]) -> list[SearchFilter] | None:
    """The demands on metadata; none if those on modality can't be met, for all sections are
    text."""
    found = []
    for each in filters:
        items = {
            name: items
            for name in ("without", "with_one_of", "with_")
            if (items := getattr(each, name)) is not None
        }
        if len(items) != 1:
            raise InvalidCsiRequest(
                "A filter has exactly one of `without`, `with_one_of` and `with`."
            )
        name, given = next(iter(items.items()))
        if _needs_nothing_else(name, given):
            continue
        if _cannot_be_met(name, given):
            return None
        rest = [FilterItem(item.metadata) for item in given if item.metadata is not None]
        found.append(SearchFilter(**{name: rest}))
    return found


def _needs_nothing_else(name: str, items: list[_Item]) -> bool:
    return name == "with_one_of" and any(item.modality == "text" for item in items)


def _cannot_be_met(name: str, items: list[_Item]) -> bool:
    unwanted = {"without": "text", "with_": "image"}.get(name)
    return any(item.modality == unwanted for item in items) if unwanted else False


# --- answers --------------------------------------------------------------------------------------


def _section(path: DocumentPath, text: str, start: TextCursor, end: TextCursor) -> dict[str, Any]:
    return {
        "document_path": path,
        "section": [{"modality": "text", "text": text}],
        "start": {"modality": "text", "item": start.item, "position": start.position},
        "end": {"modality": "text", "item": end.item, "position": end.position},
    }


def _created(new: bool) -> Response:
    return Response(status_code=201 if new else 204)


def _answers(operation: str, example: Any, body: Any = None) -> dict[str, Any]:
    content = {"application/json": {"schema": {}, "example": example}}
    return _route(
        operation, {200: {"description": "What was asked for.", "content": content}}, body
    )


def _creates(operation: str, body: Any = None) -> dict[str, Any]:
    responses = {201: {"description": "It is new."}, 204: {"description": "It existed."}}
    return {**_route(operation, responses, body), "status_code": 201}


def _empties(operation: str) -> dict[str, Any]:
    return {**_route(operation, {204: {"description": "Done."}}, None), "status_code": 204}


def _route(operation: str, responses: dict[Any, Any], body: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}, "example": body}}
    extra = {"requestBody": {"required": True, "content": content}} if body is not None else None
    return {
        "operation_id": operation,
        "response_class": Response,
        "responses": {**responses, **problem_answers()},
        "openapi_extra": extra,
    }
