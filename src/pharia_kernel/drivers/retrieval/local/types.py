"""What the built-in document index stores and reports."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct

from pharia_kernel.csi.types import DocumentPath

MAX_CHUNK_SIZE = 2046


class SemanticEmbedding(Struct, frozen=True, tag="semantic_embed", tag_field="strategy"):
    model_name: str
    representation: Literal["symmetric", "asymmetric"] = "asymmetric"
    """Whether queries are embedded like documents, or in a way of their own."""


class InstructableEmbedding(Struct, frozen=True, tag="instructable_embed", tag_field="strategy"):
    """The instructions are put in front of the texts as they are, without a separator."""

    model_name: str
    query_instruction: str = ""
    document_instruction: str = ""


class IndexConfig(Struct, frozen=True, kw_only=True):
    """How documents are cut into sections and how those are found."""

    chunk_size: Annotated[int, Meta(ge=1, le=MAX_CHUNK_SIZE)]
    chunk_overlap: Annotated[int, Meta(ge=0)] = 0
    """At most this much of a section is repeated in the next one."""
    chunk_unit: Literal["tokens", "characters"] = "tokens"
    """What the two sizes count; tokens are those of the embedding model."""
    hybrid_index: Literal["bm25"] | None = None
    """Whether keywords count beside the meaning."""
    embedding: SemanticEmbedding | InstructableEmbedding

    def __post_init__(self) -> None:
        if self.chunk_overlap >= self.chunk_size:
            raise ValueError(
                f"`chunk_overlap` ({self.chunk_overlap}) must be less than "
                f"`chunk_size` ({self.chunk_size})"
            )


class TextItem(Struct, tag="text", tag_field="modality"):
    text: str


class ImageItem(Struct, tag="image", tag_field="modality"):
    bytes: str
    """The image in Base64; kept, but not searched."""


class NewDocument(Struct, kw_only=True):
    schema_version: Literal["V1"] = "V1"
    contents: list[TextItem | ImageItem]
    metadata: Raw = Raw(b"null")
    """Any JSON."""


class DocumentInfo(Struct):
    path: DocumentPath
    created_timestamp: str
    """When this version was stored, RFC 3339 in UTC."""
    version: int
    """1 for the first, one more with each change."""


class Section(Struct, frozen=True):
    """A piece of one item of a document."""

    item: int
    start: int
    """First character in the item."""
    end: int
    """Last character in the item, inclusive."""
    text: str


class StoredSection(Struct, frozen=True):
    path: DocumentPath
    section: Section


class IndexStatus(Struct):
    """How far an index of a collection is."""

    documents: int
    pending: int
    """Documents whose current version is not indexed yet."""
    failing: int
    """Those of them whose indexing failed and will be tried again."""
    sections: int
    """That can be found."""
    last_error: str | None
