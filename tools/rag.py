"""Answers a question from documents, with citations, and keeps serving.

    QUESTION="What is an engine?" python -m tools.rag

It builds the skill ``examples/rag/ask.py`` if need be, starts a kernel with the built-in document
index, stores the documents in it, and asks the skill. Variables of the environment:

* ``QUESTION``, and ``DOCUMENTS``, a folder of .md and .txt files (by default ``examples/rag``'s).
* ``CHAT_MODEL`` and ``EMBEDDING_MODEL``, of the inference provider that the kernel's own settings
  name, for example ``OPENAI_INFERENCE__URL`` and ``OPENAI_INFERENCE__TOKEN``. Without a provider, a
  tiny model with random weights is used for both.

State is kept in the folder ``.rag``: documents that have not changed are not embedded again.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import typer

from pharia_kernel import documents_cli
from pharia_kernel.config import Settings, load
from tools.examples import EXAMPLES, build_examples
from tools.local_kernel import (
    ADDRESS,
    Client,
    Failure,
    address_of,
    reason_of,
    run_tool,
    running_kernel,
    say,
)

EXAMPLE = EXAMPLES / "rag"
QUESTION = "How does a hybrid index find rare abbreviations?"
STATE = Path(".rag")
NAMESPACE = "rag"
SECTION_LENGTH = 600
"""Characters. Without a tokenizer for every embedding model, tokens would be no better."""


@dataclass(frozen=True)
class Models:
    """Names of the inference provider, and how long an answer may be in tokens."""

    chat: str
    embedding: str
    max_tokens: int = 512


def main() -> int:
    return run_tool(_run)


def _run() -> int:
    question = os.environ.get("QUESTION") or QUESTION
    folder = _documents_folder()
    environ = _environment()
    with _models(environ) as models:
        settings = load(environ=environ)
        listen, address = address_of(settings, "make rag")
        environ["KERNEL_ADDRESS"] = str(listen)
        client = Client(address, environ.get("PHARIA_AI_TOKEN"))
        if settings.authorization_url and not client.token:
            raise Failure("the kernel wants a token (`authorization-url`): set PHARIA_AI_TOKEN")
        build_examples([EXAMPLE / "ask.py"], STATE / "skills")
        with running_kernel(environ, settings, client) as kernel:
            index = Documents(client, folder, models.embedding).ingest()
            _ask(client, models, index, question)
            if _is_attended():
                say(f"Serving on {client.url}; {client.url}/api-docs has all routes. Ctrl-C stops.")
                with suppress(KeyboardInterrupt):
                    return kernel.wait()
    return 0


def _is_attended() -> bool:
    """Whether somebody is there to press Ctrl-C."""
    return os.environ.get("CI") != "true" and sys.stdin is not None and sys.stdin.isatty()


# --- before the kernel starts --------------------------------------------------------------------


def _documents_folder() -> Path:
    folder = Path(os.environ.get("DOCUMENTS") or EXAMPLE / "corpus").expanduser().resolve()
    if not folder.is_dir():
        raise Failure(f"DOCUMENTS is `{folder}`, which is not a folder")
    return folder


def _environment() -> dict[str, str]:
    """What the user configured, completed by the skill's namespace and the document index."""
    environ = dict(os.environ)
    given = load(environ=environ)
    if given.document_index_url:
        raise Failure("`document-index-url` is set, but this fills the built-in index: unset it")
    environ[f"NAMESPACES__{NAMESPACE.upper()}__DIRECTORY"] = str(STATE / "skills")
    if given.document_index is None:
        environ["DOCUMENT_INDEX__DIRECTORY"] = str(STATE / "index")
    if "kernel_address" not in given.model_fields_set:
        environ["KERNEL_ADDRESS"] = ADDRESS
    if "log_level" not in given.model_fields_set:
        environ["LOG_LEVEL"] = "warn"  # else the log gets between the pieces of the answer
    return environ


@contextmanager
def _models(environ: dict[str, str]) -> Iterator[Models]:
    """The user's models; if there are none, those of a server that runs inside of the block and
    is added to ``environ``."""
    settings = load(environ=environ)
    if settings.provider_names:
        yield _named_models(settings)
        return
    from tests.support.llm import running_llm  # needs what only developers have

    say("No model is configured, so a tiny one with random weights is used: its answers are")
    say("gibberish. Searching, streaming and the citations are real.")
    with running_llm(embeddings=True) as server:
        environ["OPENAI_INFERENCE__URL"] = server.url
        environ["OPENAI_INFERENCE__TOKEN"] = server.token
        yield Models(server.model, server.model, max_tokens=60)


