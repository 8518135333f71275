"""What to do about packages that don't work in a component."""

from __future__ import annotations

_NO_NETWORK = "a component has no network; ask models, documents and tools through `csi`"
_NO_ARRAYS = "do small calculations in plain Python, and large ones in a tool of the namespace"
_NO_COMPILED = "use a pure-Python package, or call a tool of the namespace that does this work"

_ADVICE = {
    "aiohttp": _NO_NETWORK,
    "httpx": _NO_NETWORK,
    "requests": _NO_NETWORK,
    "urllib3": _NO_NETWORK,
    "openai": _NO_NETWORK,
    "grpc": _NO_NETWORK,
    "ssl": _NO_NETWORK,
    "_ssl": _NO_NETWORK,
    "socket": _NO_NETWORK,
    "_socket": _NO_NETWORK,
    "numpy": _NO_ARRAYS,
    "pandas": _NO_ARRAYS,
    "scipy": _NO_ARRAYS,
    "torch": "call a model through `csi`",
    "transformers": "call a model through `csi`",
    "tokenizers": "let the kernel split texts: `csi.chunk`",
    "lingua": "let the kernel tell languages: `csi.select_language`",
    "qdrant_client": "let the kernel search: `csi.search`",
    "orjson": "use the standard library's `json`",
    "ujson": "use the standard library's `json`",
    "msgspec": "use dataclasses; this SDK validates them",
    "lxml": "use the standard library's `xml.etree.ElementTree`",
    "regex": "use the standard library's `re`",
    "zlib": "something that compresses or speaks HTTP was imported; " + _NO_NETWORK,
    "subprocess": "a component can't start processes; call a tool of the namespace",
    "_posixsubprocess": "a component can't start processes; call a tool of the namespace",
    "multiprocessing": "a component has one process; the `_concurrent` calls of `csi` run at once",
    "_multiprocessing": "a component has one process; the `_concurrent` calls of `csi` run at once",
    "ctypes": "a component can't load libraries",
    "_ctypes": "a component can't load libraries",
}


def advice(module: str) -> str:
    """What to do instead of importing the module, as the end of a sentence."""
    return _ADVICE.get(module.partition(".")[0], _NO_COMPILED)
