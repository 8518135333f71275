import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from pharia_kernel.engine.api import EmbeddedMetadata, GuestMetadata, Host
from pharia_kernel.errors import (
    CsiUseFromMetadata,
    EngineLost,
    InputSchemaViolation,
    InvalidMetadata,
    SkillCrashed,
)
from pharia_kernel.skills.chat import ChatSkill
from pharia_kernel.skills.deployment import ComponentSource
from pharia_kernel.skills.metadata import check_schema
from pharia_kernel.skills.nesting import MAX_DEPTH
from pharia_kernel.skills.registry.file import FileRegistry
from pharia_kernel.skills.types import SkillMetadata
from pharia_kernel.skills.validator_worker import violations
from tests.skills_layer.support import (
    CALLER,
    Kernel,
    Settings,
    digest_of,
    error_of,
    eventually,
    kernel,
    parse,
)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "a/b~c": {"type": "array", "items": {"type": "integer", "maximum": 3}},
    },
}


def tells(input_schema: bytes | dict[str, Any] = SCHEMA, output_schema: bytes = b"true") -> Any:
    schema = input_schema if isinstance(input_schema, bytes) else json.dumps(input_schema).encode()

    async def metadata(host: Host) -> GuestMetadata:
        return GuestMetadata("What it does", schema, output_schema)

    return metadata


def deploy(k: Kernel, directory: Path, text: str, metadata: Any = None) -> None:
    (directory / "skill.wasm").write_text(text)
    k.store.configure("dev", {"skill": ComponentSource(FileRegistry(directory), "skill")})
    if metadata:
        k.pool.metadata_answers[text] = metadata


async def metadata_of(k: Kernel) -> dict[str, Any]:
    metadata: SkillMetadata = await k.runtime.metadata(parse("dev/skill"), CALLER)
    decoded: dict[str, Any] = json.loads(msgspec.json.encode(metadata))
    return decoded


# --- metadata -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wit_version", "version"), [("0.3.11", "0.3"), ("0.4.0", "0.4"), ("0.5.0", "0.5")]
)
async def test_functions_describe_themselves(
    tmp_path: Path, wit_version: str, version: str
) -> None:
    async with kernel(wit_version=wit_version) as k:
        deploy(k, tmp_path, "function:1", tells())
        assert await metadata_of(k) == {
            "description": "What it does",
            "version": version,
            "skill_type": "function",
            "input_schema": SCHEMA,
            "output_schema": True,
        }


@pytest.mark.parametrize(
    ("text", "wit_version", "version", "kind"),
    [
        ("function:1", "0.2.10", None, "function"),
        ("stream:1", "0.3.11", "0.3", "message_stream"),
        ("stream:1", "0.5.0", "0.5", "message_stream"),
    ],
)
async def test_others_have_none_of_their_own(
    tmp_path: Path, text: str, wit_version: str, version: str | None, kind: str
) -> None:
    async with kernel(wit_version=wit_version) as k:
        deploy(k, tmp_path, text)
        assert await metadata_of(k) == {
            "description": None,
            "version": version,
            "skill_type": kind,
            "input_schema": None,
            "output_schema": None,
        }


# --- embedded in the component


def embed(k: Kernel, text: str, schema: object = SCHEMA, description: str = "A story.") -> None:
    data = Raw(json.dumps(schema).encode())
    k.compiler.embedded[text] = EmbeddedMetadata(description, data)


@pytest.mark.parametrize(
    ("text", "wit_version", "version", "kind"),
    [
        ("stream:1", "0.4.0", "0.4", "message_stream"),
        ("function:1", "0.2.10", None, "function"),
    ],
)
async def test_without_an_export_the_custom_section_speaks(
    tmp_path: Path, text: str, wit_version: str, version: str | None, kind: str
) -> None:
    async with kernel(wit_version=wit_version) as k:
        embed(k, text)
        deploy(k, tmp_path, text)
        assert await metadata_of(k) == {
            "description": "A story.",
            "version": version,
            "skill_type": kind,
            "input_schema": SCHEMA,
            "output_schema": None,
        }
        assert not k.pool.metadata_calls


