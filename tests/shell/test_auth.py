from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from pharia_kernel.errors import AuthorizationUnavailable, Forbidden, Unauthenticated
from pharia_kernel.shell.auth import AllowAll, IamAuthorizer, authorizer
from pharia_kernel.skills.types import Caller
from tests.shell.support import (
    TRACEPARENT,
    MemorySkills,
    app_of,
    echo,
    listening,
    post_raw,
    running,
    within,
)

GRANTED = '{"permissions": [{"permission": "KernelAccess"}], "other": 1}'
CALLER = Caller(token="abc", trace_headers={"traceparent": TRACEPARENT})

Answer = Callable[[], Awaitable[web.StreamResponse]]


class Iam:
    """A scripted authorization service."""

    def __init__(self) -> None:
        self.requests: list[tuple[web.Request, object]] = []
        self.answers: list[Answer] = []
        app = web.Application()
        app.router.add_post("/check_user", self._check_user)
        self.server = TestServer(app)

    def says(self, status: int, text: str) -> None:
        async def answer() -> web.StreamResponse:
            return web.Response(status=status, text=text, content_type="application/json")

        self.answers.append(answer)

    def resets(self) -> None:
        async def answer() -> web.StreamResponse:
            transport = self.requests[-1][0].transport
            assert transport is not None
            transport.close()
            return web.Response()

        self.answers.append(answer)

    def hangs(self) -> None:
        async def answer() -> web.StreamResponse:
            await asyncio.Event().wait()
            return web.Response()

        self.answers.append(answer)

    async def _check_user(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request, await request.json()))
        return await self.answers.pop(0)()


@pytest.fixture
async def iam() -> AsyncIterator[Iam]:
    iam = Iam()
    await iam.server.start_server()
    yield iam
    await iam.server.close()


@pytest.fixture
async def checker(iam: Iam) -> AsyncIterator[IamAuthorizer]:
    checker = IamAuthorizer(str(iam.server.make_url("/")))
    yield checker
    await checker.close()


async def test_without_url_everybody_passes() -> None:
    for url in (None, ""):
        checker = authorizer(url)
        assert isinstance(checker, AllowAll)
        await checker.check(Caller())
        await checker.close()


async def test_iam_is_asked_with_the_token(iam: Iam, checker: IamAuthorizer) -> None:
    iam.says(200, GRANTED)
    await checker.check(CALLER)
    [(request, question)] = iam.requests
    assert question == {"permissions": [{"permission": "KernelAccess"}]}
    assert request.headers["Authorization"] == "Bearer abc"
    assert request.headers["traceparent"] == TRACEPARENT
    assert request.content_type == "application/json"


async def test_iam_is_not_asked_without_a_token(iam: Iam, checker: IamAuthorizer) -> None:
    with pytest.raises(Unauthenticated, match="Bearer token expected"):
        await checker.check(Caller())
    assert iam.requests == []


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (401, ""),
        (403, ""),
        (200, '{"permissions": []}'),
        (200, '{"permissions": [{"permission": "Other"}]}'),
    ],
)
async def test_refusal(iam: Iam, checker: IamAuthorizer, status: int, answer: str) -> None:
    iam.says(status, answer)
    with pytest.raises(Forbidden, match="Bearer token invalid"):
        await checker.check(CALLER)


@pytest.mark.parametrize(
    ("status", "answer"), [(500, GRANTED), (404, GRANTED), (302, GRANTED), (200, "{"), (200, "[]")]
)
async def test_unusable_answer(
    iam: Iam, checker: IamAuthorizer, status: int, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    iam.says(status, answer)
    with pytest.raises(AuthorizationUnavailable) as caught:
        await checker.check(CALLER)
    assert str(iam.server.port) not in caught.value.detail
    assert str(iam.server.port) in caplog.text
    assert len(iam.requests) == 1


async def test_broken_connection_is_retried_once(iam: Iam, checker: IamAuthorizer) -> None:
    iam.resets()
    iam.says(200, GRANTED)
    await checker.check(CALLER)
    iam.resets()
    iam.resets()
    with pytest.raises(AuthorizationUnavailable):
        await checker.check(CALLER)
    assert iam.answers == []


async def test_unreachable_service() -> None:
    checker = IamAuthorizer(f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(AuthorizationUnavailable):
        await checker.check(CALLER)
    await checker.close()


async def test_slow_service(iam: Iam, caplog: pytest.LogCaptureFixture) -> None:
    iam.hangs()
    checker = IamAuthorizer(str(iam.server.make_url("/")), timeout=0.05)
    with pytest.raises(AuthorizationUnavailable):
        await checker.check(CALLER)
    assert "no answer within 0.05 s" in caplog.text
    await checker.close()


@pytest.fixture
async def guarded(skills: MemorySkills, checker: IamAuthorizer) -> AsyncIterator[httpx.AsyncClient]:
    skills.runs["greet"] = echo
    async with running(app_of(skills, auth=checker)) as client:
        yield client


PROTECTED = [
    ("GET", "/v1/skills"),
    ("GET", "/skills"),
    ("POST", "/v1/skills/dev/greet/run"),
    ("POST", "/v1/skills/dev/greet/message-stream"),
    ("GET", "/v1/skills/dev/greet/metadata"),
    ("GET", "/v1/tools/dev"),
    ("GET", "/v1/mcp_servers/dev"),
    ("GET", "/cached_skills"),
    ("DELETE", "/cached_skills/dev/greet"),
]


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic dXNlcjpwdw=="}])
async def test_protected_routes_want_a_token(
    guarded: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> None:
    response = await guarded.request(method, path, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["code"] == "unauthenticated"


@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_protected_routes_ask_iam(
    guarded: httpx.AsyncClient, iam: Iam, method: str, path: str
) -> None:
    iam.says(403, "")
    response = await guarded.request(method, path, headers={"Authorization": "Bearer abc"})
    assert response.status_code == 403
    assert response.json()["code"] == "forbidden"


@pytest.mark.parametrize(
    "path", ["/", "/health", "/ready", "/openapi.json", "/api-docs", "/skill.wit"]
)
async def test_open_routes_do_not(guarded: httpx.AsyncClient, path: str) -> None:
    assert (await guarded.get(path)).status_code == 200


async def test_permitted_caller_runs(guarded: httpx.AsyncClient, iam: Iam) -> None:
    iam.says(200, GRANTED)
    response = await guarded.post(
        "/v1/skills/dev/greet/run", json=1, headers={"Authorization": "Bearer abc"}
    )
    assert response.json() == 1


async def test_caller_is_checked_before_the_body_is_read(
    skills: MemorySkills, checker: IamAuthorizer
) -> None:
    async with listening(app_of(skills, auth=checker)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/skills/dev/greet/run HTTP/1.1\r\nHost: kernel\r\nContent-Length: 9\r\n\r\n"
        )
        assert (await within(reader.readline())).startswith(b"HTTP/1.1 401 ")
        writer.close()


async def test_refused_request_keeps_its_connection(
    skills: MemorySkills, checker: IamAuthorizer
) -> None:
    async with listening(app_of(skills, auth=checker)) as port:
        reader, writer = await post_raw(port, "/v1/skills/dev/greet/run", b"[1]")
        assert b"401" in await within(reader.readuntil(b"}"))
        writer.write(b"GET /health HTTP/1.1\r\nHost: kernel\r\n\r\n")
        assert (await within(reader.readuntil(b"\r\n\r\nok"))).startswith(b"HTTP/1.1 200 ")
        writer.close()
