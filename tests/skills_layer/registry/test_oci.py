"""The registry of components, on a real registry; sometimes a proxy counts or spoils answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import web

from pharia_kernel.errors import (
    ArtifactNotFound,
    RegistryUnavailable,
    SkillUnavailable,
    UnusableArtifact,
)
from pharia_kernel.oci.client import OciClient
from pharia_kernel.oci.types import OCI_INDEX, OCI_MANIFEST, Descriptor
from pharia_kernel.skills.registry.oci import OciRegistry
from tests.support.registry import (
    RegistryProcess,
    plain,
    push_component,
    push_manifest,
    sha256,
    unique,
)
from tests.support.registry_proxy import (
    Fault,
    Forward,
    RegistryProxy,
    first,
    hang,
    running_proxy,
    status,
    wait_for,
)


@dataclass
class Place:
    """A registry behind a proxy, and what is in it."""

    proxy: RegistryProxy
    registry: OciRegistry
    pusher: OciClient
    """Bypasses the proxy."""
    name: str

    async def push(self, wasm: bytes, tag: str = "v1") -> str:
        return await push_component(self.pusher, f"team/{self.name}", tag, wasm)


@pytest.fixture
async def place(registry_server: RegistryProcess) -> AsyncIterator[Place]:
    async with running_proxy(registry_server.host) as proxy:
        client, pusher = proxy.client(), registry_server.client()
        registry = OciRegistry(client, "/team/", resolution_lifetime=0.0)
        yield Place(proxy, registry, pusher, unique())
        await registry.close()
        await client.close()
        await pusher.close()


async def test_snapshot_and_read(place: Place) -> None:
    manifest = await place.push(b"wasm")
    snapshot = await place.registry.snapshot(place.name, "v1")
    assert (snapshot.digest, snapshot.size) == (sha256(b"wasm"), 4)
    assert snapshot.manifest_digest == manifest
    assert not place.proxy.requests("GET", "/blobs/")
    blob = await place.registry.read(place.name, "v1")
    assert (blob.wasm, blob.snapshot) == (b"wasm", snapshot)


async def test_what_is_known_is_not_asked_again(place: Place) -> None:
    await place.push(b"wasm")
    snapshot = await place.registry.snapshot(place.name, "v1")
    place.proxy.seen.clear()
    assert not await place.registry.changed(place.name, "v1", snapshot)
    assert await place.registry.snapshot(place.name, "v1") == snapshot
    assert {seen.method for seen in place.proxy.seen} == {"HEAD"}


async def test_new_content(place: Place) -> None:
    await place.push(b"one")
    one = await place.registry.snapshot(place.name, "v1")
    await place.push(b"two")
    assert await place.registry.changed(place.name, "v1", one)
    two = await place.registry.snapshot(place.name, "v1")
    assert two.digest == sha256(b"two")
    assert (await place.registry.read(place.name, "v1")).wasm == b"two"


async def test_the_same_bytes_pushed_again_are_the_same_version(place: Place) -> None:
    await place.push(b"wasm")
    before = await place.registry.snapshot(place.name, "v1")
    layer = await place.pusher.put_blob(f"team/{place.name}", b"wasm", "application/wasm")
    config = await place.pusher.put_blob(f"team/{place.name}", b'{"created": "later"}')
    await push_manifest(place.pusher, f"team/{place.name}", "v1", layer, config=config)
    assert await place.registry.changed(place.name, "v1", before)
    after = await place.registry.snapshot(place.name, "v1")
    assert after.digest == before.digest
    assert after.manifest_digest != before.manifest_digest


# --- references ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}", "v1@{}", "never-pushed@{}"])
async def test_a_pinned_digest_is_not_polled(place: Place, form: str) -> None:
    digest = await place.push(b"one")
    tag = form.format(digest)
    snapshot = await place.registry.snapshot(place.name, tag)
    assert (snapshot.digest, snapshot.manifest_digest) == (sha256(b"one"), digest)
    await place.push(b"two")
    place.proxy.seen.clear()
    assert not await place.registry.changed(place.name, tag, snapshot)
    assert not place.proxy.seen
    assert (await place.registry.read(place.name, tag)).wasm == b"one"


async def test_another_pin_is_a_change(place: Place) -> None:
    one, two = await place.push(b"one"), await place.push(b"two")
    snapshot = await place.registry.snapshot(place.name, one)
    assert await place.registry.changed(place.name, two, snapshot)


@pytest.mark.parametrize(
    "tag", ["", "a b", "a/b", "sha256:12", "v1@", "@", "v1@v2", "v 1@sha256:" + "0" * 64, "a:b"]
)
async def test_what_is_no_reference(place: Place, tag: str) -> None:
    with pytest.raises(ArtifactNotFound, match="is not a tag, nor a digest"):
        await place.registry.snapshot(place.name, tag)


@pytest.mark.parametrize("name", ["Greet", "two words", "ünï", "a..b", "-a", "x" * 256])
async def test_what_is_no_repository(place: Place, name: str) -> None:
    for call in (place.registry.snapshot, place.registry.read):
        with pytest.raises(ArtifactNotFound, match="can't be a repository"):
            await call(name, "v1")
    with pytest.raises(ArtifactNotFound, match="can't be a repository"):
        place.registry.locate(name)


async def test_where_a_skill_is(place: Place) -> None:
    client, repository = place.registry.locate("greet")
    assert repository == "team/greet"
    assert OciRegistry(client).locate("greet") == (client, "greet")


# --- what is there -------------------------------------------------------------------------------


async def test_nothing_there(place: Place) -> None:
    for call in (place.registry.snapshot, place.registry.read):
        with pytest.raises(ArtifactNotFound, match=f"`team/{place.name}:v1`"):
            await call(place.name, "v1")


async def test_something_else_there(place: Place) -> None:
    repository = f"team/{place.name}"
    layer = await place.pusher.put_blob(repository, b"x", "application/vnd.oci.image.layer.v1.tar")
    config = await place.pusher.put_blob(repository, b"{}")
    await push_manifest(place.pusher, repository, "v1", layer, config=config)
    with pytest.raises(UnusableArtifact, match="no layers of WebAssembly"):
        await place.registry.snapshot(place.name, "v1")


async def test_an_index(place: Place) -> None:
    """A snapshot's manifest digest is the index's, because that is what people sign."""
    repository = f"team/{place.name}"
    inner = await place.push(b"wasm", "inner")
    size = len((await place.pusher.manifest(repository, inner)).body)
    entries = [
        {**plain(Descriptor(OCI_MANIFEST, inner, size)), "platform": {"architecture": "wasm"}},
    ]
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    index = await place.pusher.put_manifest(repository, "v1", body, OCI_INDEX)
    snapshot = await place.registry.snapshot(place.name, "v1")
    assert (snapshot.digest, snapshot.manifest_digest) == (sha256(b"wasm"), index)
    assert not await place.registry.changed(place.name, "v1", snapshot)
    assert (await place.registry.read(place.name, "v1")).wasm == b"wasm"


# --- in the middle of something ------------------------------------------------------------------


async def test_a_tag_that_moves_while_it_is_read(place: Place) -> None:
    """Whoever asked for the old content is given it whole, or the new content as such."""
    await place.push(b"one")
    place.proxy.on("GET", "/blobs/", first(lambda: place.push(b"two")), times=1)
    blob = await place.registry.read(place.name, "v1")
    assert (blob.wasm, blob.snapshot.digest) == (b"one", sha256(b"one"))
    assert await place.registry.changed(place.name, "v1", blob.snapshot)
    blob = await place.registry.read(place.name, "v1")
    assert (blob.wasm, blob.snapshot.digest) == (b"two", sha256(b"two"))


@pytest.mark.parametrize("part", ["/manifests/sha256", "/blobs/"])
async def test_old_content_that_is_dropped_at_once(place: Place, part: str) -> None:
    """Some registries delete what no tag names."""
    await place.push(b"one")
    place.proxy.on("GET", part, replaced(place), times=1)
    blob = await place.registry.read(place.name, "v1")
    assert (blob.wasm, blob.snapshot.digest) == (b"two", sha256(b"two"))


def replaced(place: Place) -> Fault:
    """What is asked for is gone, because the tag was moved."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        await place.push(b"two")
        return web.Response(status=404)

    return fault


