"""(k) the built-in document index with embedded Qdrant: ingestion, and search as it grows."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from benchmarks import client, corpus
from benchmarks.bench import Bench
from benchmarks.embeddings import SIZE
from benchmarks.figures import median, percentile
from benchmarks.processes import MB, Kernel, Server, running_embeddings, running_kernel
from benchmarks.table import Row, milliseconds

_MODEL = "embedder"
_SECTIONS = 10
"""Of each document: paragraphs of which no two fit into one section."""
_PARAGRAPH = 450
_CHUNKING = {
    "characters": {"chunk_unit": "characters", "chunk_size": 500},
    "tokens": {"chunk_unit": "tokens", "chunk_size": 200},
}
_GROWING = "growing"
"""The collection that is searched, and its index."""
_CONNECTIONS = 8
_WARM_UP = 10
_SLICE = 500
"""Documents that are sent before the index is waited for."""
_INDEXED_SECONDS = 300.0
_OPEN_SECONDS = 120.0
_POLL = 0.02
_FEWEST = 5
"""Searches of each kind, even if they take longer than ``_SEARCH_SECONDS``."""
_SEARCH_SECONDS = 6.0
_ADEQUATE = 0.1
_RESULTS = 10
_TOPICS = 10
"""A filter that asks for one of them leaves a tenth of the sections."""


class _Ingested(Struct):
    documents: int
    acknowledged: float
    """Seconds until all were safe."""
    seconds: float
    """Until all could be found."""
    stall: float
    processor: dict[str, float]
    """Seconds by process."""


class _Searches(Struct):
    seconds: list[float]
    stall: float

    @property
    def p50(self) -> float:
        return median(self.seconds)


class _Searched(Struct):
    sections: int
    plain: _Searches
    filtered: _Searches


def measure(bench: Bench) -> list[Row]:
    sizes = [10_000] if bench.quick else [1_000, 10_000, 50_000]
    with (
        tempfile.TemporaryDirectory(prefix="bench-documents-") as folder,
        running_embeddings() as embeddings,
    ):
        place = _Place(Path(folder), embeddings)
        with place.kernel(bench) as kernel:
            _wait_until_open(kernel)
            ingested = _ingest_both(bench, kernel, embeddings)
            _create(bench, kernel, _GROWING, "characters")
            searched = [_grow_and_search(bench, kernel, size) for size in sizes]
            memory = kernel.memory()[0]
        started = _restart(bench, place)
    return [
        *(_ingestion_row(unit, each) for unit, each in ingested.items()),
        *(row for each in searched for row in _search_rows(each)),
        *_limit_rows(searched),
        _size_row(sizes[-1], memory, started),
    ]


# --- the kernel -----------------------------------------------------------------------------------


class _Place(Struct):
    """What kernels with the same documents have in common."""

    folder: Path
    embeddings: Server

    @contextmanager
    def kernel(self, bench: Bench) -> Iterator[Kernel]:
        """It is ready, which its document index may not be yet."""
        tokenizer = self.folder / "tokenizer.json"
        if not tokenizer.exists():
            corpus.write_tokenizer(tokenizer)
        settings = {
            "DOCUMENT_INDEX__DIRECTORY": str(self.folder / "index"),
            f"TOKENIZERS__{_MODEL.upper()}": str(tokenizer),
        }
        with (
            bench.skills() as none,
            running_kernel(
                none, engines=1, llm=self.embeddings.address, settings=settings, watched=True
            ) as kernel,
        ):
            yield kernel


def _wait_until_open(kernel: Kernel) -> None:
    deadline = time.monotonic() + _OPEN_SECONDS
    while kernel.get("/namespaces")[0] != 200:
        if time.monotonic() > deadline:
            raise TimeoutError("the document index was not opened in time")
        time.sleep(_POLL)


def _restart(bench: Bench, place: _Place) -> tuple[float, float]:
    """Seconds from the start of the process until it is ready, and until a search is answered."""
    bench.say("k: the index is opened again")
    began = time.perf_counter()
    with place.kernel(bench) as kernel:
        ready = time.perf_counter() - began
        _wait_until_open(kernel)
        bench.client(client.answer, kernel.address, "/csi/v2/search", _search_body({}))
        return ready, time.perf_counter() - began


# --- ingestion ------------------------------------------------------------------------------------


def _ingest_both(bench: Bench, kernel: Kernel, embeddings: Server) -> dict[str, _Ingested]:
    count = bench.times(100, 30)
    ingested = {}
    for unit in _CHUNKING:
        _create(bench, kernel, unit, unit)
        # Starts processes and opens connections.
        _ingest(bench, kernel, unit, _requests(kernel, unit, range(_WARM_UP)))
        bench.say(f"k: {count} documents cut by {unit}")
        requests = _requests(kernel, unit, range(_WARM_UP, _WARM_UP + count))
        kernel.longest_stall()
        before = _processor(kernel, embeddings)
        began = time.perf_counter()
        acknowledged = _ingest(bench, kernel, unit, requests)
        seconds = time.perf_counter() - began
        after = _processor(kernel, embeddings)
        used = {name: after[name] - before[name] for name in after}
        stall = kernel.longest_stall()[0]
        ingested[unit] = _Ingested(count, acknowledged, seconds, stall, used)
    return ingested


def _create(bench: Bench, kernel: Kernel, name: str, unit: str) -> None:
    """A collection and its index, both of that name."""
    embedding = {"strategy": "semantic_embed", "model_name": _MODEL, "representation": "symmetric"}
    config = {**_CHUNKING[unit], "chunk_overlap": 0, "hybrid_index": None, "embedding": embedding}
    for path, body in (
        (f"/collections/bench/{name}", {}),
        (f"/indexes/bench/{name}", config),
        (f"/collections/bench/{name}/indexes/{name}", {}),
    ):
        bench.client(client.answer, kernel.address, path, json.dumps(body).encode(), "PUT")


def _requests(kernel: Kernel, name: str, numbers: Iterable[int]) -> list[bytes]:
    return [
        client.message(
            "PUT", kernel.address, f"/collections/bench/{name}/docs/{number}", _document(number)
        )
        for number in numbers
    ]


def _ingest(bench: Bench, kernel: Kernel, name: str, requests: list[bytes]) -> float:
    """Put documents and wait until they can be found; seconds until all were acknowledged."""
    load = bench.client(client.deliver, kernel.address, requests, _CONNECTIONS)
    deadline = time.monotonic() + _INDEXED_SECONDS
    while (pending := kernel.get(f"/collections/bench/{name}/progress")[1]) != 0:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{pending} documents were not indexed in time")
        time.sleep(_POLL)
    return load.seconds


def _document(number: int) -> bytes:
    paragraphs = (
        " ".join(corpus.passage(number * _SECTIONS + place, _PARAGRAPH).split())
        for place in range(_SECTIONS)
    )
    metadata = {"number": number, "topic": number % _TOPICS, "tags": ["benchmark", "document"]}
    contents = [{"modality": "text", "text": "\n\n".join(paragraphs)}]
    return json.dumps({"schema_version": "V1", "contents": contents, "metadata": metadata}).encode()


def _processor(kernel: Kernel, embeddings: Server) -> dict[str, float]:
    return {
        "kernel": kernel.processor_seconds()[0],
        "splitters": kernel.processor_seconds_of_workers(),
        "embedding server": embeddings.processor_seconds(),
    }


def _ingestion_row(unit: str, ingested: _Ingested) -> Row:
    count = ingested.documents
    rate = count / ingested.seconds
    used = {name: seconds / count * 1e3 for name, seconds in ingested.processor.items()}
    shown = ", ".join(f"{name} {value:.1f}" for name, value in used.items())
    return Row(
        key="k",
        what=f"ingestion of documents of {_SECTIONS} sections cut by {unit}, {SIZE} dimensions",
        result=f"{rate:.1f} documents/s; ms of processor per document: {shown}",
        ratio=f"acknowledged {count / ingested.acknowledged:.0f}/s; "
        f"longest stall {milliseconds(ingested.stall)}",
        values={
            "per_second": rate,
            "acknowledged_per_second": count / ingested.acknowledged,
            "stall_ms": ingested.stall * 1e3,
        }
        | {f"{name.replace(' ', '_')}_cpu_ms": value for name, value in used.items()},
    )


# --- search ---------------------------------------------------------------------------------------


def _grow_and_search(bench: Bench, kernel: Kernel, size: int) -> _Searched:
    status = f"/collections/bench/{_GROWING}/indexes/{_GROWING}"
    present = kernel.get(status)[1]["documents"]
    for start in range(present, size // _SECTIONS, _SLICE):
        bench.say(f"k: {start * _SECTIONS} of {size} sections")
        numbers = range(start, min(start + _SLICE, size // _SECTIONS))
        _ingest(bench, kernel, _GROWING, _requests(kernel, _GROWING, numbers))
    sections = kernel.get(status)[1]["sections"]
    if sections != size:
        raise AssertionError(f"there are {sections} sections instead of {size}")
    bench.say(f"k: searching {size} sections")
    filtered = {"filters": [{"with": [{"metadata": {"field": "topic", "equal_to": 3}}]}]}
    return _Searched(size, _search(bench, kernel, {}), _search(bench, kernel, filtered))


def _search(bench: Bench, kernel: Kernel, more: dict[str, Any]) -> _Searches:
    body = _search_body(more)
    bench.client(client.answer, kernel.address, "/csi/v2/search", body)
    first = bench.client(client.single, kernel.address, "/csi/v2/search", body)
    count = max(_FEWEST, min(bench.times(30, 10), round(_SEARCH_SECONDS / first)))
    kernel.longest_stall()
    seconds = bench.client(client.latencies, kernel.address, "/csi/v2/search", body, count)
    return _Searches(seconds, kernel.longest_stall()[0])


def _search_body(more: dict[str, Any]) -> bytes:
    path = {"namespace": "bench", "collection": _GROWING, "index": _GROWING}
    search = {"index_path": path, "query": "How does an assert statement work?", "filters": []}
    return json.dumps([search | {"max_results": _RESULTS, "min_score": None} | more]).encode()


def _search_rows(searched: _Searched) -> Iterator[Row]:
    for what, searches in (
        ("without a filter", searched.plain),
        (f"with one that leaves 1/{_TOPICS}", searched.filtered),
    ):
        yield Row(
            key="k",
            what=f"search in {searched.sections:,} sections {what}",
            result=f"p50 {milliseconds(searches.p50)}, "
            f"p99 {milliseconds(percentile(searches.seconds, 0.99))}",
            ratio=f"longest stall {milliseconds(searches.stall)}",
            values={
                "p50_ms": searches.p50 * 1e3,
                "stall_ms": searches.stall * 1e3,
                "sections": searched.sections,
            },
        )


def _limit_rows(searched: list[_Searched]) -> Iterator[Row]:
    """Where the median reaches what is still adequate, on the line through the last two sizes."""
    if len(searched) < 2:
        return
    sizes = [each.sections for each in searched]
    for what, medians in (
        ("without a filter", [each.plain.p50 for each in searched]),
        ("with one", [each.filtered.p50 for each in searched]),
    ):
        limit = _reaches(_ADEQUATE, sizes, medians)
        yield Row(
            key="k",
            what=f"embedded mode is adequate (p50 <= {_ADEQUATE * 1e3:.0f} ms) {what}",
            result=f"up to about {limit:,.0f} sections",
            values={"sections": limit},
        )


def _reaches(wanted: float, sizes: list[int], medians: list[float]) -> float:
    """The size at which the median is ``wanted``, from the line through its neighbours."""
    after = next((n for n, value in enumerate(medians[1:-1], 1) if value >= wanted), -1)
    before = after - 1
    slope = (medians[after] - medians[before]) / (sizes[after] - sizes[before])
    return max(0.0, sizes[before] + (wanted - medians[before]) / slope)


def _size_row(sections: int, memory: float, started: tuple[float, float]) -> Row:
    ready, answered = started
    return Row(
        key="k",
        what=f"restart with {sections:,} sections to the first answered search",
        result=f"{answered:.2f} s; ready after {ready:.2f} s",
        ratio=f"PSS of the kernel process before: {memory / MB:.0f} MB",
        values={"seconds": answered, "ready_seconds": ready, "memory_mb": memory / MB},
    )
