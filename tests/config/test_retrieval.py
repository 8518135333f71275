"""The built-in document index."""

from pathlib import Path

from .conftest import Load, Problems


def test_the_directory_is_enough(load: Load) -> None:
    index = load(DOCUMENT_INDEX__DIRECTORY="documents").document_index
    assert index
    assert index.directory == Path("documents")
    assert (index.embedding_provider, index.embedding_model, index.qdrant_url) == (None, None, None)


def test_it_is_off_by_default(load: Load) -> None:
    assert load().document_index is None


def test_what_is_missing(problems: Problems) -> None:
    assert problems('[document-index]\nembedding-model = "e5"') == [
        "document-index.directory (config.toml): is missing"
    ]


def test_a_key_without_a_server(problems: Problems) -> None:
    found = problems('[document-index]\ndirectory = "d"\nqdrant-api-key = "hunter2"')
    assert found == ["document-index.qdrant-api-key (config.toml): needs `qdrant-url`"]
