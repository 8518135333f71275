"""Skills that real toolchains built, over HTTP: functions that need no model."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from tests.support.kernel import KernelProcess, problem, until

GREETERS = ("greet", "greet_02", "greet_js")


@pytest.mark.parametrize("skill", GREETERS)
async def test_a_skill_of_each_toolchain_answers(kernel: KernelProcess, skill: str) -> None:
    response = await kernel.run(skill, {"name": "Zoë"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == "Hello Zoë"


@pytest.mark.parametrize("skill", GREETERS)
async def test_a_skill_says_that_its_input_is_invalid(kernel: KernelProcess, skill: str) -> None:
    response = await kernel.run(skill, {"nobody": "here"})
    assert problem(response) == (400, "invalid_input")
    assert response.json()["skill"] == f"dev/{skill}"


async def test_a_mebibyte_of_json_goes_in_and_out(kernel: KernelProcess) -> None:
    numbers = random.Random(1)
    value = {
        "text": "Grüße, 世界 \U0001f30d" * 40_000,
        "numbers": [numbers.random() for _ in range(20_000)],
        "nested": [[None, True, {"": []}]] * 5_000,
    }
    response = await kernel.run("echo", value)
    assert len(response.request.content) > 1 << 20
    assert response.json() == value


async def test_many_mebibytes_go_in_and_out(kernel: KernelProcess) -> None:
    value = "x" * (12 << 20)
    assert (await kernel.run("echo", value)).json() == value


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False, 1.5, "\u0000\U0010ffff"])
async def test_any_json_value_is_an_input(kernel: KernelProcess, value: object) -> None:
    response = await kernel.run("echo", value)
    assert (response.status_code, response.json()) == (200, value)


async def test_what_a_skill_prints_is_in_the_log_with_its_name(kernel: KernelProcess) -> None:
    assert (await kernel.run("printer", {"lines": 2, "text": "mark-7f"})).json() == "printed"

    async def lines() -> list[tuple[str, str, str]]:
        return [
            (entry["skill"], entry["channel"], entry["message"])
            for entry in kernel.entries()
            if "mark-7f" in entry["message"]
        ]

    found = await until(lines, "the output is in the log")
    assert sorted(found) == [
        ("dev/printer", "stderr", "[dev/printer] mark-7f 0 to stderr"),
        ("dev/printer", "stderr", "[dev/printer] mark-7f 1 to stderr"),
        ("dev/printer", "stdout", "[dev/printer] mark-7f 0 to stdout"),
        ("dev/printer", "stdout", "[dev/printer] mark-7f 1 to stdout"),
    ]


async def test_a_skill_that_prints_too_much_still_answers(kernel: KernelProcess) -> None:
    response = await kernel.run("printer", {"lines": 300, "text": "flood-3c " + "x" * 400})
    assert (response.status_code, response.json()) == (200, "printed")
    kept = sum(len(m) for m in kernel.messages() if "flood-3c" in m)
    assert 0 < kept < 200_000


async def test_a_guest_waits_on_its_own_clock(kernel: KernelProcess) -> None:
    assert (await kernel.run("sleeper", {"seconds": 0.2})).json() == "slept"


# --- metadata and listings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skill", "description", "version", "kind", "schemas"),
    [
        ("greet", "Greets a person by name.", "0.3", "function", True),
        ("greet_js", "Greets a person by name, from JavaScript.", "0.3", "function", True),
        ("greet_02", None, None, "function", False),
        ("chat_04", "One chat with every parameter there is.", "0.4", "function", True),
        ("stream_chat", None, "0.3", "message_stream", False),
        ("stream_05", None, "0.5", "message_stream", False),
    ],
)
async def test_metadata(
    kernel: KernelProcess,
    skill: str,
    description: str | None,
    version: str | None,
    kind: str,
    schemas: bool,
) -> None:
    metadata = (await kernel.metadata(skill)).json()
    assert list(metadata) == [
        "description",
        "version",
        "skill_type",
        "input_schema",
        "output_schema",
    ]
    assert (metadata["description"], metadata["version"]) == (description, version)
    assert metadata["skill_type"] == kind
    assert isinstance(metadata["input_schema"], dict) is schemas
    assert isinstance(metadata["output_schema"], dict) is schemas


async def test_the_schema_of_a_skill_is_its_own(kernel: KernelProcess) -> None:
    schema = (await kernel.metadata("greet")).json()["input_schema"]
    assert schema["required"] == ["name"]
    assert schema["properties"]["name"]["minLength"] == 1


async def test_the_listing_is_sorted_strings(kernel: KernelProcess) -> None:
    listing = (await kernel.client.get("/v1/skills")).json()
    assert {f"dev/{name}" for name in GREETERS} < set(listing)
    assert listing == sorted(listing)
    assert (await kernel.client.get("/skills")).json() == listing


async def test_the_detailed_listing_tells_what_serves(
    kernel: KernelProcess, components: dict[str, Path]
) -> None:
    wasm = components["greet_02"].read_bytes()
    detail = await kernel.detail("greet_02")
    assert detail
    assert detail["last_check"] and detail["since"]
    assert detail | {"last_check": None, "since": None} == {
        "path": "dev/greet_02",
        "status": "ready",
        "type": "programmable",
        "kind": "function",
        "wit_version": "0.2.10",
        "description": None,
        "digest": f"sha256:{hashlib.sha256(wasm).hexdigest()}",
        "size": len(wasm),
        "sandboxed": True,
        "updating_to": None,
        "error": None,
        "tag": "latest",
        "manifest_digest": None,
        "signed_by": None,
        "generation": 1,
        "state": "serving",
        "since": None,
        "settings": {
            "run_timeout": None,
            "memory_limit": None,
            "max_runs": None,
            "allowed_tools": None,
        },
        "last_check": None,
        "next_attempt": None,
    }


# --- the wrong way to call ------------------------------------------------------------------------


async def test_a_function_does_not_stream(kernel: KernelProcess) -> None:
    stream = await kernel.stream("greet", {"name": "x"})
    assert problem(stream.response) == (409, "wrong_skill_kind")
    assert "/v1/skills/dev/greet/run" in stream.response.json()["detail"]


async def test_a_stream_does_not_run(kernel: KernelProcess) -> None:
    response = await kernel.run("stream_chat", {})
    assert problem(response) == (409, "wrong_skill_kind")
    assert "/v1/skills/dev/stream_chat/message-stream" in response.json()["detail"]


async def test_an_unknown_skill_is_not_found_on_any_route(kernel: KernelProcess) -> None:
    for path in ("dev/no-such-skill", "no-such-namespace/greet"):
        stream = await kernel.stream(path, {})
        for response in (await kernel.run(path), await kernel.metadata(path), stream.response):
            assert problem(response) == (404, "skill_not_found")


async def test_tools_are_listed(kernel: KernelProcess) -> None:
    tools = (await kernel.client.get("/v1/tools/dev")).json()
    assert [tool["name"] for tool in tools] == ["add", "saboteur", "subtract"]
    assert tools[0]["input_schema"]["required"] == ["a", "b"]
    assert problem(await kernel.client.get("/v1/tools/nowhere")) == (404, "not_found")