async def test_a_blob_that_is_missing_for_good(place: Place) -> None:
    await place.push(b"one")
    place.proxy.on("GET", "/blobs/", status(404, "BLOB_UNKNOWN"))
    with pytest.raises(ArtifactNotFound, match="does not have the blob"):
        await place.registry.read(place.name, "v1")


# --- many at once --------------------------------------------------------------------------------


async def test_equal_questions_are_asked_once(place: Place) -> None:
    digest = await place.push(b"wasm")
    go = asyncio.Event()
    place.proxy.on("HEAD", "", wait_for(go))
    asking = [asyncio.create_task(place.registry.snapshot(place.name, "v1")) for _ in range(50)]
    await place.proxy.arrived.wait()
    asking[0].cancel()
    go.set()
    snapshots = await asyncio.gather(*asking[1:])
    assert {snapshot.manifest_digest for snapshot in snapshots} == {digest}
    assert [seen.method for seen in place.proxy.seen] == ["HEAD", "GET"]


async def test_reading_uses_what_was_just_asked(place: Place) -> None:
    await place.push(b"wasm")
    client = place.proxy.client()
    registry = OciRegistry(client, "team", resolution_lifetime=3600.0)
    await registry.snapshot(place.name, "v1")
    await registry.read(place.name, "v1")
    assert len(place.proxy.requests("HEAD")) == 1
    await client.close()


async def test_looking_never_uses_what_was_asked_before(place: Place) -> None:
    """A push is noticed by whoever is told to look, however recent the last look is."""
    await place.push(b"one")
    client = place.proxy.client()
    registry = OciRegistry(client, "team", resolution_lifetime=3600.0)
    one = await registry.snapshot(place.name, "v1")
    await place.push(b"two")
    assert await registry.changed(place.name, "v1", one)
    await place.push(b"three")
    assert (await registry.snapshot(place.name, "v1")).digest == sha256(b"three")
    await client.close()


async def test_failures_are_told_to_each_and_not_kept(place: Place) -> None:
    await place.push(b"wasm")
    place.proxy.on("HEAD", "", status(404), times=1)
    asking = (place.registry.snapshot(place.name, "v1") for _ in range(5))
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(error, ArtifactNotFound) for error in errors)
    assert len({id(error) for error in errors}) == 5
    assert (await place.registry.snapshot(place.name, "v1")).size == 4


async def test_a_thousand_checks_of_a_hanging_registry_disturb_nobody(
    place: Place, registry_server: RegistryProcess
) -> None:
    await place.push(b"wasm")
    async with running_proxy(registry_server.host) as dead:
        dead.on("HEAD", "", hang())
        client = dead.client(timeout=1.0)
        other = OciRegistry(client)
        checks = [asyncio.create_task(other.snapshot(f"skill-{n}", "v1")) for n in range(1000)]
        await dead.arrived.wait()
        assert (await place.registry.read(place.name, "v1")).wasm == b"wasm"
        results = await asyncio.gather(*checks, return_exceptions=True)
        assert all(isinstance(result, RegistryUnavailable) for result in results)
        await other.close()
        await client.close()


async def test_trouble_is_trouble_with_the_skill(place: Place) -> None:
    await place.push(b"wasm")
    snapshot = await place.registry.snapshot(place.name, "v1")
    place.proxy.on("HEAD", "", status(418))
    with pytest.raises(SkillUnavailable, match="status 418"):
        await place.registry.changed(place.name, "v1", snapshot)
