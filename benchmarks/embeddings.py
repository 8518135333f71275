"""A fast server with OpenAI's route ``/embeddings``: ``python -m benchmarks.embeddings --port P``.

A vector depends on the text alone and means nothing: what is measured does not depend on it.
"""

from __future__ import annotations

import argparse
import zlib

import msgspec
import numpy as np
from aiohttp import web
from msgspec import Struct

SIZE = 384
"""Numbers per vector."""
_DIGITS = 7


class _Asked(Struct):
    input: list[str]


_asked = msgspec.json.Decoder(_Asked)


def _vector(text: str) -> list[float]:
    numbers = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(SIZE)
    unit: list[float] = np.round(numbers / np.linalg.norm(numbers), _DIGITS).tolist()
    return unit


async def _embed(request: web.Request) -> web.Response:
    texts = _asked.decode(await request.read()).input
    data = [
        {"object": "embedding", "index": place, "embedding": _vector(text)}
        for place, text in enumerate(texts)
    ]
    return web.Response(
        body=msgspec.json.encode({"object": "list", "data": data}), content_type="application/json"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/embeddings", _embed)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main()
