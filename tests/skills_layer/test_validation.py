"""The process that checks inputs; a real one."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from pharia_kernel.skills.validation import InputValidator
from pharia_kernel.skills.validator_worker import pointer, violations


def exponential(depth: int) -> bytes:
    """A small schema that takes 2 ** depth steps."""
    twice: dict[str, Any] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(depth)
    }
    twice[f"d{depth}"] = {"type": "integer"}
    return json.dumps({"$defs": twice, "$ref": "#/$defs/d0"}).encode()


@pytest.fixture
async def validator() -> AsyncGenerator[InputValidator, None]:
    made = InputValidator(time_limit=0.5)
    yield made
    await made.close()


async def test_many_at_once(validator: InputValidator) -> None:
    schema = b'{"type": "integer", "maximum": 10}'
    found = await asyncio.gather(
        *(validator.violations(schema, str(n).encode()) for n in range(20))
    )
    assert [len(errors) for errors in found] == [0] * 11 + [1] * 9


async def test_a_schema_that_takes_too_long_is_given_up_and_others_go_on(
    validator: InputValidator,
) -> None:
    hostile, healthy = exponential(60), b'{"type": "integer"}'
    slow, quick = await asyncio.gather(
        validator.violations(hostile, b"1"), validator.violations(healthy, b'"x"')
    )
    assert slow == []
    assert quick == [{"path": "", "message": '"x" is not of type "integer"'}]
    async with asyncio.timeout(0.4):
        assert await validator.violations(hostile, b"1") == []


async def test_a_caller_that_leaves_does_not_disturb_the_next(validator: InputValidator) -> None:
    schema = b'{"type": "integer"}'
    await validator.violations(schema, b"1")
    first = asyncio.create_task(validator.violations(schema, b'"' + b"x" * 1_000_000 + b'"'))
    await asyncio.sleep(0)
    first.cancel()
    assert await validator.violations(schema, b"1") == []


@pytest.mark.parametrize(
    "instance",
    [
        b"1e999",
        *(b"[" * depth + b"]" * depth for depth in (900, 5_000, 15_000, 100_000)),
        *(b'{"a":' * depth + b"{}" + b"}" * depth for depth in (260, 5_000, 15_000, 100_000)),
    ],
    ids=lambda instance: f"{instance[:6].decode()} {len(instance)}",
)
async def test_an_odd_input_does_not_end_the_checks_of_others(
    validator: InputValidator, instance: bytes
) -> None:
    schema = b'{"type": "object", "properties": {"a": {"$ref": "#"}}}'
    assert await validator.violations(schema, instance) == []
    assert len(await validator.violations(schema, b"1")) == 1


async def test_a_killed_process_is_replaced(validator: InputValidator) -> None:
    assert await validator.violations(b'{"type": "string"}', b"1")
    assert validator._process
    validator._process.kill()
    await validator._process.wait()
    assert await validator.violations(b'{"type": "integer"}', b"1") == []
    assert await validator.violations(b'{"type": "boolean"}', b"1")


def test_long_messages_and_lists_are_cut() -> None:
    (error,) = violations(b'{"type": "integer"}', b'"' + b"x" * 100_000 + b'"') or []
    assert len(error["message"]) < 400
    many = violations(b'{"items": {"type": "integer"}}', json.dumps(["x"] * 1000).encode())
    assert many and len(many) == 20


@pytest.mark.parametrize("schema", [b'{"$ref": "#/nowhere"}', b'{"type": 5}', b"{"])
def test_schemas_that_cannot_be_used(schema: bytes) -> None:
    assert violations(schema, b"1") is None


def test_references_elsewhere_are_not_followed() -> None:
    schema = b'{"properties": {"a": {"$ref": "http://127.0.0.1:9/x"}, "b": {"type": "integer"}}}'
    assert violations(schema, b'{"a": 1, "b": 2}') == []
    assert violations(schema, b'{"a": 1, "b": ""}')


def test_catastrophic_patterns_end() -> None:
    assert violations(b'{"pattern": "^(a|aa)+(?=b)$"}', b'"' + b"a" * 5000 + b'"') is not None


def test_pointer() -> None:
    assert pointer([]) == ""
    assert pointer(["a/b", 0, "~"]) == "/a~1b/0/~0"
