"""Against a real registry."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web

from pharia_kernel.errors import (
    ArtifactNotFound,
    RegistryUnauthorized,
    RegistryUnavailable,
    UnusableArtifact,
)
from pharia_kernel.oci.client import OciClient
from pharia_kernel.oci.credentials import Credentials, Given
from pharia_kernel.oci.types import OCI_MANIFEST, Descriptor, digest_of
from tests.support.registry import (
    PASSWORD,
    RegistryProcess,
    given,
    plain,
    push_component,
    running_token_registry,
    unique,
)
from tests.support.registry_proxy import Fault, answer, body, running_proxy, status
from tests.support.tokens import REFRESH_TOKEN, TokenServer

NewClient = Callable[..., OciClient]
ABSENT = digest_of(b"nobody pushed this")


@pytest.fixture
async def new_client() -> AsyncIterator[NewClient]:
    """Clients that are closed after the test; arguments: a registry, and what its ``client``
    takes.
    """
    async with AsyncExitStack() as stack:

        def make(registry: RegistryProcess, *args: Any, **options: Any) -> OciClient:
            client = registry.client(*args, **options)
            stack.push_async_callback(client.close)
            return client

        yield make


async def layer_of(client: OciClient, repository: str, reference: str) -> bytes:
    manifest = json.loads((await client.manifest(repository, reference)).body)
    layer = manifest["layers"][0]
    descriptor = Descriptor(layer["mediaType"], layer["digest"], layer["size"])
    return await client.blob(repository, descriptor, 1 << 20)


# --- pulling -------------------------------------------------------------------------------------


async def test_by_tag_and_by_digest(
    registry_server: RegistryProcess, new_client: NewClient
) -> None:
    client, repository = new_client(registry_server), unique("team/deep/skill")
    digest = await push_component(client, repository, "v1", b"wasm")
    for reference in ("v1", digest):
        manifest = await client.manifest(repository, reference)
        assert (manifest.digest, manifest.media_type) == (digest, OCI_MANIFEST)
        assert digest_of(manifest.body) == digest
        assert await client.head(repository, reference) == digest
        assert await layer_of(client, repository, reference) == b"wasm"


async def test_what_is_not_there(registry_server: RegistryProcess, new_client: NewClient) -> None:
    client, repository = new_client(registry_server), unique()
    await push_component(client, repository, "v1", b"wasm")
    for place in ((repository, "v2"), (repository, ABSENT), (unique(), "v1")):
        assert await client.head(*place) is None
        with pytest.raises(ArtifactNotFound, match="does not have the manifest"):
            await client.manifest(*place)
    with pytest.raises(ArtifactNotFound, match="does not have the blob"):
        await client.blob(repository, Descriptor("", ABSENT, 4), 10)


@pytest.mark.parametrize(
    ("repository", "reference"),
    [
        ("Upper", "v1"),
        ("a//b", "v1"),
        ("a/../b", "v1"),
        ("a" * 256, "v1"),
        ("a?b", "v1"),
        ("a", "v 1"),
        ("a", ""),
        ("a", "../../catalog"),
        ("a", "sha256:abc"),
        ("a", "sha512:" + "0" * 128),
    ],
)
async def test_names_that_nothing_can_have(
    registry_server: RegistryProcess, new_client: NewClient, repository: str, reference: str
) -> None:
    with pytest.raises(ArtifactNotFound, match="There can't be"):
        await new_client(registry_server).manifest(repository, reference)


async def test_blobs_have_limits(registry_server: RegistryProcess, new_client: NewClient) -> None:
    client, repository = new_client(registry_server), unique()
    blob = await client.put_blob(repository, b"12345")
    assert await client.blob(repository, blob, 5) == b"12345"
    with pytest.raises(UnusableArtifact, match="5 bytes; 4 are allowed"):
        await client.blob(repository, blob, 4)
    with pytest.raises(UnusableArtifact, match="SHA-256"):
        await client.blob(repository, Descriptor("", "md5:x", 5), 5)


# --- pushing and referrers -----------------------------------------------------------------------


async def test_blobs_are_pushed_once(registry_server: RegistryProcess) -> None:
    repository, content = unique(), os.urandom(300_000)
    async with running_proxy(registry_server.host) as proxy:
        client = proxy.client()
        first = await client.put_blob(repository, content)
        assert await client.put_blob(repository, content) == first
        assert await client.blob(repository, first, 1 << 20) == content
        assert len(proxy.requests("POST")) == len(proxy.requests("PUT")) == 1
        await client.close()


async def signature(client: OciClient, repository: str, digest: str, kind: str) -> str:
    """Pushes a manifest about another one."""
    empty = await client.put_blob(repository, b"{}", "application/vnd.oci.empty.v1+json")
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": plain(empty),
        "layers": [plain(empty)],
        "subject": {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1},
        "annotations": {"unique": unique()},
    }
    text = json.dumps(manifest).encode()
    return await client.put_manifest(repository, digest_of(text), text, OCI_MANIFEST)


async def test_referrers_without_the_api(
    registry_server: RegistryProcess, new_client: NewClient
) -> None:
    client, repository = new_client(registry_server), unique()
    subject = await push_component(client, repository, "v1", b"wasm")
    assert await client.referrers(repository, subject) == []
    one = await signature(client, repository, subject, "application/a")
    two = await signature(client, repository, subject, "application/b")
    everything = await client.referrers(repository, subject)
    assert [item.digest for item in everything] == [one, two]
    (found,) = await client.referrers(repository, subject, "application/b")
    assert (found.digest, found.artifact_type) == (two, "application/b")
    assert found.annotations
    assert await client.referrers(unique(), ABSENT) == []


async def test_referrers_with_the_api(registry_server: RegistryProcess) -> None:
    """Debian's registry has no such API, so the proxy answers."""
    pages = [
        {"manifests": [plain(Descriptor(OCI_MANIFEST, ABSENT, n, artifact_type=kind))]}
        for n, kind in enumerate(("application/a", "application/b"))
    ]
    async with running_proxy(registry_server.host) as proxy:
        path = f"/v2/x/referrers/{ABSENT}"
        link = {"Link": f'<{path}?page=2>; rel="next"'}
        proxy.on("GET", path, _json(pages[0], link), times=1)
        proxy.on("GET", path, _json(pages[1], {}), times=1)
        client = proxy.client()
        assert [d.size for d in await client.referrers("x", ABSENT, "application/b")] == [1]
        assert len(proxy.requests("GET", "/referrers/")) == 2
        assert not proxy.requests("GET", "/manifests/")
        await client.close()


