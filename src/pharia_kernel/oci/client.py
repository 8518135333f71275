"""The OCI Distribution Specification 1.1, as far as a kernel needs it.

Written on aiohttp because the libraries that exist block the event loop (``oras``), or neither
verify digests, nor bound time, nor know referrers (``docker-registry-client-async``).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from pharia_kernel.errors import ArtifactNotFound, BadRegistryAnswer, UnusableArtifact
from pharia_kernel.oci.credentials import Anonymous, CredentialSource
from pharia_kernel.oci.transport import RETRIES, Answer, Request, Transport
from pharia_kernel.oci.types import (
    MANIFEST_TYPES,
    OCI_INDEX,
    Descriptor,
    Manifest,
    digest_of,
    is_digest,
    is_repository,
    is_tag,
    place,
)
from pharia_kernel.resilience import RetryPolicy

T = TypeVar("T")

DEFAULT_TIMEOUT = 30.0
METADATA_PLACES = 16
"""Small requests under way at once."""
BLOB_PLACES = 4
_ALIASES = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
_DIGEST_HEADER = "Docker-Content-Digest"
_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')
_MAX_PAGES = 10


class _Head(Struct, rename="camel"):
    """What tells kinds of manifests apart."""

    media_type: str = ""
    artifact_type: str | None = None
    subject: Descriptor | None = None
    config: Descriptor | None = None
    annotations: dict[str, str] | None = None


class _Index(Struct, rename="camel"):
    manifests: list[Descriptor] = []


class OciClient:
    """One registry, as one user.

    References are tags or digests (``sha256:...``). All methods raise ``RegistryUnavailable``,
    ``RegistryUnauthorized``, ``ArtifactNotFound`` or ``BadRegistryAnswer``, which are all
    ``SkillUnavailable``.
    """

    def __init__(
        self,
        registry: str,
        credentials: CredentialSource | None = None,
        *,
        plain_http: bool = False,
        ca_file: Path | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retries: RetryPolicy = RETRIES,
    ) -> None:
        """``registry`` is a host, with a port if needed. ``ca_file`` is trusted besides the
        system's certificates. ``timeout`` is in seconds: for one small request with its retries,
        and for silence in the middle of a blob.
        """
        host = _ALIASES.get(registry, registry)
        self._transport = Transport(
            URL(f"{'http' if plain_http else 'https'}://{host}").origin(),
            credentials or Anonymous(),
            ca_file=ca_file,
            timeout=timeout,
            retries=retries,
            metadata_places=METADATA_PLACES,
            blob_places=BLOB_PLACES,
        )

    async def close(self) -> None:
        await self._transport.close()

    # --- pulling ----------------------------------------------------------------------------------

    async def manifest(self, repository: str, reference: str) -> Manifest:
        """The manifest or index, its digest computed and compared with all that was promised."""
        answer = await self._transport.exchange(
            self._manifest_request("GET", repository, reference)
        )
        digest = digest_of(answer.body)
        promised = {reference, answer.headers.get(_DIGEST_HEADER, "")}
        if any(is_digest(other) and other != digest for other in promised):
            raise BadRegistryAnswer(
                f"The registry sent other bytes than the manifest {place(repository, reference)}."
            )
        return Manifest(digest, _media_type(answer), answer.body)

    async def head(self, repository: str, reference: str) -> str | None:
        """The digest behind a reference without the manifest; none if there is no such thing."""
        request = self._manifest_request(
            "HEAD", repository, reference, hoped=frozenset({200, 404, 405, 501})
        )
        answer = await self._transport.exchange(request)
        if answer.status == 404:
            return None
        digest = answer.headers.get(_DIGEST_HEADER, "")
        if answer.status == 200 and is_digest(digest):
            return digest
        try:
            return (await self.manifest(repository, reference)).digest
        except ArtifactNotFound:
            return None

    async def blob(self, repository: str, descriptor: Descriptor, limit: int) -> bytes:
        """The content, size and digest verified.

        Raises ``UnusableArtifact`` if it has more than ``limit`` bytes.
        """
        if not is_digest(descriptor.digest):
            raise UnusableArtifact("Only content with SHA-256 digests can be read.")
        if descriptor.size > limit:
            raise UnusableArtifact(f"The content has {descriptor.size} bytes; {limit} are allowed.")
        what = f"the blob {place(repository, descriptor.digest)}"

        async def consume(response: aiohttp.ClientResponse) -> bytes:
            pieces, size, digest = [], 0, hashlib.sha256()
            async for piece in response.content.iter_any():
                self._transport.pulse.beat()
                size += len(piece)
                if size > descriptor.size:
                    break
                digest.update(piece)
                pieces.append(piece)
            if size != descriptor.size or f"sha256:{digest.hexdigest()}" != descriptor.digest:
                raise BadRegistryAnswer(f"The registry sent other bytes than {what}.")
            return b"".join(pieces)

        request = self._request("GET", repository, f"blobs/{descriptor.digest}", what)
        return await self._transport.transfer(request, consume)

    async def referrers(
        self, repository: str, digest: str, artifact_type: str | None = None
    ) -> list[Descriptor]:
        """Manifests whose subject is ``digest``, those of one type or all.

        A registry without the referrers API keeps the list under a tag.
        """
        found = await self._referrers_of_api(repository, digest)
        if found is None:
            found = await self._referrers_of_tag(repository, digest)
        return [item for item in found if artifact_type in (None, item.artifact_type)]

    async def _referrers_of_api(self, repository: str, digest: str) -> list[Descriptor] | None:
        """None if the registry has no such API."""
        what = f"what refers to {place(repository, digest)}"
        request = self._request("GET", repository, f"referrers/{digest}", what)
        found: list[Descriptor] = []
        for _ in range(_MAX_PAGES):
            request = msgspec.structs.replace(request, hoped=frozenset({200, 404, 405}))
            answer = await self._transport.exchange(request)
            if answer.status != 200:
                return None
            found += _descriptors(answer.body, what)
            following = _next_page(request.url, answer)
            if following is None:
                break
            request = msgspec.structs.replace(request, url=following)
        return found

    async def _referrers_of_tag(self, repository: str, digest: str) -> list[Descriptor]:
        tag = digest.replace(":", "-")
        try:
            manifest = await self.manifest(repository, tag)
        except ArtifactNotFound:
            return []
        return _descriptors(manifest.body, f"the index {place(repository, tag)}")

    # --- pushing ----------------------------------------------------------------------------------

    async def put_blob(
        self, repository: str, content: bytes, media_type: str = "application/octet-stream"
    ) -> Descriptor:
        """Uploads the content unless the registry has it; ``media_type`` is for the descriptor."""
        descriptor = Descriptor(media_type, digest_of(content), len(content))
        what = f"a place for the blob {place(repository, descriptor.digest)}"
        known = await self._transport.exchange(
            self._request(
                "HEAD", repository, f"blobs/{descriptor.digest}", what, hoped=frozenset({200, 404})
            )
        )
        if known.status == 404:
            await self._upload(repository, content, descriptor.digest, what)
        return descriptor

    async def _upload(self, repository: str, content: bytes, digest: str, what: str) -> None:
        begin = self._request(
            "POST", repository, "blobs/uploads/", what, hoped=frozenset({202}), push=True
        )
        session = await self._transport.exchange(begin)
        location = begin.url.join(URL(session.headers.get("Location", ""), encoded=True))
        finish = Request(
            method="PUT",
            url=location.update_query(digest=digest),
            what=what,
            scope=begin.scope,
            headers={"Content-Type": "application/octet-stream"},
            body=content,
            hoped=frozenset({201, 204}),
            retry=False,  # the upload's session may be used up
        )

        async def consume(response: aiohttp.ClientResponse) -> None:
            return None

        await self._transport.transfer(finish, consume)

    async def put_manifest(
        self, repository: str, reference: str, body: bytes, media_type: str
    ) -> str:
        """Uploads a manifest or index; its digest.

        If it has a subject and the registry does not list referrers by itself, it is added to the
        list under the tag, as the specification asks of clients.
        """
        request = self._manifest_request(
            "PUT",
            repository,
            reference,
            hoped=frozenset({201}),
            headers={"Content-Type": media_type},
            body=body,
        )
        answer = await self._transport.exchange(request)
        digest = digest_of(body)
        head = _decode(body, _Head, f"the manifest {place(repository, reference)}")
        if head.subject and "OCI-Subject" not in answer.headers:
            await self._list_referrer(repository, head, Descriptor(media_type, digest, len(body)))
        return digest

    async def _list_referrer(self, repository: str, head: _Head, item: Descriptor) -> None:
        assert head.subject
        config_type = head.config.media_type if head.config else None
        item = msgspec.structs.replace(
            item,
            artifact_type=head.artifact_type or config_type,
            annotations=head.annotations,
        )
        listed = await self._referrers_of_tag(repository, head.subject.digest)
        if any(other.digest == item.digest for other in listed):
            return
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [_plain(entry) for entry in (*listed, item)],
        }
        tag = head.subject.digest.replace(":", "-")
        await self.put_manifest(repository, tag, msgspec.json.encode(index), OCI_INDEX)

    # --- requests ---------------------------------------------------------------------------------

    def _manifest_request(
        self,
        method: str,
        repository: str,
        reference: str,
        *,
        hoped: frozenset[int] = frozenset({200}),
        headers: dict[str, str] = _ACCEPT,
        body: bytes | None = None,
    ) -> Request:
        what = f"the manifest {place(repository, reference)}"
        if not (is_tag(reference) or is_digest(reference)):
            raise ArtifactNotFound(f"There can't be {what}: not a tag or a digest.")
        request = self._request(
            method, repository, f"manifests/{reference}", what, hoped=hoped, push=method == "PUT"
        )
        return msgspec.structs.replace(request, headers=headers, body=body)

    def _request(
        self,
        method: str,
        repository: str,
        path: str,
        what: str,
        *,
        hoped: frozenset[int] = frozenset({200}),
        push: bool = False,
    ) -> Request:
        if not is_repository(repository):
            raise ArtifactNotFound(f"There can't be {what}: not the name of a repository.")
        return Request(
            method=method,
            url=self._transport.origin.join(URL(f"/v2/{repository}/{path}", encoded=True)),
            what=what,
            scope=f"repository:{repository}:{'pull,push' if push else 'pull'}",
            hoped=hoped,
        )


def _media_type(answer: Answer) -> str:
    """As the manifest itself says: only that is covered by its digest."""
    said = _decode(answer.body, _Head, "a manifest").media_type
    return said or answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _descriptors(body: bytes, what: str) -> list[Descriptor]:
    return _decode(body, _Index, what).manifests


def _decode(body: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BadRegistryAnswer(f"The registry sent no JSON that fits for {what}.") from None


def _next_page(url: URL, answer: Answer) -> URL | None:
    found = _NEXT.search(answer.headers.get("Link", ""))
    if found is None:
        return None
    following = url.join(URL(found[1], encoded=True))
    return following if following.origin() == url.origin() else None


def _plain(descriptor: Descriptor) -> dict[str, object]:
    given = msgspec.to_builtins(descriptor)
    return {key: value for key, value in given.items() if value is not None}
