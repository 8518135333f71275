"""A client of OCI registries for pushing (the distribution specification, 1.1).

``oras`` for Python was looked at: it repeats refused requests for minutes, sends credentials to
whatever host an upload is redirected to, and does not say what a manifest's digest became.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urljoin

import httpx

from pharia_kernel_sdk.publishing.artifact import MANIFEST, Blob, Manifest, digest_of
from pharia_kernel_sdk.publishing.authorization import Authorizer
from pharia_kernel_sdk.publishing.credentials import Credentials
from pharia_kernel_sdk.publishing.errors import PublishError, RegistryError
from pharia_kernel_sdk.publishing.reference import Reference

_ACCEPTED = ", ".join(
    [
        MANIFEST,
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ]
)
_TIMEOUT = httpx.Timeout(120.0, connect=20.0)
_PIECE = 1 << 18
"""Bytes between two reports of progress."""
_MOST_TAGS = 10_000
_DIGEST_HEADER = "Docker-Content-Digest"

Sent = Callable[[int], None]
"""Gets how many bytes of a blob were sent so far."""


class Registry:
    """One repository of a registry. All methods raise ``RegistryError``."""

    def __init__(
        self,
        reference: Reference,
        credentials: Credentials | None = None,
        *,
        plain_http: bool | None = None,
        ca_file: Path | None = None,
    ) -> None:
        """``plain_http``: whether to ask without TLS; None: only on this machine, and only if the
        registry there speaks nothing else. ``ca_file``: certificates that are trusted besides."""
        self.host = reference.registry
        self._repository = reference.repository
        context = _context(ca_file)
        if plain_http is None:
            plain_http = reference.is_loopback and _speaks_no_tls(self.host, context)
        scheme = "http" if plain_http else "https"
        self._client = httpx.Client(
            base_url=f"{scheme}://{self.host}", timeout=_TIMEOUT, verify=context
        )
        self._authorizer = Authorizer(self._client, self.host, credentials)

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    # --- blobs

    def has(self, digest: str) -> bool:
        """Whether the repository has that blob."""
        return self._asked("HEAD", f"blobs/{digest}", allowed={404}).status_code == 200

    def push(self, blob: Blob, sent: Sent = lambda _: None) -> bool:
        """False if the blob was there already."""
        if self.has(blob.digest):
            return False
        opened = self._asked("POST", "blobs/uploads/")
        location = opened.headers.get("Location")
        if not location:
            raise RegistryError(f"{self.host} opens an upload without saying where.")
        target = httpx.URL(urljoin(str(opened.request.url), location))
        self._asked(
            "PUT",
            str(target.copy_merge_params({"digest": blob.digest})),
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(len(blob.content)),
            },
            content=lambda: _pieces(blob.content, sent),
        )
        return True

    def pull(self, digest: str) -> bytes:
        """A blob, or None's error if its bytes are not those of the digest."""
        content = self._asked("GET", f"blobs/{digest}").content
        if digest_of(content) != digest:
            raise RegistryError(f"{self.host} sends other bytes than {digest}.")
        return content

    # --- manifests

    def put(self, reference: str, manifest: bytes, media_type: str = MANIFEST) -> str:
        """Store a manifest under a tag or its digest; returns the digest."""
        self._asked(
            "PUT",
            f"manifests/{reference}",
            headers={"Content-Type": media_type},
            content=lambda: manifest,
        )
        return digest_of(manifest)

    def get(self, reference: str) -> tuple[bytes, str] | None:
        """A manifest as it is, and its media type; None if the registry does not have it."""
        response = self._asked(
            "GET", f"manifests/{reference}", headers={"Accept": _ACCEPTED}, allowed={404}
        )
        if response.status_code == 404:
            return None
        if ":" in reference and digest_of(response.content) != reference:
            raise RegistryError(f"{self.host} sends another manifest than {reference}.")
        return response.content, response.headers.get("Content-Type", MANIFEST)

    def digest(self, tag: str) -> str | None:
        """Of the manifest that the tag names; None if there is none."""
        response = self._asked(
            "HEAD", f"manifests/{tag}", headers={"Accept": _ACCEPTED}, allowed={404}
        )
        if response.status_code == 404:
            return None
        told = response.headers.get(_DIGEST_HEADER)
        if told:
            return str(told)
        found = self.get(tag)
        return digest_of(found[0]) if found else None

    def tags(self) -> list[str]:
        """Sorted; empty if there is no such repository."""
        found: list[str] = []
        path: str | None = "tags/list"
        while path and len(found) < _MOST_TAGS:
            response = self._asked("GET", path, allowed={404})
            if response.status_code == 404:
                break
            found += _parsed(response.content).get("tags") or []
            link = response.links.get("next", {}).get("url")
            path = urljoin(str(response.request.url), link) if link else None
        return sorted(found)

    # --- requests

    def _asked(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Callable[[], bytes | Iterator[bytes]] | None = None,
        allowed: frozenset[int] | set[int] = frozenset(),
    ) -> httpx.Response:
        """``path`` is one in the repository, or a URL; ``content`` makes the body for each attempt,
        ``allowed`` are statuses that the caller understands."""
        pull_only = method in ("GET", "HEAD")
        scope = f"repository:{self._repository}:{'pull' if pull_only else 'pull,push'}"
        response = self._sent(method, path, headers, content)
        if response.status_code == 401 and self._authorizer.answer(
            response.headers.get_list("WWW-Authenticate"), scope
        ):
            response = self._sent(method, path, headers, content)
        if response.is_success or response.status_code in allowed:
            return response
        raise RegistryError(self._refusal(method, response), response.status_code)

    def _sent(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        content: Callable[[], bytes | Iterator[bytes]] | None,
    ) -> httpx.Response:
        absolute = path.startswith(("http://", "https://"))
        url = httpx.URL(path if absolute else f"/v2/{self._repository}/{path}")
        own = not absolute or (url.scheme, url.netloc) == (
            self._client.base_url.scheme,
            self._client.base_url.netloc,
        )
        authorization = self._authorizer.header if own else None
        try:
            return self._client.request(
                method,
                url,
                headers={
                    **(headers or {}),
                    **({"Authorization": authorization} if authorization else {}),
                },
                content=content() if content else None,
                follow_redirects=method in ("GET", "HEAD"),
            )
        except httpx.HTTPError as error:
            raise RegistryError(
                f"No answer from the registry {self.host} ({str(error) or type(error).__name__})."
            ) from None

    def _refusal(self, method: str, response: httpx.Response) -> str:
        place = f"{self.host}/{self._repository}"
        status = response.status_code
        detail = _told(response)
        match status:
            case 401:
                return (
                    f"{self.host} refuses the user and password{detail}. Check SKILL_REGISTRY_USER "
                    "and SKILL_REGISTRY_TOKEN, the options, or `docker login`."
                )
            case 403:
                doing = "read from" if method in ("GET", "HEAD") else "push to"
                return f"{self.host} does not let this user {doing} {place}{detail}."
            case 404:
                return f"{place} has no such content{detail}; is the repository's name right?"
            case 413:
                return f"{self.host} takes no content of this size{detail}."
            case _:
                return f"{self.host} answers {status} to {method}{detail}."


