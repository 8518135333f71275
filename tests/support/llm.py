"""A real OpenAI-compatible server: llama.cpp's own, on a tiny random model, in a subprocess.

Import the ``llm`` fixture into a ``conftest.py``, or use ``running_llm`` directly.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from tests.support.tiny_gguf import CONTEXT_LENGTH, cached_model

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 60.0
_SLOTS = 8


@dataclass(frozen=True)
class Llm:
    """Where the server listens and what it accepts."""

    url: str
    """Base URL of the OpenAI routes, with ``/v1``."""
    token: str = field(repr=False)
    model: str = "tiny"


@pytest.fixture(scope="session")
def llm() -> Iterator[Llm]:
    with running_llm() as server:
        yield server


@contextlib.contextmanager
def running_llm(*, embeddings: bool = False, token: str | None = None) -> Iterator[Llm]:
    """The server, ready to answer; it ends with the block, or with this process.

    With ``embeddings`` it has OpenAI's route for them too. The token is a random one by default.
    """
    model = cached_model(_ROOT / ".pytest_cache" / "tiny-llm")
    token = token or secrets.token_hex(8)
    command = [sys.executable, "-m", "tests.support.llm", "--model", str(model), "--token", token]
    command += ["--embeddings"] if embeddings else []
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        try:
            address = _address(process, log)
            _wait_until_healthy(address)
            yield Llm(url=f"{address}/v1", token=token)
        finally:
            process.kill()


def _address(process: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    assert process.stdout
    watchdog = threading.Timer(_START_SECONDS, process.kill)
    watchdog.start()
    try:
        address = process.stdout.readline().decode().strip()
    finally:
        watchdog.cancel()
    if not address:
        log.seek(0)
        raise RuntimeError(f"The test model server did not start:\n{log.read().decode()}")
    return address


def _wait_until_healthy(address: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _healthy(address):
        if time.monotonic() > deadline:
            raise RuntimeError(f"The test model server is not healthy after {_START_SECONDS} s")
        time.sleep(0.05)


def _healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _serve(model: str, token: str, embeddings: bool) -> None:
    """Serve on a free loopback port, print the address, end when the standard input is closed."""
    import xllamacpp  # type: ignore[import-untyped]

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {"tiny"}
    params.api_keys = [token]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = _SLOTS
    params.n_ctx = _SLOTS * CONTEXT_LENGTH
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.warmup = False
    if embeddings:
        params.embedding = True
        # Other ways of pooling limit a text to one physical batch.
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=_serve.__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--embeddings", action="store_true")
    arguments = parser.parse_args()
    _serve(arguments.model, arguments.token, arguments.embeddings)
