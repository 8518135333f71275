"""``make rag``, with the small generated model: its answers are random, the rest is not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pharia_kernel.config import Address
from tests.examples.attended import PATIENCE, attended
from tests.support.kernel import ARTIFACTS, parse_events
from tests.support.llm import running_llm
from tools.local_kernel import Client
from tools.rag import EXAMPLE, Documents

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
CORPUS = EXAMPLE / "corpus"
QUESTION = "Surnames, abbreviations, reciprocal rank?"
GERMAN_QUESTION = "Jeder Gast muss Rechenzeit abgeben?"


def environment(**variables: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "KERNEL_ADDRESS": "127.0.0.1:0",
        "METRICS_ADDRESS": "127.0.0.1:0",
        "WASMTIME_CACHE_DIR": str(ARTIFACTS),
        **variables,
    }


def run(directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The tool without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "tools.rag"],
        cwd=directory,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def attended_run(directory: Path, **variables: str) -> AbstractContextManager[str]:
    return attended("tools.rag", directory, environment(**variables), "Serving on ")


def only_in(document: str, question: str) -> bool:
    """Whether no word of the question is in another document of the corpus."""
    others = (file.read_text("utf-8") for file in CORPUS.glob("*.md") if file.name != document)
    words = [set(re.findall(r"\w+", text.casefold())) for text in others]
    return not set().union(*words) & set(re.findall(r"\w+", question.casefold()))


def answer(client: httpx.Client, question: str, collection: str = "corpus") -> tuple[Any, ...]:
    """The pieces of the answer, and the payload at its end."""
    body = {
        "question": question,
        "index": {"namespace": "rag", "collection": collection, "index": "tiny@600"},
        "model": "tiny",
        "max_tokens": 30,
    }
    response = client.post("/v1/skills/rag/ask/message-stream", json=body)
    assert response.status_code == 200, response.text
    (_, begin), *appends, (_, end) = parse_events(response.text)
    assert begin["type"] == "begin"
    assert {data["type"] for _, data in appends} <= {"append"}
    assert end["type"] == "end"
    return [data["text"] for _, data in appends], end["payload"]


def check_citations(pieces: list[str], payload: dict[str, Any]) -> None:
    citations = payload["citations"]
    assert [citation["number"] for citation in citations] == [1, 2, 3, 4]
    scores = [citation["score"] for citation in citations]
    assert scores == sorted(scores, reverse=True)
    for citation in citations:
        original = (CORPUS / citation["document"]).read_text("utf-8")
        start, end = citation["start"], citation["end"]
        assert start["item"] == end["item"] == 0
        assert original[start["position"] : end["position"] + 1] == citation["text"]
        assert citation["mentioned"] == (f"[{citation['number']}]" in "".join(pieces))


def test_ask_serve_and_ask_again(tmp_path: Path) -> None:
    assert only_in("documents.md", QUESTION)
    assert only_in("zeitlimits.md", GERMAN_QUESTION)
    with attended_run(tmp_path, QUESTION=QUESTION) as printed:
        assert "a tiny one with random weights" in printed
        assert "sections of 8 documents; 8 were new or changed." in printed
        assert f"\n{QUESTION}\n" in printed
        found = re.search(r"\((\d+) pieces, the first after", printed)
        assert found and int(found[1]) > 1, printed
        assert re.findall(r"^\[(\d)\] (\S+), characters", printed, re.M)[0] == ("1", "documents.md")
        check_skill(str(re.findall(r"Serving on (\S+);", printed)[0]))

    # A provider of the user's own, and everything is indexed already.
    with running_llm(embeddings=True) as llm:
        again = run(
            tmp_path,
            QUESTION=QUESTION,
            OPENAI_INFERENCE__URL=llm.url,
            OPENAI_INFERENCE__TOKEN=llm.token,
            CHAT_MODEL=llm.model,
            EMBEDDING_MODEL=llm.model,
        )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "random weights" not in again.stdout
    assert "sections of 8 documents; 0 were new or changed." in again.stdout
    assert "\n[1] documents.md, characters " in again.stdout
    assert "Serving on" not in again.stdout


def check_skill(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        pieces, payload = answer(client, GERMAN_QUESTION)
        assert len(pieces) > 1
        assert payload["language"] == "deu"
        assert payload["citations"][0]["document"] == "zeitlimits.md"
        check_citations(pieces, payload)

        # Without documents there is nothing to ask a model about.
        assert client.put("/collections/rag/empty").status_code == 201
        assert client.put("/collections/rag/empty/indexes/tiny@600").status_code == 201
        nothing = answer(client, "What do the documents say?", "empty")
        assert nothing == (
            ["The documents hold nothing on this."],
            {"language": "eng", "citations": []},
        )


def test_a_collection_follows_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "notes"
    shutil.copytree(CORPUS, folder / "a folder")
    with attended_run(tmp_path, DOCUMENTS=str(folder)) as printed:
        assert "8 were new or changed." in printed
        host, port = re.findall(r"Serving on http://(\S+):(\d+);", printed)[0]
        client = Client(Address(host, int(port)), None)
        (folder / "a folder" / "tools.md").unlink()
        (folder / "a folder" / "skills.md").write_text("Now it says something else.")
        (folder / "new.txt").write_text("It was not there before.")

        index = Documents(client, folder, "another/model").ingest()

        assert "sections of 8 documents; 2 were new or changed." in capsys.readouterr().out
        assert index == {"namespace": "rag", "collection": "notes", "index": "another/model@600"}
        assert client.get("/collections/rag/notes/indexes") == ["another/model@600"]
        names = {entry["path"]["name"] for entry in client.get("/collections/rag/notes/docs")}
        assert "new.txt" in names
        assert "a folder/tools.md" not in names
        assert client.get("/collections/rag/notes/progress") == 0


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        (
            {"OPENAI_INFERENCE__URL": "http://127.0.0.1:9", "OPENAI_INFERENCE__TOKEN": "t"},
            "say which of its models to use: make rag CHAT_MODEL=... EMBEDDING_MODEL=...",
        ),
        ({"DOCUMENTS": "nowhere"}, "which is not a folder"),
        ({"DOCUMENT_INDEX_URL": "http://127.0.0.1:9"}, "`document-index-url` is set"),
    ],
)
def test_what_is_missing_is_said_before_anything_starts(
    tmp_path: Path, variables: dict[str, str], reason: str
) -> None:
    result = run(tmp_path, **variables)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert reason in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []
