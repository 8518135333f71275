"""Small skills to publish, and the commands that do it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import wasmtime
from typer.testing import CliRunner, Result

from pharia_kernel_sdk.build import wasm
from pharia_kernel_sdk.build.component import METADATA_SECTION
from pharia_kernel_sdk.cli.main import app
from tests.skills import hostile

METADATA: dict[str, Any] = {
    "kind": "function",
    "name": "greet",
    "description": "Grüßt.",
    "input_schema": {"type": "object", "properties": {"name": {"type": "string"}}},
    "output_schema": {"type": "string"},
    "sdk": "0.1.0",
    "wit_version": "0.4.0",
}


def component(answer: str, metadata: dict[str, Any] | None = METADATA) -> bytes:
    """A function skill that always returns this JSON, with what our build notes in it."""
    text = answer.encode()
    run = f"(call $ok (i32.const {hostile.TEXT}) (i32.const {len(text)}))"
    made = bytes(wasmtime.wat2wasm(hostile.function_skill(run, text=text)))
    if metadata is None:
        return made
    return made + wasm.custom(METADATA_SECTION, json.dumps(metadata).encode()).encode()


def written(folder: Path, content: bytes, name: str = "greet.wasm") -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


def sdk(*arguments: object, env: dict[str, str | None] | None = None, input: str = "") -> Result:
    """``pharia-sdk`` with these arguments."""
    return CliRunner().invoke(app, [str(each) for each in arguments], env=env, input=input)


def published(*arguments: object, **options: Any) -> dict[str, Any]:
    """What ``pharia-sdk publish`` did."""
    result = sdk("publish", *arguments, "--json", **options)
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer
