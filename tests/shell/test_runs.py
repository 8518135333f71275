"""``/run``, and what it shares with ``/message-stream``."""

from __future__ import annotations

import asyncio
import gzip
import logging
import zlib
from collections.abc import AsyncIterator

import httpx
import pytest

from pharia_kernel import errors
from pharia_kernel.skills.paths import SkillPath
from tests.shell.support import (
    JSON,
    TRACE_ID,
    TRACEPARENT,
    Hanging,
    MemorySkills,
    Settings,
    app_of,
    drop,
    echo,
    listening,
    post_raw,
    raises,
    returns,
    running,
    within,
)

RUN = "/v1/skills/dev/greet/run"


async def test_output_goes_out_as_it_is(client: httpx.AsyncClient, skills: MemorySkills) -> None:
    output = '{ "text":"Grüße",\n "n": 1.0e5}'.encode()
    skills.runs["greet"] = returns(output)
    response = await client.post(RUN, json={})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.content == output


async def test_skill_gets_path_body_and_caller(
    client: httpx.AsyncClient, skills: MemorySkills
) -> None:
    skills.runs["greet"] = echo
    body = b' {"name" : "Ada"} '
    await client.post(
        RUN,
        content=body,
        headers={
            "Content-Type": "application/vnd.api+json; charset=utf-8",
            "Authorization": "bearer abc.def",
            "traceparent": TRACEPARENT,
            "tracestate": "vendor=1",
        },
    )
    [(path, got, caller)] = skills.calls
    assert path == SkillPath("dev", "greet")
    assert got == body
    assert caller.token == "abc.def"
    assert caller.trace_headers == {"traceparent": TRACEPARENT, "tracestate": "vendor=1"}


@pytest.mark.parametrize("authorization", ["Basic dXNlcjpwdw==", "Bearer", "BearerX abc", ""])
async def test_other_authorization_is_ignored_when_authorization_is_off(
    client: httpx.AsyncClient, skills: MemorySkills, authorization: str
) -> None:
    skills.runs["greet"] = echo
    response = await client.post(RUN, json=1, headers={"Authorization": authorization})
    assert response.status_code == 200
    assert skills.calls[0][2].token is None


@pytest.mark.parametrize("body", [b"null", b"3", b'"text"', b"[]", b"{}", b"true"])
async def test_input_is_any_json_value(
    client: httpx.AsyncClient, skills: MemorySkills, body: bytes
) -> None:
    skills.runs["greet"] = echo
    assert (await client.post(RUN, content=body, headers=JSON)).content == body


@pytest.mark.parametrize(
    ("name", "decoded"),
    [
        ("my%20skill", "my skill"),
        ("gr%C3%BC%C3%9Fe", "grüße"),
        ("a%252Fb", "a%2Fb"),
        ("v1.2", "v1.2"),
    ],
)
async def test_names_are_percent_decoded_once(
    client: httpx.AsyncClient, skills: MemorySkills, name: str, decoded: str
) -> None:
    skills.runs[decoded] = echo
    response = await client.post(f"/v1/skills/dev/{name}/run", json=1)
    assert response.status_code == 200
    assert skills.calls[0][0].name == decoded


@pytest.mark.parametrize(
    "path", ["dev/a%2Fb/run", "dev/greet%2Frun", "dev%2fgreet/run", "dev//run"]
)
async def test_names_contain_no_separator(client: httpx.AsyncClient, path: str) -> None:
    async with client.stream("POST", f"/v1/skills/{path}", json=1) as response:
        await response.aread()
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("Dev/greet", "invalid_namespace"),
        ("de--v/greet", "invalid_namespace"),
        ("dev/%ff", "bad_request"),
    ],
)
async def test_wrong_path_is_refused(client: httpx.AsyncClient, path: str, code: str) -> None:
    response = await client.post(f"/v1/skills/{path}/run", json=1)
    assert response.status_code == 400
    assert response.json()["code"] == code


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/jsonx", "text/x+json"])
async def test_body_must_be_declared_as_json(
    client: httpx.AsyncClient, content_type: str | None
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await client.post(RUN, content=b"{}", headers=headers)
    assert response.status_code == 415
    assert "application/json" in response.json()["detail"]


async def test_wrong_json_is_refused_with_its_position(client: httpx.AsyncClient) -> None:
    response = await client.post(RUN, content=b'{"a":}', headers=JSON)
    assert response.status_code == 400
    assert response.json()["code"] == "invalid_json"
    assert "byte 5" in response.json()["detail"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_only_post_runs(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, RUN)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


async def _chunks(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * size


async def test_body_limit_by_content_length_and_while_reading(skills: MemorySkills) -> None:
    skills.runs["greet"] = echo
    async with running(app_of(skills, settings=Settings(max_body_size=1000))) as client:
        fits = await client.post(RUN, content=b"1" * 1000, headers=JSON)
        declared = await client.post(RUN, content=b"1" * 1001, headers=JSON)
        chunked = await client.post(RUN, content=_chunks(11, 100), headers=JSON)
    assert fits.status_code == 200
    for response in (declared, chunked):
        assert response.status_code == 413
        assert response.json()["code"] == "payload_too_large"
        assert "1000 bytes" in response.json()["detail"]


async def test_too_large_body_is_refused_before_it_is_sent(skills: MemorySkills) -> None:
    async with listening(app_of(skills, settings=Settings(max_body_size=10))) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/skills/dev/greet/run HTTP/1.1\r\nHost: kernel\r\n"
            b"Content-Type: application/json\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n"
        )
        status = await within(reader.readline())
        await drop(writer)
    assert status.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("coding", "compressed"),
    [
        ("gzip", gzip.compress(b'{"a": 1}', mtime=0)),
        ("deflate", zlib.compress(b'{"a": 1}')),
        ("deflate", zlib.compress(b'{"a": 1}')[2:-4]),
    ],
)
async def test_body_may_be_compressed(
    client: httpx.AsyncClient, skills: MemorySkills, coding: str, compressed: bytes
) -> None:
    skills.runs["greet"] = echo
    response = await client.post(
        RUN, content=compressed, headers={**JSON, "Content-Encoding": coding}
    )
    assert response.content == b'{"a": 1}'


async def test_body_limit_holds_after_decompression(client: httpx.AsyncClient) -> None:
    bomb = gzip.compress(b" " * (Settings().max_body_size + 1))
    response = await client.post(RUN, content=bomb, headers={**JSON, "Content-Encoding": "gzip"})
    assert response.status_code == 413


async def test_unknown_compression_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post(RUN, content=b"x", headers={**JSON, "Content-Encoding": "br"})
    assert response.status_code == 415
    assert "gzip" in response.json()["detail"]


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.SkillNotFound("which?"), {}),
        (errors.SkillFailed("no such city"), {}),
        (errors.WrongSkillKind("stream it"), {}),
        (errors.Overloaded("full", retry_after=1.2), {"retry-after": "2"}),
        (errors.TokenRequired("whose?"), {"www-authenticate": "Bearer"}),
        (errors.RunTimedOut("600 s"), {}),
        (errors.SkillCrashed("unreachable", skill="dev/greet"), {}),
    ],
)
async def test_errors_are_problems(
    client: httpx.AsyncClient,
    skills: MemorySkills,
    error: errors.KernelError,
    headers: dict[str, str],
) -> None:
    skills.runs["greet"] = raises(error)
    response = await client.post(RUN, json=1, headers={"traceparent": TRACEPARENT})
    assert response.status_code == error.status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {**error.problem(), "trace_id": TRACE_ID}
    assert headers.items() <= response.headers.items()


async def test_unexpected_error_is_logged_and_not_shown(
    client: httpx.AsyncClient, skills: MemorySkills, caplog: pytest.LogCaptureFixture
) -> None:
    skills.runs["greet"] = raises(ZeroDivisionError("password is hunter2"))
    with caplog.at_level(logging.ERROR):
        response = await client.post(RUN, json=1)
    assert response.status_code == 500
    assert response.json()["code"] == "internal_error"
    assert "hunter2" not in response.text
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.exc_info and record.exc_info[0] is ZeroDivisionError


async def test_disconnect_cancels_the_run(skills: MemorySkills) -> None:
    hanging = Hanging()
    skills.runs["hang"] = hanging
    async with listening(app_of(skills)) as port:
        before = asyncio.all_tasks()
        _, writer = await post_raw(port, "/v1/skills/dev/hang/run")
        await within(hanging.started.wait())
        await drop(writer)
        await within(hanging.ended.wait())
        await within(_only(before))
    assert isinstance(hanging.outcome, asyncio.CancelledError)


async def test_answered_run_leaves_no_task(client: httpx.AsyncClient, skills: MemorySkills) -> None:
    skills.runs["greet"] = echo
    before = asyncio.all_tasks()
    await client.post(RUN, json=1)
    await within(_only(before))


async def _only(tasks: set[asyncio.Task[object]]) -> None:
    """Return when no other task than these is left."""
    while rest := asyncio.all_tasks() - tasks - {asyncio.current_task()}:
        await asyncio.wait(rest)
        await asyncio.sleep(0)


async def test_disconnect_while_the_body_is_sent(
    skills: MemorySkills, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(app_of(skills)) as port:
        before = asyncio.all_tasks()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/skills/dev/greet/run HTTP/1.1\r\nHost: kernel\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        await drop(writer)
        await within(_only(before))
    assert skills.calls == []
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_runs_are_concurrent_and_one_disconnect_cancels_one(skills: MemorySkills) -> None:
    first, second = Hanging(), Hanging()
    skills.runs |= {"first": first, "second": second, "greet": echo}
    async with listening(app_of(skills)) as port:
        _, dropped = await post_raw(port, "/v1/skills/dev/first/run")
        _, kept = await post_raw(port, "/v1/skills/dev/second/run")
        await within(first.started.wait())
        await within(second.started.wait())
        await drop(dropped)
        await within(first.ended.wait())
        assert not second.ended.is_set()
        await drop(kept)
        await within(second.ended.wait())
