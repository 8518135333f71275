"""``pharia-kernel documents``: fill and search the document index of a running kernel.

It talks HTTP, because the files of the index belong to the kernel that has them open.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import quote

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

_SUFFIXES = (".md", ".txt")
_UPLOADS_AT_ONCE = 8
_POLL_SECONDS = 0.5
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)

app = typer.Typer(
    help="Fill and search the document index of a running kernel.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they would print the token
)
_out = Console()
_err = Console(stderr=True)

_Collection = Annotated[
    str, typer.Argument(metavar="NAMESPACE/COLLECTION", help="The collection of documents.")
]
_Index = Annotated[str, typer.Argument(metavar="INDEX", help="Name of the index.")]


@app.callback()
def _connect(
    context: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="PHARIA_KERNEL_ADDRESS", help="Where the kernel listens.")
    ] = "http://127.0.0.1:8081",
    token: Annotated[
        str | None, typer.Option(envvar="PHARIA_AI_TOKEN", help="Bearer token, if needed.")
    ] = None,
) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    context.obj = context.with_resource(
        httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT)
    )


@app.command()
def create_collection(context: typer.Context, collection: _Collection) -> None:
    """Create a collection; nothing happens if it exists."""
    created = _request(context.obj, "PUT", _path(collection)).status_code == 201
    _out.print(f"{'created' if created else 'exists'}: {collection}", highlight=False)


@app.command()
def create_index(
    context: typer.Context,
    index: Annotated[str, typer.Argument(metavar="NAMESPACE/INDEX", help="The index.")],
    model: Annotated[str, typer.Option(help="The embedding model.")],
    chunk_size: Annotated[int, typer.Option(help="Longest section.")] = 256,
    chunk_overlap: Annotated[int, typer.Option(help="Repeated in the next section.")] = 0,
    characters: Annotated[
        bool, typer.Option("--characters", help="Count characters instead of tokens.")
    ] = False,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Search by keywords too, not only by meaning.")
    ] = False,
) -> None:
    """Create an index: how documents are cut and embedded."""
    namespace, name = _split(index)
    body = {
        "chunk_size": chunk_size,
        "chunk_overlap": chunk_overlap,
        "chunk_unit": "characters" if characters else "tokens",
        "hybrid_index": "bm25" if hybrid else None,
        "embedding": {"strategy": "semantic_embed", "model_name": model},
    }
    path = f"/indexes/{_quoted(namespace)}/{_quoted(name)}"
    created = _request(context.obj, "PUT", path, json=body).status_code == 201
    _out.print(f"{'created' if created else 'exists'}: {index}", highlight=False)


@app.command()
def assign(context: typer.Context, collection: _Collection, index: _Index) -> None:
    """Have the documents of a collection indexed, those to come too."""
    _request(context.obj, "PUT", f"{_path(collection)}/indexes/{_quoted(index)}")
    _out.print(f"assigned: {index}", highlight=False)


@app.command()
def ingest(
    context: typer.Context,
    collection: _Collection,
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="With the files.")],
    wait: Annotated[bool, typer.Option(help="Wait until everything is indexed.")] = True,
) -> None:
    """Store all .md and .txt files of a folder. Those that have not changed cost nothing."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not files:
        _fail(f"there are no {' or '.join(_SUFFIXES)} files in `{folder}`")
    failures = _upload(context.obj, collection, folder, files)
    if wait:
        _wait_until_indexed(context.obj, collection, len(files))
    _out.print(f"stored: {len(files) - len(failures)} of {len(files)} files", highlight=False)
    for failure in failures:
        _err.print(failure, style="red", highlight=False, markup=False)
    if failures:
        raise typer.Exit(1)


@app.command()
def status(context: typer.Context, collection: _Collection) -> None:
    """Show how far the indexes of a collection are."""
    indexes = _request(context.obj, "GET", f"{_path(collection)}/indexes").json()
    table = Table("index", "documents", "pending", "failing", "sections", "last error")
    for name in indexes:
        path = f"{_path(collection)}/indexes/{_quoted(name)}"
        of_index = _request(context.obj, "GET", path).json()
        columns = ("documents", "pending", "failing", "sections")
        table.add_row(
            name, *(str(of_index[column]) for column in columns), of_index["last_error"] or ""
        )
    _out.print(table)


