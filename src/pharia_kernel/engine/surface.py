"""What a guest may import, and which exports make it a skill: the host's side of the WIT texts
under ``wit/``.

A line (``0.3``) is served by one definition at its newest version: wasmtime matches versions that
are compatible by semantic versioning, so a component that was built for ``0.3.5`` finds ``0.3.11``.
"""

from __future__ import annotations

from typing import Literal

PACKAGE = "pharia:skill"

NEWEST = {"0.2": "0.2.10", "0.3": "0.3.11", "0.4": "0.4.0", "0.5": "0.5.0"}
"""Line -> newest version that can be run."""

_COMMON = {
    "chunking": ["chunk", "chunk-with-offsets"],
    "document-index": ["search", "documents", "document-metadata"],
    "language": ["select-language"],
    "tool": ["invoke-tool", "list-tools"],
}
_STREAMS = {
    "completion-stream": "next",
    "chat-stream": "next",
}

_FUNCTIONS: dict[str, dict[str, list[str]]] = {
    "0.2": {
        "csi": [
            "complete",
            "complete-return-special-tokens",
            "complete-all",
            "chat",
            "chunk",
            "select-language",
            "search",
            "document-metadata",
            "documents",
        ]
    },
    "0.3": {**_COMMON, "inference": ["explain", "complete", "complete-v2", "chat"]},
    "0.4": {**_COMMON, "inference": ["complete", "chat"]},
    "0.5": {**_COMMON, "inference": ["complete", "chat"]},
}

STREAM_OUTPUT = "stream-output"

FunctionKind = Literal["call", "open", "next", "write"]


def interface_name(line: str, interface: str) -> str:
    """Name in a component's imports and exports: ``pharia:skill/inference@0.3.11``."""
    return f"{PACKAGE}/{interface}@{NEWEST[line]}"


def functions(line: str) -> dict[str, dict[str, FunctionKind]]:
    """Interface -> function as it is named in a component -> what kind of call it is."""
    result: dict[str, dict[str, FunctionKind]] = {
        interface: dict.fromkeys(names, "call") for interface, names in _FUNCTIONS[line].items()
    }
    if line != "0.2":
        for resource, method in _STREAMS.items():
            result["inference"][f"[constructor]{resource}"] = "open"
            result["inference"][f"[method]{resource}.{method}"] = "next"
        result["streaming-output"] = {f"[method]{STREAM_OUTPUT}.write": "write"}
    return result


def resources(line: str) -> dict[str, list[str]]:
    """Interface -> its resources."""
    if line == "0.2":
        return {}
    return {"inference": list(_STREAMS), "streaming-output": [STREAM_OUTPUT]}


_WASI = {
    "cli": [
        "environment",
        "exit",
        "stdin",
        "stdout",
        "stderr",
        "terminal-input",
        "terminal-output",
        "terminal-stdin",
        "terminal-stdout",
        "terminal-stderr",
    ],
    "clocks": ["monotonic-clock", "wall-clock", "timezone"],
    "filesystem": ["preopens", "types"],
    "io": ["error", "poll", "streams"],
    "random": ["random", "insecure", "insecure-seed"],
    "sockets": [
        "instance-network",
        "ip-name-lookup",
        "network",
        "tcp",
        "tcp-create-socket",
        "udp",
        "udp-create-socket",
    ],
}

WASI_INTERFACES = frozenset(
    f"wasi:{package}/{interface}" for package, names in _WASI.items() for interface in names
)
"""WASI 0.2 interfaces that are linked. What they give is empty but for clocks and randomness."""