def _named_models(settings: Settings) -> Models:
    chat, embedding = os.environ.get("CHAT_MODEL"), os.environ.get("EMBEDDING_MODEL")
    if not embedding and settings.document_index:
        embedding = settings.document_index.embedding_model
    if not chat or not embedding:
        raise Failure(
            "an inference provider is configured; say which of its models to use: "
            "make rag CHAT_MODEL=... EMBEDDING_MODEL=..."
        )
    return Models(chat, embedding)


# --- documents -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Documents:
    """A collection that holds what a folder holds, with an index for one embedding model."""

    client: Client
    folder: Path
    model: str

    def ingest(self) -> dict[str, str]:
        """Bring the collection up to date, with progress; where to search."""
        say(f"Storing the documents of {self.folder} ...")
        self._command("create-collection", self._collection)
        options = ["--model", self.model, "--chunk-size", str(SECTION_LENGTH), "--characters"]
        self._command("create-index", f"{NAMESPACE}/{self._index}", *options, "--hybrid")
        before = self._versions()
        self._remove("indexes", set(self.client.get(f"{self._path}/indexes")) - {self._index})
        self._remove("docs", {name for name in before if not (self.folder / name).is_file()})
        self._command("assign", self._collection, self._index)
        self._command("ingest", self._collection, str(self.folder))
        after = self._versions()
        changed = len(after.items() - before.items())
        status = self.client.get(f"{self._path}/indexes/{quote(self._index, safe='')}")
        say(
            f"The index has {status['sections']} sections of {len(after)} documents; "
            f"{changed} were new or changed."
        )
        return {"namespace": NAMESPACE, "collection": self._name, "index": self._index}

    @property
    def _name(self) -> str:
        return self.folder.name or "documents"

    @property
    def _index(self) -> str:
        """An index can't be changed, so another model gets another one."""
        return f"{self.model}@{SECTION_LENGTH}"

    @property
    def _collection(self) -> str:
        return f"{NAMESPACE}/{self._name}"

    @property
    def _path(self) -> str:
        return f"/collections/{NAMESPACE}/{quote(self._name, safe='')}"

    def _versions(self) -> dict[str, int]:
        listing = self.client.get(f"{self._path}/docs")
        return {document["path"]["name"]: document["version"] for document in listing}

    def _remove(self, kind: str, names: set[str]) -> None:
        """What a former folder or model has left."""
        for name in sorted(names):
            status, body = self.client.request(
                "DELETE", f"{self._path}/{kind}/{quote(name, safe='')}"
            )
            if status >= 300:
                raise Failure(f"`{name}` could not be removed: {reason_of(body)}")

    def _command(self, *arguments: str) -> None:
        """``pharia-kernel documents ...``, in this process."""
        # It honours proxies, for kernels elsewhere; this one is here.
        os.environ["NO_PROXY"] = self.client.address.host
        try:
            status = documents_cli.app(
                ["--url", self.client.url, *arguments], standalone_mode=False
            )
        except typer.Abort:
            raise KeyboardInterrupt from None
        if status:
            raise Failure("the documents could not be ingested; the reason is above")


# --- asking --------------------------------------------------------------------------------------


def _ask(client: Client, models: Models, index: dict[str, str], question: str) -> None:
    print(f"\n{question}\n", flush=True)
    body = {
        "question": question,
        "index": index,
        "model": models.chat,
        "max_tokens": models.max_tokens,
    }
    end = _print_answer(client, body)
    print("\nSections that the model was given:", flush=True)
    for citation in end["citations"]:
        _print_citation(citation)
    print(flush=True)


def _print_answer(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """The payload at the end."""
    started = time.perf_counter()
    times: list[float] = []
    for event in client.events(f"/v1/skills/{NAMESPACE}/ask/message-stream", body):
        data = json.loads(event.data)
        if event.name == b"error":
            print(flush=True)
            raise Failure(f"the skill failed: {data['message']}")
        if data["type"] == "append":
            times.append(time.perf_counter() - started)
            print(data["text"], end="", flush=True)
        elif data["type"] == "end":
            took = time.perf_counter() - started
            first = f", the first after {times[0]:.2f} s" if times else ""
            print(f"\n({len(times)} pieces{first}, {took:.2f} s in all)", flush=True)
            return dict(data["payload"])
    raise Failure("the answer ended too early; the kernel's log says more")


def _print_citation(citation: dict[str, Any]) -> None:
    start, end = citation["start"]["position"], citation["end"]["position"]
    mentioned = ", mentioned" if citation["mentioned"] else ""
    print(
        f"\n[{citation['number']}] {citation['document']}, characters {start} to {end}, "
        f"score {citation['score']:.2f}{mentioned}"
    )
    print(textwrap.indent(citation["text"], "    "), flush=True)


if __name__ == "__main__":
    sys.exit(main())
