"""A registry in trouble: a real one behind a proxy that spoils its answers."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web

from pharia_kernel.errors import (
    ArtifactNotFound,
    BadRegistryAnswer,
    RegistryUnauthorized,
    RegistryUnavailable,
    SkillUnavailable,
)
from pharia_kernel.oci.client import BLOB_PLACES, METADATA_PLACES, OciClient
from pharia_kernel.oci.types import Descriptor
from pharia_kernel.resilience import RetryPolicy
from tests.support.components import PATIENCE, eventually
from tests.support.registry import (
    RegistryProcess,
    given,
    push_component,
    running_registry,
    sha256,
    unique,
)
from tests.support.registry_proxy import (
    Fault,
    RegistryProxy,
    answer,
    body,
    cut_short,
    hang,
    in_pieces,
    reset,
    running_proxy,
    status,
    without,
)

CONTENT = os.urandom(200_000)
QUICKLY = RetryPolicy(attempts=3, base=0.02)
SHORT = 0.5
"""Seconds: the time limit where one is to be exceeded."""


@dataclass
class Case:
    proxy: RegistryProxy
    client: OciClient
    repository: str
    digest: str
    """Of the manifest behind the tag ``v1``."""

    async def manifest(self) -> None:
        assert (await self.client.manifest(self.repository, "v1")).digest == self.digest

    async def head(self) -> None:
        assert await self.client.head(self.repository, "v1") == self.digest

    async def blob(self) -> None:
        descriptor = Descriptor("", sha256(CONTENT), len(CONTENT))
        assert await self.client.blob(self.repository, descriptor, 1 << 20) == CONTENT


@asynccontextmanager
async def case_with(registry: RegistryProcess, **options: Any) -> AsyncIterator[Case]:
    async with running_proxy(registry.host) as proxy:
        client, repository = proxy.client(retries=QUICKLY, **options), unique()
        try:
            pusher = registry.client()
            digest = await push_component(pusher, repository, "v1", CONTENT)
            await pusher.close()
            yield Case(proxy, client, repository, digest)
        finally:
            await client.close()


@pytest.fixture
async def case(registry_server: RegistryProcess) -> AsyncIterator[Case]:
    async with case_with(registry_server) as case:
        yield case


@pytest.fixture
async def hasty(registry_server: RegistryProcess) -> AsyncIterator[Case]:
    """With a short time limit."""
    async with case_with(registry_server, timeout=SHORT) as case:
        yield case


# --- trouble that passes -------------------------------------------------------------------------

PASSING = [
    status(500),
    status(503, headers={"Retry-After": "0"}),
    status(429, "TOOMANYREQUESTS", {"Retry-After": formatdate(0, usegmt=True)}),
    status(400, "TOOMANYREQUESTS"),
    reset(),
    cut_short(10),
]


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("what", ["manifest", "blob"])
async def test_brief_trouble_is_overcome(case: Case, what: str, fault: Fault) -> None:
    case.proxy.on("GET", f"/{what}s/", fault, times=1)
    await getattr(case, what)()
    assert len(case.proxy.requests("GET", f"/{what}s/")) == 2


async def test_slowness_is_no_trouble(registry_server: RegistryProcess) -> None:
    """A download may take longer than the time limit as long as something comes."""
    async with case_with(registry_server, timeout=2.0) as case:
        case.proxy.on("GET", "/blobs/", in_pieces(len(CONTENT) // 5, 0.45))
        await case.blob()


# --- trouble that stays --------------------------------------------------------------------------


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("what", ["manifest", "blob"])
async def test_attempts_are_few(case: Case, what: str, fault: Fault) -> None:
    case.proxy.on("GET", f"/{what}s/", fault)
    with pytest.raises(RegistryUnavailable, match=f"the {what} {case.repository}"):
        await getattr(case, what)()
    # The HTTP client itself tries once more where a connection breaks before the answer.
    assert len(case.proxy.requests("GET", f"/{what}s/")) in (3, 6)


async def test_a_long_pause_is_not_waited_for(case: Case) -> None:
    case.proxy.on("GET", "/manifests/", status(429, headers={"Retry-After": "3600"}))
    with pytest.raises(RegistryUnavailable, match="status 429") as caught:
        await case.manifest()
    assert caught.value.retry_after == 3600
    assert len(case.proxy.requests("GET")) == 1


@pytest.mark.parametrize(
    ("fault", "error", "told"),
    [
        (status(404, "MANIFEST_UNKNOWN"), ArtifactNotFound, "does not have the manifest"),
        (status(404, "NAME_UNKNOWN"), ArtifactNotFound, "does not have the manifest"),
        (status(400, "NAME_UNKNOWN"), ArtifactNotFound, "does not have the manifest"),
        (status(404), ArtifactNotFound, "does not have the manifest"),
        (status(401), RegistryUnauthorized, "set `registry-user`"),
        (status(403, "DENIED"), RegistryUnauthorized, "no such repository"),
        (status(404, "DENIED"), RegistryUnauthorized, "no such repository"),
        (status(418), BadRegistryAnswer, "status 418"),
        (status(200), BadRegistryAnswer, "other bytes than the manifest"),
        (body(lambda content: content + b" "), BadRegistryAnswer, "other bytes than the manifest"),
        (body(lambda content: bytes(5 << 20)), BadRegistryAnswer, "too long"),
    ],
)
async def test_refusals_of_manifests(
    case: Case, fault: Fault, error: type[Exception], told: str
) -> None:
    case.proxy.on("GET", "/manifests/", fault)
    with pytest.raises(error, match=told):
        await case.client.manifest(case.repository, case.digest)
    assert len(case.proxy.requests("GET")) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: b"x" + content[1:],
        lambda content: b"",
    ],
)
async def test_wrong_bytes_of_blobs(case: Case, change: Any) -> None:
    case.proxy.on("GET", "/blobs/", body(change))
    with pytest.raises(BadRegistryAnswer, match="other bytes than the blob"):
        await case.blob()


async def test_a_manifest_that_is_not_json(case: Case) -> None:
    case.proxy.on("GET", "/manifests/", answer(lambda _: web.Response(body=b"{")))
    with pytest.raises(BadRegistryAnswer, match="no JSON"):
        await case.manifest()


async def test_a_lying_header(case: Case) -> None:
    lie = {"Docker-Content-Digest": sha256(b"")}
    case.proxy.on("GET", "/manifests/", answer(lambda _: web.Response(body=b"{}", headers=lie)))
    with pytest.raises(BadRegistryAnswer, match="other bytes"):
        await case.manifest()


@pytest.mark.parametrize("fault", [without("docker-content-digest"), status(405), status(501)])
async def test_heads_without_a_digest(case: Case, fault: Fault) -> None:
    case.proxy.on("HEAD", "/manifests/", fault)
    await case.head()
    case.proxy.on("GET", "/manifests/", status(404))
    assert await case.client.head(case.repository, "v1") is None


async def test_something_that_is_not_http() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"220 smtp.example ESMTP\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = OciClient(f"127.0.0.1:{port}", plain_http=True)
        with pytest.raises(BadRegistryAnswer, match="did not answer in HTTP"):
            await client.head("x", "v1")
        await client.close()


async def test_a_host_that_does_not_exist() -> None:
    client = OciClient("registry.invalid", plain_http=True)
    with pytest.raises(RegistryUnavailable, match="check `registry`"):
        await client.head("x", "v1")
    await client.close()


# --- silence -------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["manifest", "head", "blob"])
async def test_silence_has_an_end(hasty: Case, what: str) -> None:
    for method in ("GET", "HEAD"):
        hasty.proxy.on(method, "", hang())
    with pytest.raises(RegistryUnavailable, match=r"fell silent|did not answer within"):
        await getattr(hasty, what)()


@pytest.mark.parametrize("what", ["manifest", "blob"])
async def test_silence_in_the_middle(hasty: Case, what: str) -> None:
    hasty.proxy.on("GET", f"/{what}s/", cut_short(20, then_hang=True))
    with pytest.raises(RegistryUnavailable, match=r"fell silent|did not answer within"):
        await getattr(hasty, what)()


async def test_whoever_gives_up_leaves_nothing_behind(case: Case) -> None:
    case.proxy.on("GET", "", hang())
    for what in (case.manifest, case.blob):
        asking = asyncio.create_task(what())
        await eventually(lambda: case.proxy.active)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
        await eventually(lambda: not case.proxy.active)
    case.proxy.heal()
    await case.manifest()
    await case.blob()


# --- many at once --------------------------------------------------------------------------------


async def test_parallelism_is_bounded(case: Case) -> None:
    case.proxy.on("HEAD", "/manifests/", in_pieces(1, 0.0))
    await asyncio.gather(*(case.head() for _ in range(200)))
    assert 1 < case.proxy.most_active <= METADATA_PLACES
    case.proxy.most_active = 0
    await asyncio.gather(*(case.blob() for _ in range(20)))
    assert 1 < case.proxy.most_active <= BLOB_PLACES


async def test_a_hanging_registry_lets_all_go_together(hasty: Case) -> None:
    """Those who wait for a place do not wait for all who stand before them, one by one."""
    hasty.proxy.on("HEAD", "", hang())
    asking = [hasty.client.head(hasty.repository, f"v{n}") for n in range(METADATA_PLACES * 20)]
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(result, RegistryUnavailable) for result in results)
    assert len(hasty.proxy.requests("HEAD")) < len(asking)
    hasty.proxy.heal()
    async with asyncio.timeout(PATIENCE):
        while not await works(hasty.head):
            pass  # a busy machine may need more than the short limit


async def works(call: Callable[[], Awaitable[None]]) -> bool:
    try:
        await call()
    except RegistryUnavailable:
        return False
    return True


async def test_downloads_do_not_keep_questions_waiting(case: Case) -> None:
    case.proxy.on("GET", "/blobs/", hang())
    downloads = [asyncio.create_task(case.blob()) for _ in range(BLOB_PLACES + 1)]
    await eventually(lambda: case.proxy.active == BLOB_PLACES)
    await case.head()
    for download in downloads:
        download.cancel()
    await asyncio.wait(downloads)


# --- redirects -----------------------------------------------------------------------------------


def redirect(to: str) -> Fault:
    return answer(lambda _: web.Response(status=307, headers={"Location": to}))


async def test_redirects_to_storage_are_followed_without_credentials(
    basic_registry: RegistryProcess, registry_server: RegistryProcess
) -> None:
    async with case_with(registry_server) as case, running_proxy(basic_registry.host) as front:
        blob = f"/v2/{case.repository}/blobs/{sha256(CONTENT)}"
        signed = f"http://localhost:{case.proxy.host.split(':')[1]}{blob}?sig=a%2Fb%3D&x=%20"
        client = front.client(given())
        assert await client.head("x", "v1") is None  # has learnt that it needs credentials
        front.on("GET", "/blobs/", redirect(signed))
        case.client = client
        await case.blob()
        (asked,) = front.requests("GET", "/blobs/")
        assert "authorization" in asked.headers
        (served,) = case.proxy.requests("GET", "/blobs/")
        assert "authorization" not in served.headers
        case.proxy.on("GET", "/blobs/", status(403))
        with pytest.raises(BadRegistryAnswer, match="storage answers with status 403"):
            await case.blob()
        assert len(front.requests("GET", "/blobs/")) == 2
        await client.close()


async def test_redirects_in_a_circle(case: Case) -> None:
    path = f"/v2/{case.repository}/manifests/v1"
    case.proxy.on("GET", "/manifests/", redirect(path))
    with pytest.raises(BadRegistryAnswer, match="in a circle"):
        await case.manifest()


@pytest.mark.parametrize("target", ["ftp://x/y", "http://[", "file:///etc/passwd"])
async def test_redirects_out_of_http(case: Case, target: str) -> None:
    case.proxy.on("GET", "/manifests/", redirect(target))
    with pytest.raises(BadRegistryAnswer, match="redirects to an address"):
        await case.manifest()


# --- death ---------------------------------------------------------------------------------------


async def test_a_registry_that_dies_and_comes_back() -> None:
    with running_registry() as registry:
        client, repository = registry.client(), unique()
        digest = await push_component(client, repository, "v1", CONTENT)
        registry.kill()
        with pytest.raises(RegistryUnavailable, match="accepts no connections"):
            await client.head(repository, "v1")
        registry.start()
        assert await client.head(repository, "v1") == digest
        await client.close()


async def test_the_log_tells_the_story_once(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pharia_kernel.registry")
    case.proxy.on("HEAD", "", status(500))
    for _ in range(5):
        with pytest.raises(RegistryUnavailable):
            await case.head()
    case.proxy.heal()
    for _ in range(5):
        await case.head()
    trouble, over = caplog.messages
    assert trouble.startswith(f"Registry {case.proxy.host} is in trouble: ")
    assert over == f"Registry {case.proxy.host} answers again"


async def test_nothing_shows_secrets(
    basic_registry: RegistryProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong after the password was sent, and wherever."""
    secret = "s3cr3t-password"
    caplog.set_level("DEBUG")
    reflected = json.dumps({"errors": [{"code": "DENIED", "message": secret}]}).encode()
    for fault in (*PASSING, answer(lambda _: web.Response(status=403, body=reflected))):
        async with running_proxy(basic_registry.host) as proxy:
            client = proxy.client(given(password=secret), retries=QUICKLY)
            with pytest.raises(RegistryUnauthorized):
                await client.head("x", "v1")
            proxy.on("GET", "", fault)
            with pytest.raises(SkillUnavailable) as caught:
                await client.manifest("x", "v1")
            assert all("authorization" in seen.headers for seen in proxy.requests("GET"))
            assert secret not in str(caught.value.problem())
            await client.close()
    assert secret not in caplog.text