async def test_the_export_knows_better(tmp_path: Path) -> None:
    async with kernel() as k:
        embed(k, "function:1", {"type": "null"})
        deploy(k, tmp_path, "function:1", tells())
        metadata = await metadata_of(k)
        assert (metadata["description"], metadata["input_schema"]) == ("What it does", SCHEMA)


async def test_an_embedded_schema_that_is_none_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with kernel() as k:
        embed(k, "stream:1", {"type": "strin"})
        deploy(k, tmp_path, "stream:1")
        for _ in range(2):
            metadata = await metadata_of(k)
            assert (metadata["description"], metadata["input_schema"]) == ("A story.", None)
        warnings = [message for message in caplog.messages if "input schema" in message]
        assert len(warnings) == 1, "once per version"
        assert digest_of("stream:1") in warnings[0] and "`/type`" in warnings[0]


async def test_lists_show_the_beginning_of_the_description(tmp_path: Path) -> None:
    async with kernel() as k:
        embed(k, "stream:1", description="long " * 1000)
        deploy(k, tmp_path, "stream:1")
        await metadata_of(k)
        shown = k.info("dev/skill").description
        assert shown and shown.startswith("long long") and shown.endswith("…")
        assert len(shown) == 1000


async def test_lists_tell_what_hosted_skills_do() -> None:
    async with kernel() as k:
        k.store.configure("dev", {"chat": ChatSkill("1", "tiny", "Be nice.")})
        assert k.info("dev/chat").description == "A chat skill"


async def test_the_guest_is_asked_once_per_version(tmp_path: Path) -> None:
    async with kernel() as k:
        deploy(k, tmp_path, "function:1", tells())
        await asyncio.gather(*(metadata_of(k) for _ in range(10)))
        assert k.pool.metadata_calls["function:1"] == 1


async def test_bugs_are_remembered_and_trouble_is_not(tmp_path: Path) -> None:
    async with kernel() as k:
        errors: list[Exception] = [EngineLost("died"), SkillCrashed("trap")]

        async def metadata(host: Host) -> GuestMetadata:
            raise errors.pop(0)

        deploy(k, tmp_path, "function:1", metadata)
        assert isinstance(await error_of(metadata_of(k)), EngineLost)
        one, two = await error_of(metadata_of(k)), await error_of(metadata_of(k))
        assert isinstance(one, SkillCrashed) and isinstance(two, SkillCrashed)
        assert one.extra["run_id"] != two.extra["run_id"]


async def test_metadata_must_not_use_the_csi(tmp_path: Path) -> None:
    async def metadata(host: Host) -> GuestMetadata:
        await host.call("pharia:skill/inference@0.3.11#chat", b"")
        raise AssertionError("unreachable")

    async with kernel() as k:
        deploy(k, tmp_path, "function:1", metadata)
        error = await error_of(metadata_of(k))
        assert isinstance(error, CsiUseFromMetadata)
        assert error.status == 500


def nested(depth: int) -> bytes:
    return b'{"not":' * depth + b"{}" + b"}" * depth


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        (b"{", "is not JSON"),
        (b"", "is not JSON"),
        (b"5", "is not a JSON Schema"),
        (b'{"maximum": 1e999}', "can't be read: Number out of range"),
        (b"[]", "is not a JSON Schema"),
        (b'{"type": "strin"}', "at `/type`"),
        (b'{"properties": {"a": {"minimum": "x"}}}', "at `/properties/a/minimum`"),
        (b'{"$schema": "http://127.0.0.1:9/mine"}', "unknown dialect"),
        (nested(MAX_DEPTH), "nested too deeply; 250 levels"),
        (nested(100_000), "recursion|[Ss]tack overflow"),
        (b'"' + b"x" * (1 << 20) + b'"', "bytes"),
    ],
)
def test_broken_schemas_say_what_is_wrong(schema: bytes, complaint: str) -> None:
    with pytest.raises(InvalidMetadata, match=complaint):
        check_schema(schema, "input schema")