@app.command()
def search(
    context: typer.Context,
    collection: _Collection,
    index: _Index,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    max_results: Annotated[int, typer.Option(min=1)] = 5,
    min_score: Annotated[float | None, typer.Option()] = None,
) -> None:
    """Show the sections that fit a query best."""
    body = {
        "query": [{"modality": "text", "text": query}],
        "max_results": max_results,
        "min_score": min_score,
    }
    path = f"{_path(collection)}/indexes/{_quoted(index)}/search"
    for hit in _request(context.obj, "POST", path, json=body).json():
        start, end = hit["start"], hit["end"]
        place = f"{start['item']}:{start['position']}-{end['position']}"
        name = hit["document_path"]["name"]
        _out.print(f"{hit['score']:.3f}  {name}  {place}", style="bold", markup=False)
        _out.print(hit["section"][0]["text"], markup=False, highlight=False)


@app.command()
def delete(
    context: typer.Context,
    collection: _Collection,
    name: Annotated[
        str | None, typer.Argument(metavar="[DOCUMENT]", help="All documents if absent.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a document, or a collection with all its documents."""
    if name is None and not yes:
        typer.confirm(f"Delete {collection} with all its documents?", abort=True)
    path = _path(collection) if name is None else f"{_path(collection)}/docs/{_quoted(name)}"
    _request(context.obj, "DELETE", path)
    _out.print(f"deleted: {collection if name is None else name}", highlight=False, markup=False)


# --- ingestion ------------------------------------------------------------------------------------


def _upload(client: httpx.Client, collection: str, folder: Path, files: list[Path]) -> list[str]:
    """Store the files; a sentence for each that could not be."""
    failures = []

    def upload(file: Path) -> str | None:
        name = file.relative_to(folder).as_posix()
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            return f"{file}: {error}"
        body = {
            "schema_version": "V1",
            "contents": [{"modality": "text", "text": text}],
            "metadata": {"file": name},
        }
        try:
            answer = client.put(f"{_path(collection)}/docs/{_quoted(name)}", json=body)
        except httpx.HTTPError as error:
            return f"{file}: {error!r}"
        return None if answer.is_success else f"{file}: {_reason(answer)}"

    with _progress() as progress, ThreadPoolExecutor(_UPLOADS_AT_ONCE) as threads:
        task = progress.add_task("storing", total=len(files))
        for failure in threads.map(upload, files):
            progress.advance(task)
            if failure is not None:
                failures.append(failure)
    return failures


def _wait_until_indexed(client: httpx.Client, collection: str, total: int) -> None:
    """Until all documents are, or only those are left whose indexing fails."""
    with _progress() as progress:
        task = progress.add_task("indexing", total=total)
        while pending := int(_request(client, "GET", f"{_path(collection)}/progress").text):
            progress.update(task, total=max(total, pending), completed=max(0, total - pending))
            failing = _failing(client, collection)
            if failing and failing[0] >= pending:
                _fail(f"{failing[0]} documents are not indexed yet: {failing[1]}")
            time.sleep(_POLL_SECONDS)
        progress.update(task, completed=total, total=total)


def _failing(client: httpx.Client, collection: str) -> tuple[int, str] | None:
    """The number of documents whose indexing failed, and why."""
    for name in _request(client, "GET", f"{_path(collection)}/indexes").json():
        path = f"{_path(collection)}/indexes/{_quoted(name)}"
        found = _request(client, "GET", path).json()
        if found["failing"]:
            return found["failing"], found["last_error"]
    return None


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=_err) as progress:
        yield progress


# --- requests -------------------------------------------------------------------------------------


def _request(client: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response:
    """Ends the program with a message if it fails."""
    try:
        answer = client.request(method, path, **options)
    except httpx.HTTPError as error:
        _fail(f"no answer from {client.base_url}: {error}")
    if not answer.is_success:
        _fail(_reason(answer))
    return answer


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return f"the kernel answered with status {answer.status_code}"


def _path(collection: str) -> str:
    namespace, name = _split(collection)
    return f"/collections/{_quoted(namespace)}/{_quoted(name)}"


def _split(path: str) -> tuple[str, str]:
    namespace, slash, name = path.partition("/")
    if not (namespace and slash and name):
        _fail(f"`{path}` must be a namespace and a name with a slash between them")
    return namespace, name


def _quoted(part: str) -> str:
    return quote(part, safe="")


def _fail(reason: str) -> NoReturn:
    _err.print(f"error: {reason}", style="red", highlight=False, markup=False)
    raise typer.Exit(2)
