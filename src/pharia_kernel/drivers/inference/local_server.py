"""A process that serves one GGUF model with llama.cpp's own OpenAI-compatible server.

``python -m pharia_kernel.drivers.inference.local_server``: the first line of standard input is the
configuration as JSON (``Options``), the first line of standard output the address. It ends when
standard input is closed.
"""

from __future__ import annotations

import sys
from typing import Literal

import msgspec
from msgspec import Struct

Pooling = Literal["model", "mean", "last", "cls"]

_POOLING = {"model": "UNSPECIFIED", "mean": "MEAN", "last": "LAST", "cls": "CLS"}


class Options(Struct, kw_only=True):
    model_file: str
    alias: str
    """Name that requests give as model."""
    token: str
    parallel: int
    """Requests generated at once; they share the context."""
    context: int
    """Tokens of context for each of them."""
    threads: int
    pooling: Pooling | None
    """How the vectors of a text's tokens become one; none: no embeddings."""


def main() -> None:
    options = msgspec.json.decode(sys.stdin.buffer.readline(), type=Options)
    import xllamacpp  # type: ignore[import-untyped]

    params = xllamacpp.CommonParams()
    params.model.path = options.model_file
    params.model_alias = {options.alias}
    params.api_keys = [options.token]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    if options.pooling:
        params.embedding = True  # beside chat and completions
        kind = f"LLAMA_POOLING_TYPE_{_POOLING[options.pooling]}"
        params.pooling_type = getattr(xllamacpp.llama_pooling_type, kind)
    params.n_parallel = options.parallel
    params.n_ctx = options.parallel * options.context
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
