"""Settings of the built-in document index."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from pharia_kernel.config.values import HttpUrl, PathValue, Secret, Table, Text, refused


class DocumentIndex(Table):
    """Documents, their sections and vectors, kept by the kernel itself."""

    directory: PathValue
    """For this kernel alone."""
    embedding_provider: Text | None = None
    """Name of the inference provider that embeds; the only suitable one if there is one."""
    embedding_model: Text | None = None
    """For indexes that name no model."""
    qdrant_url: HttpUrl | None = None
    """A Qdrant server or cluster for the vectors; else they are in ``directory`` too."""
    qdrant_api_key: Secret | None = None

    @model_validator(mode="after")
    def _check_qdrant(self) -> Self:
        if self.qdrant_api_key is not None and self.qdrant_url is None:
            raise refused("needs `qdrant-url`", "qdrant-api-key")
        return self