@pytest.mark.parametrize("depth", [900, 2_000, 20_000, 40_000, 60_000, 80_000])
def test_deep_schemas_are_refused_by_whatever_step_notices(depth: int) -> None:
    """How deep the steps go differs between them, and between versions of Python."""
    with pytest.raises(InvalidMetadata):
        check_schema(nested(depth), "input schema")


def test_as_deep_as_allowed() -> None:
    schema = nested(MAX_DEPTH - 1)
    assert bytes(check_schema(schema, "input schema")) == schema
    assert violations(schema, b"{}") is not None


@pytest.mark.parametrize(
    "schema",
    [
        b'{"$schema":"http://json-schema.org/draft-07/schema#","type":"object"}',
        b'{"$schema":"https://json-schema.org/draft/2020-12/schema"}',
        b'{"$ref":"http://127.0.0.1:9/elsewhere"}',
        b'{"properties":{"a":{"$id":"http://x.invalid/a","$schema":"http://127.0.0.1:9/s"}}}',
    ],
)
def test_valid_schemas_pass_and_nothing_is_fetched(schema: bytes) -> None:
    assert bytes(check_schema(schema, "input schema")) == schema


# --- validation of inputs -------------------------------------------------------------------------


VALIDATING = Settings(validate_input=True)


async def test_inputs_that_fit_pass(tmp_path: Path) -> None:
    async with kernel(settings=VALIDATING) as k:
        deploy(k, tmp_path, "function:1", tells())
        assert await k.run("dev/skill", b'{"name": "x", "a/b~c": [1, 2]}') == "function:1"


async def test_violations_are_precise(tmp_path: Path) -> None:
    async with kernel(settings=VALIDATING) as k:
        deploy(k, tmp_path, "function:1", tells())
        error = await error_of(k.run("dev/skill", b'{"name": 5, "a/b~c": [1, "x", 7]}'))
        assert isinstance(error, InputSchemaViolation)
        assert error.status == 422
        found = {item["path"]: item["message"] for item in error.extra["errors"]}
        assert found == {
            "/name": '5 is not of type "string"',
            "/a~1b~0c/1": '"x" is not of type "integer"',
            "/a~1b~0c/2": "7 is greater than the maximum of 3",
        }

        error = await error_of(k.run("dev/skill", b"{}"))
        assert error.extra["errors"] == [{"path": "", "message": '"name" is a required property'}]
        assert "at its root" in error.detail


async def test_inputs_of_streams_are_checked_before_they_begin(tmp_path: Path) -> None:
    async with kernel(settings=VALIDATING) as k:
        embed(k, "stream:1")
        deploy(k, tmp_path, "stream:1")
        error = await error_of(k.runtime.message_stream(parse("dev/skill"), b"{}", CALLER))
        assert isinstance(error, InputSchemaViolation)
        assert error.status == 422
        body = b'{"name": "x"}'
        events = await k.runtime.message_stream(parse("dev/skill"), body, CALLER)
        assert [event async for event in events] == []


async def test_inputs_are_not_checked_unless_asked_for(tmp_path: Path) -> None:
    async with kernel() as k:
        deploy(k, tmp_path, "function:1", tells())
        assert await k.run("dev/skill", b"5") == "function:1"
        assert not k.pool.metadata_calls


async def test_a_skill_with_broken_metadata_still_runs(tmp_path: Path) -> None:
    async with kernel(settings=VALIDATING) as k:
        deploy(k, tmp_path, "function:1", tells(b"{"))
        assert await k.run("dev/skill") == "function:1"


async def test_the_new_version_brings_its_own_schema(tmp_path: Path) -> None:
    async with kernel(settings=VALIDATING) as k:
        deploy(k, tmp_path, "function:1", tells())
        await error_of(k.run("dev/skill", b"5"))
        k.pool.metadata_answers["function:2"] = tells({"type": "integer"})
        deploy(k, tmp_path, "function:2")
        await eventually(lambda: k.info("dev/skill").digest == digest_of("function:2"))
        assert await k.run("dev/skill", b"5") == "function:2"
