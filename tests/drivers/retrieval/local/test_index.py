"""Storing, indexing and searching, with SQLite and Qdrant on disk."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharia_kernel.csi.types import (
    FilterItem,
    ImageModality,
    MetadataCondition,
    SearchFilter,
    TextCursor,
    TextModality,
)
from pharia_kernel.drivers.retrieval.local.index import LocalDocumentIndex
from pharia_kernel.drivers.retrieval.local.sections import cut
from pharia_kernel.drivers.retrieval.local.types import (
    ImageItem,
    IndexConfig,
    InstructableEmbedding,
    NewDocument,
    SemanticEmbedding,
    TextItem,
)
from pharia_kernel.errors import (
    CollectionNotFound,
    Conflict,
    DocumentNotFound,
    IndexNotFound,
    InvalidCsiRequest,
    UpstreamRejected,
    UpstreamUnavailable,
)
from tests.drivers.retrieval.support import (
    BY_CHARACTERS,
    CONTEXT,
    DEADLINE,
    MODEL,
    PATH,
    NoChunker,
    WordEmbedders,
    opened,
    path,
    prepare,
    put,
    search,
    settled,
)

HYBRID = msgspec.structs.replace(BY_CHARACTERS, hybrid_index="bm25")


async def test_finds_the_section_and_says_where_it_is(index: LocalDocumentIndex) -> None:
    await prepare(index)
    texts = ["Fische schwimmen im Wasser.", "Öl ist teuer. 🙂 Käse reift im Keller, sagt man hier."]
    await put(index, "facts/a b.md", *texts)
    await put(index, "other", "Nothing of interest.")
    await settled(index)
    (hit,) = await search(index, "Käse reift im Keller", 1)
    assert hit.document_path == path("facts/a b.md")
    assert hit.start.item == hit.end.item == 1
    assert hit.content == texts[1][hit.start.position : hit.end.position + 1]
    assert "Käse" in hit.content
    assert 0.5 < hit.score <= 1.0


async def test_results_are_sorted_bounded_and_good_enough(index: LocalDocumentIndex) -> None:
    await prepare(index)
    for name, text in {"a": "red", "b": "red green", "c": "red green blue"}.items():
        await put(index, name, text)
    await settled(index)
    hits = await search(index, "red")
    assert [hit.document_path.name for hit in hits] == ["a", "b", "c"]
    assert [hit.document_path.name for hit in await search(index, "red", 2)] == ["a", "b"]
    threshold = (hits[0].score + hits[1].score) / 2
    assert [hit.document_path.name for hit in await search(index, "red", min_score=threshold)] == [
        "a"
    ]
    assert await search(index, "red", 0) == []
    assert len(await search(index, "red", 2**32 - 1)) == 3


@pytest.mark.parametrize("config", [BY_CHARACTERS, HYBRID])
async def test_filters(index: LocalDocumentIndex, config: IndexConfig) -> None:
    await prepare(index, config)
    await put(index, "old", "red", metadata={"year": 1999, "tags": [{"n": "x"}]})
    await put(index, "new", "red", metadata={"year": 2020, "tags": [{"n": "y"}]})
    await put(index, "none", "red")
    await settled(index)

    async def names(*filters: SearchFilter) -> list[str]:
        found = await search(index, "red", filters=list(filters))
        return sorted(hit.document_path.name for hit in found)

    new = FilterItem(MetadataCondition(field="year", greater_than=2000))
    tagged = FilterItem(MetadataCondition(field="tags[].n", equal_to="x"))
    assert await names(SearchFilter(with_=[new])) == ["new"]
    assert await names(SearchFilter(without=[new])) == ["none", "old"]
    assert await names(SearchFilter(with_one_of=[new, tagged])) == ["new", "old"]
    assert await names(SearchFilter(without=[new]), SearchFilter(with_=[tagged])) == ["old"]


async def test_hybrid_search_finds_the_rare_word(index: LocalDocumentIndex) -> None:
    await prepare(index, HYBRID)
    await put(index, "a", "the printer model zx81 is here")
    for number in range(20):
        await put(index, f"b{number}", f"the printer is here and there {number}")
    await settled(index)
    # Its meaning is not similar enough for anything, but the keyword counts by itself.
    found = await search(index, "zx81", min_score=1.0)
    assert [hit.document_path.name for hit in found] == ["a"]


async def test_the_same_content_is_no_work(
    index: LocalDocumentIndex, embedders: WordEmbedders
) -> None:
    await prepare(index)
    first = await put(index, "a", "red", metadata={"x": 1, "y": 2})
    await settled(index)
    work = list(embedders.embedded)
    again = await put(index, "a", "red", metadata={"y": 2, "x": 1})
    await settled(index)
    assert (first.changed, again.changed, again.version) == (True, False, 1)
    assert embedders.embedded == work
    changed = await put(index, "a", "red", metadata={"y": 3})
    assert (changed.changed, changed.version) == (True, 2)


async def test_old_version_is_found_until_the_new_one_is_complete(
    index: LocalDocumentIndex, embedders: WordEmbedders
) -> None:
    await prepare(index)
    await put(index, "a", "old red text. " * 20)
    await settled(index)
    embedders.may_go_on.clear()
    embedders.asked.clear()
    await put(index, "a", "new red text. " * 20)
    await asyncio.wait_for(embedders.asked.wait(), DEADLINE)
    contents = "".join(hit.content for hit in await search(index, "red text", 100))
    assert "old" in contents
    assert "new" not in contents
    assert await index.progress(PATH.namespace, PATH.collection) == 1
    embedders.may_go_on.set()
    await settled(index)
    hits = await search(index, "red text", 100)
    assert hits
    assert all("old" not in hit.content for hit in hits)
    status = await index.status(PATH)
    assert (status.pending, status.sections) == (0, len(hits))


async def test_searches_never_see_two_versions(index: LocalDocumentIndex) -> None:
    await prepare(index)
    versions = 8
    await put(index, "a", "version 0 is red. " * 30)
    await settled(index)
    done = asyncio.Event()

    async def change() -> None:
        for version in range(1, versions):
            await put(index, "a", f"version {version} is red. " * 30)
            await settled(index)
        done.set()

    async def look() -> int:
        searches = 0
        while not done.is_set():
            hits = await search(index, "version is red", 200)
            seen = {word for hit in hits for word in hit.content.split() if word.isdigit()}
            assert len(seen) == 1, seen
            searches += 1
        return searches

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        group.create_task(change())
        looking = group.create_task(look())
    assert looking.result() >= versions


async def test_a_change_while_it_is_indexed_is_not_lost(
    index: LocalDocumentIndex, embedders: WordEmbedders
) -> None:
    await prepare(index)
    embedders.may_go_on.clear()
    await put(index, "a", "first")
    await put(index, "b", "other")
    await asyncio.wait_for(embedders.asked.wait(), DEADLINE)
    await put(index, "a", "second")
    await index.delete(path("b"))
    embedders.may_go_on.set()
    await settled(index)
    assert [hit.content for hit in await search(index, "second first other")] == ["second"]


async def test_deleted_is_gone_at_once(index: LocalDocumentIndex) -> None:
    await prepare(index)
    await put(index, "a", "red")
    await put(index, "b", "red")
    await settled(index)
    await index.delete(path("a"))
    assert [hit.document_path.name for hit in await search(index, "red")] == ["b"]
    with pytest.raises(DocumentNotFound, match="`a`"):
        await index.document(path("a"), CONTEXT)
    with pytest.raises(DocumentNotFound):
        await index.delete(path("a"))
    await settled(index)
    assert (await index.status(PATH)).sections == 1
    await index.delete_collection(PATH.namespace, PATH.collection)
    with pytest.raises(CollectionNotFound):
        await search(index, "red")
    await settled(index)
    await prepare(index)
    await settled(index)
    assert await search(index, "red") == []


async def test_documents_and_metadata(index: LocalDocumentIndex) -> None:
    await prepare(index)
    contents: list[TextItem | ImageItem] = [ImageItem("AAAA"), TextItem("red")]
    await index.put(path("a"), NewDocument(contents=contents, metadata=msgspec.Raw(b'{"x": null}')))
    await put(index, "ab", "red")
    document = await index.document(path("a"), CONTEXT)
    assert document.contents == [ImageModality(), TextModality("red")]
    assert document.metadata is not None
    assert msgspec.json.decode(document.metadata) == {"x": None}
    assert await index.document_metadata(path("ab"), CONTEXT) is None
    assert (await index.stored(path("a"))).contents == contents
    await settled(index)
    (hit,) = await search(
        index, "red", 1, filters=[_with(MetadataCondition(field="x", is_null=True))]
    )
    assert hit.start == TextCursor(1, 0)
    listed = await index.documents("dev", "manuals", starts_with="a", limit=-1)
    assert [info.path.name for info in listed] == ["a", "ab"]
    listed = await index.documents("dev", "manuals", starts_with="ab", limit=-1)
    assert [info.path.name for info in listed] == ["ab"]
    assert len(await index.documents("dev", "manuals", limit=1)) == 1


def _with(condition: MetadataCondition) -> SearchFilter:
    return SearchFilter(with_=[FilterItem(condition)])


async def test_an_index_assigned_later_gets_all_documents(index: LocalDocumentIndex) -> None:
    await index.create_collection("dev", "manuals")
    await put(index, "a", "red")
    with pytest.raises(IndexNotFound, match="default"):
        await search(index, "red")
    await prepare(index)
    await settled(index)
    assert len(await search(index, "red")) == 1
    with pytest.raises(Conflict, match="manuals"):
        await index.delete_index("dev", "default")
    with pytest.raises(Conflict, match="another configuration"):
        await index.create_index("dev", "default", HYBRID)
    assert await index.create_index("dev", "default", BY_CHARACTERS) is False
    await index.unassign(PATH)
    await index.delete_index("dev", "default")
    with pytest.raises(IndexNotFound):
        await search(index, "red")
    assert await index.indexes("dev") == []
    assert await index.namespaces() == ["dev"]


async def test_a_document_that_fails_holds_up_no_other(
    index: LocalDocumentIndex, embedders: WordEmbedders
) -> None:
    await prepare(index)
    embedders.may_go_on.clear()
    await put(index, "first", "x")
    await asyncio.wait_for(embedders.asked.wait(), DEADLINE)
    embedders.error, embedders.poison = UpstreamRejected("too long"), "bad"
    for name in ("a", "bad", "c"):
        await put(index, name, f"{name} red")
    embedders.may_go_on.set()
    await settled(index)
    assert {hit.document_path.name for hit in await search(index, "red")} >= {"a", "c"}
    status = await index.status(PATH)
    assert (status.pending, status.failing, status.last_error) == (1, 1, "too long")
    embedders.error = None
    await put(index, "bad", "bad but shorter")
    await settled(index)
    status = await index.status(PATH)
    assert (status.pending, status.failing, status.last_error) == (0, 0, None)


async def test_an_outage_is_survived(index: LocalDocumentIndex, embedders: WordEmbedders) -> None:
    await prepare(index)
    embedders.error, embedders.pause = UpstreamUnavailable("down"), 0.0
    await put(index, "a", "red")
    await asyncio.wait_for(embedders.asked.wait(), DEADLINE)
    assert await index.progress("dev", "manuals") == 1
    embedders.error = None
    await settled(index)
    assert len(await search(index, "red")) == 1


async def test_goes_on_after_a_restart(tmp_path: Path, embedders: WordEmbedders) -> None:
    async with opened(tmp_path, embedders) as index:
        await prepare(index)
        await put(index, "done", "red")
        await settled(index)
        embedders.may_go_on.clear()
        await put(index, "unfinished", "red")
    embedders.may_go_on.set()
    async with opened(tmp_path, embedders) as index:
        await settled(index)
        names = [hit.document_path.name for hit in await search(index, "red")]
    assert sorted(names) == ["done", "unfinished"]


@pytest.mark.parametrize("loss", ["everything", "one"])
async def test_lost_vectors_are_made_anew(
    tmp_path: Path, embedders: WordEmbedders, loss: str
) -> None:
    async with opened(tmp_path, embedders) as index:
        await prepare(index)
        await put(index, "a", "red")
        await put(index, "b", "red")
        await settled(index)
    if loss == "everything":
        shutil.rmtree(tmp_path / "qdrant")
    else:
        (file,) = (tmp_path / "qdrant").rglob("storage.sqlite")
        with closing(sqlite3.connect(file)) as storage, storage:
            assert storage.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            storage.execute("DELETE FROM points WHERE rowid = 1")
    async with opened(tmp_path, embedders) as index:
        await settled(index)
        assert len(await search(index, "red")) == 2


async def test_one_process_at_a_time(tmp_path: Path, embedders: WordEmbedders) -> None:
    async with opened(tmp_path, embedders):
        with pytest.raises(BlockingIOError, match="used by another process"):
            async with opened(tmp_path, embedders):
                pass


async def test_a_model_that_changes_its_vectors_is_noticed(
    index: LocalDocumentIndex, embedders: WordEmbedders
) -> None:
    await prepare(index)
    await put(index, "a", "red")
    await settled(index)
    embedders.size = 7
    with pytest.raises(Exception, match="vectors of 7 numbers"):
        await search(index, "red")
    await put(index, "a", "green")
    await settled(index)
    assert "assign it again" in ((await index.status(PATH)).last_error or "")


async def test_instructions_are_put_in_front(
    index: LocalDocumentIndex, embedders: WordEmbedders
) -> None:
    config = IndexConfig(
        chunk_size=100,
        chunk_unit="characters",
        embedding=InstructableEmbedding(MODEL, document_instruction="passage: "),
    )
    await prepare(index, config)
    await put(index, "a", "red")
    await settled(index)
    assert embedders.embedded == ["passage: red"]
    assert (await search(index, "red"))[0].content == "red"


async def test_an_empty_query_is_refused(index: LocalDocumentIndex) -> None:
    await prepare(index)
    await put(index, "a", "red")
    await settled(index)
    with pytest.raises(InvalidCsiRequest, match="query"):
        await search(index, " \n")


async def test_a_document_without_text_is_indexed(index: LocalDocumentIndex) -> None:
    await prepare(index)
    await put(index, "a", "", "  ")
    await settled(index)
    assert await index.progress("dev", "manuals") == 0
    assert await index.sections(path("a"), "default") == []


@settings(deadline=None)
@given(st.lists(st.text(max_size=200), max_size=3), st.integers(1, 30), st.integers(0, 29))
async def test_sections_slice_the_text_back(texts: list[str], size: int, overlap: int) -> None:
    config = IndexConfig(
        chunk_size=size,
        chunk_overlap=min(overlap, size - 1),
        chunk_unit="characters",
        embedding=SemanticEmbedding(MODEL),
    )
    contents = msgspec.json.encode([TextItem(text) for text in texts])
    for section in await cut(contents, config, NoChunker()):
        assert texts[section.item][section.start : section.end + 1] == section.text
        assert section.text