def parsed(manifest: bytes) -> Manifest:
    """A manifest as JSON; empty if it is none."""
    return _parsed(manifest)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _told(response: httpx.Response) -> str:
    """What the registry itself says (the specification's "Error Codes"), shortened."""
    errors = _parsed(response.content).get("errors")
    first = errors[0] if isinstance(errors, list) and errors else {}
    message = str(first.get("message") or "") if isinstance(first, dict) else ""
    printable = "".join(character for character in message if character.isprintable())
    return f": {printable[:200]}" if printable else ""


def _pieces(content: bytes, sent: Sent) -> Iterator[bytes]:
    for start in range(0, len(content), _PIECE):
        piece = content[start : start + _PIECE]
        yield piece
        sent(start + len(piece))


def _context(ca_file: Path | None) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "strerror", None) or "no certificates in PEM"
            raise PublishError(f"{ca_file} can't be used: {reason}.") from None
    return context


def _speaks_no_tls(host: str, context: ssl.SSLContext) -> bool:
    """Of a registry on this machine. One with TLS whose certificate is not trusted does."""
    try:
        httpx.get(f"https://{host}/v2/", verify=context, timeout=_TIMEOUT)
    except httpx.ConnectError as error:
        return "CERTIFICATE_VERIFY_FAILED" not in str(error)
    except httpx.HTTPError:
        return False
    return False