def _json(content: Any, headers: dict[str, str]) -> Fault:
    return answer(lambda _: web.json_response(content, headers=headers))


# --- basic ---------------------------------------------------------------------------------------


async def test_basic(basic_registry: RegistryProcess, new_client: NewClient) -> None:
    client, repository = new_client(basic_registry, given()), unique()
    digest = await push_component(client, repository, "v1", b"wasm")
    assert await new_client(basic_registry, given()).head(repository, "v1") == digest


@pytest.mark.parametrize("method", ["head", "manifest"])
async def test_no_credentials(
    basic_registry: RegistryProcess, new_client: NewClient, method: str
) -> None:
    with pytest.raises(RegistryUnauthorized, match="set `registry-user` and `registry-password`"):
        await getattr(new_client(basic_registry), method)("x", "v1")


async def test_a_wrong_password_is_tried_once(basic_registry: RegistryProcess) -> None:
    async with running_proxy(basic_registry.host) as proxy:
        client = proxy.client(given(password="wrong"))
        with pytest.raises(RegistryUnauthorized, match="check `registry-user`") as caught:
            await client.head("x", "v1")
        assert "wrong" not in caught.value.detail
        assert ["authorization" in seen.headers for seen in proxy.seen] == [False, True]
        await client.close()


async def test_an_identity_token_is_no_password(
    basic_registry: RegistryProcess, new_client: NewClient
) -> None:
    client = new_client(basic_registry, Given(Credentials(identity_token="t")))
    with pytest.raises(RegistryUnauthorized, match="not a token"):
        await client.head("x", "v1")


class Rotated:
    """Credentials that become right at the second look."""

    hint = "wait"

    def __init__(self) -> None:
        self.passwords = ["old", PASSWORD]

    async def get(self) -> Credentials:
        return Credentials("testuser", self.passwords.pop(0))


async def test_a_password_that_was_changed_meanwhile(
    basic_registry: RegistryProcess, new_client: NewClient
) -> None:
    client = new_client(basic_registry, Rotated())
    with pytest.raises(RegistryUnauthorized):
        await client.head("x", "v1")  # learns that it needs credentials, and that these are old
    assert await client.head("x", "v1") is None


# --- TLS -----------------------------------------------------------------------------------------


async def test_a_ca_of_our_own(tls_registry: RegistryProcess, new_client: NewClient) -> None:
    client, repository = new_client(tls_registry, given()), unique()
    digest = await push_component(client, repository, "v1", b"wasm")
    assert await client.head(repository, "v1") == digest


async def test_a_ca_that_nobody_trusts(
    tls_registry: RegistryProcess, new_client: NewClient
) -> None:
    with pytest.raises(RegistryUnavailable, match=r"not trusted .*registry-ca-file"):
        await new_client(tls_registry, given(), ca_file=None).head("x", "v1")


async def test_a_ca_file_of_no_use(tls_registry: RegistryProcess, new_client: NewClient) -> None:
    for file, told in (("absent.pem", "No such file"), ("htpasswd", "no certificate in PEM")):
        client = new_client(tls_registry, given(), ca_file=tls_registry.folder / file)
        with pytest.raises(RegistryUnavailable, match=told):
            await client.head("x", "v1")


async def test_tls_where_there_is_none(
    registry_server: RegistryProcess, new_client: NewClient
) -> None:
    with pytest.raises(RegistryUnavailable, match="registry-plain-http = true"):
        await new_client(registry_server, plain_http=False).head("x", "v1")


# --- tokens --------------------------------------------------------------------------------------

TokenRegistry = tuple[RegistryProcess, TokenServer]


@pytest.fixture
async def token_registry() -> AsyncIterator[TokenRegistry]:
    async with running_token_registry() as both:
        yield both


async def test_tokens_are_kept(token_registry: TokenRegistry, new_client: NewClient) -> None:
    registry, tokens = token_registry
    client, repository = new_client(registry, given()), unique()
    await push_component(client, repository, "v1", b"wasm")
    puller = new_client(registry, given())
    tokens.asked.clear()
    for _ in range(3):
        assert await layer_of(puller, repository, "v1") == b"wasm"
    (asked,) = tokens.asked
    assert asked.scopes == [f"repository:{repository}:pull"]
    assert asked.authorization == Credentials("testuser", PASSWORD).basic()


async def test_anonymous_tokens(token_registry: TokenRegistry, new_client: NewClient) -> None:
    registry, tokens = token_registry
    repository = unique("public/skill")
    digest = await push_component(new_client(registry, given()), repository, "v1", b"wasm")
    tokens.asked.clear()
    anybody = new_client(registry)
    assert await anybody.head(repository, "v1") == digest
    assert [asked.authorization for asked in tokens.asked] == [None]
    with pytest.raises(RegistryUnauthorized, match="set `registry-user`"):
        await anybody.head("private/skill", "v1")


async def test_identity_tokens(token_registry: TokenRegistry, new_client: NewClient) -> None:
    registry, tokens = token_registry
    source = Given(Credentials("me", identity_token=REFRESH_TOKEN))
    assert await new_client(registry, source).head("x", "v1") is None
    (asked,) = tokens.asked
    assert (asked.method, asked.form["refresh_token"]) == ("POST", REFRESH_TOKEN)
    wrong = Given(Credentials("me", identity_token="wrong"))
    with pytest.raises(RegistryUnauthorized):
        await new_client(registry, wrong).head("x", "v1")


async def test_expired_tokens_are_replaced(
    token_registry: TokenRegistry, new_client: NewClient
) -> None:
    registry, tokens = token_registry
    tokens.lifetime = 0.0
    client = new_client(registry, given())
    for _ in range(3):
        assert await client.head("x", "v1") is None
    assert len(tokens.asked) == 3


async def test_a_token_that_is_refused_is_replaced_once(token_registry: TokenRegistry) -> None:
    registry, tokens = token_registry
    async with running_proxy(registry.host) as proxy:
        client = proxy.client(given())
        assert await client.head("x", "v1") is None
        challenge = {"WWW-Authenticate": f'Bearer realm="{tokens.url}",service="test-registry"'}
        proxy.on("HEAD", "/manifests/", status(401, headers=challenge), times=1)
        tokens.asked.clear()
        assert await client.head("x", "v1") is None
        assert len(tokens.asked) == 1
        proxy.on("HEAD", "/manifests/", status(401, headers=challenge))
        with pytest.raises(RegistryUnauthorized):
            await client.head("x", "v1")
        assert len(tokens.asked) == 2
        await client.close()


async def test_a_wrong_password_for_tokens(
    token_registry: TokenRegistry, new_client: NewClient
) -> None:
    registry, tokens = token_registry
    client = new_client(registry, given(password="wrong"))
    with pytest.raises(RegistryUnauthorized, match="check `registry-user`") as caught:
        await client.head("x", "v1")
    assert "wrong" not in caught.value.detail
    assert len(tokens.asked) == 1


@pytest.mark.parametrize(
    "realm",
    ["http://elsewhere.example/token", "ftp://127.0.0.1/token", "//x", "https://me:pw@x/t", ""],
)
async def test_credentials_go_to_no_unsafe_realm(
    registry_server: RegistryProcess, realm: str
) -> None:
    async with running_proxy(registry_server.host) as proxy:
        challenge = {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'}
        proxy.on("HEAD", "/manifests/", status(401, headers=challenge))
        client = proxy.client(given())
        with pytest.raises(Exception, match="no https:// address"):
            await client.head("x", "v1")
        await client.close()


async def test_trouble_of_the_token_service(token_registry: TokenRegistry) -> None:
    registry, tokens = token_registry
    async with running_proxy(tokens.url.split("/")[2]) as proxy:
        tokens.url = f"http://{proxy.host}/token"
        async with running_proxy(registry.host) as front:
            challenge = {"WWW-Authenticate": f'Bearer realm="{tokens.url}",service="test-registry"'}
            front.on("HEAD", "", status(401, headers=challenge), times=1)
            proxy.on("GET", "/token", status(503), times=1)
            client = front.client(given())
            assert await client.head("x", "v1") is None
            await client.close()
        for content in (b"", b"{}", b'{"token": "a\\nb"}', b'{"token": 5}'):
            proxy.heal()
            proxy.on("GET", "/token", body(lambda _, content=content: content))  # type: ignore[misc]
            async with running_proxy(registry.host) as front:
                front.on("HEAD", "", status(401, headers=challenge))
                client = front.client(given())
                with pytest.raises(Exception, match="answers without a token"):
                    await client.head("x", "v1")
                await client.close()
