"""A real OCI registry for tests: the ``docker-registry`` of Debian in a process of its own.

Fixtures are imported into the ``conftest.py`` of a test package: ``registry_server`` is asked over
plain HTTP by anybody, ``basic_registry`` wants ``USER`` and ``PASSWORD``, ``tls_registry`` too and
has a certificate of a CA of its own, ``token_registry`` wants tokens of ``tests.support.tokens``.
Repositories are shared by the tests of a session, so each takes names of its own (``unique``).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pharia_kernel.oci.client import OciClient
from pharia_kernel.oci.credentials import Credentials, CredentialSource, Given
from pharia_kernel.oci.types import OCI_MANIFEST, Descriptor
from pharia_kernel.skills.registry.layouts import WASM_CONFIG, WASM_LAYER
from tests.support.tls import Certificates, make_certificates
from tests.support.tokens import ISSUER, SERVICE, TokenServer

USER = "testuser"
PASSWORD = "hunter2"
_HTPASSWD = f"{USER}:$2b$04$abcdefghijklmnopqrstuuV3duMsC0HpUex6N9qapiuOHHWkwRXVm\n"
_LISTENING = re.compile(r"listening on \S*?:(\d+)")
PATIENCE = 30.0
_numbers = itertools.count()


def unique(stem: str = "skill") -> str:
    """A name that no other test of the session uses."""
    return f"{stem}-{os.getpid()}-{next(_numbers)}"


class RegistryProcess:
    """``docker-registry`` on a loopback port, which stays the same when it is started again."""

    def __init__(self, folder: Path, *, auth: Any = None, tls: Certificates | None = None) -> None:
        """``auth`` is that part of the registry's own configuration."""
        self.folder = folder
        self.tls = tls
        self.port = 0
        self._auth = auth
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"{'localhost' if self.tls else '127.0.0.1'}:{self.port}"

    def start(self) -> None:
        config, log = self.folder / "config.json", self.folder / "log"
        config.write_text(json.dumps(self._config()))  # JSON is YAML
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [_program(), "serve", str(config)], stdout=output, stderr=output
            )
        deadline = time.monotonic() + PATIENCE
        while not (found := _LISTENING.search(log.read_text())):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"docker-registry did not start:\n{log.read_text()}")
            time.sleep(0.01)
        self.port = int(found[1])

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self, credentials: CredentialSource | None = None, **options: Any) -> OciClient:
        """``options`` are the client's; by default those that suit this registry."""
        if self.tls:
            options.setdefault("ca_file", self.tls.ca)
        else:
            options.setdefault("plain_http", True)
        return OciClient(self.host, credentials, **options)

    def _config(self) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": f"127.0.0.1:{self.port}"}
        if self.tls:
            http["tls"] = {"certificate": str(self.tls.certificate), "key": str(self.tls.key)}
        storage = {
            "filesystem": {"rootdirectory": str(self.folder / "storage")},
            "delete": {"enabled": True},
        }
        config = {"version": "0.1", "log": {"level": "info"}, "storage": storage, "http": http}
        return config | ({"auth": self._auth} if self._auth else {})


@contextmanager
def running_registry(
    *, auth: Any = None, tls: bool = False, htpasswd: bool = False
) -> Iterator[RegistryProcess]:
    with tempfile.TemporaryDirectory(prefix="registry-") as name:
        folder = Path(name)
        if htpasswd:
            (folder / "htpasswd").write_text(_HTPASSWD)
            auth = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
        registry = RegistryProcess(
            folder, auth=auth, tls=make_certificates(folder) if tls else None
        )
        registry.start()
        try:
            yield registry
        finally:
            registry.kill()


def _program() -> str:
    found = shutil.which("docker-registry")
    if found is None:
        reason = "the program `docker-registry` is missing (Debian package docker-registry)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def given(user: str = USER, password: str = PASSWORD) -> Given:
    return Given(Credentials(user, password))


# --- fixtures ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def registry_server() -> Iterator[RegistryProcess]:
    with running_registry() as registry:
        yield registry


@pytest.fixture(scope="session")
def basic_registry() -> Iterator[RegistryProcess]:
    with running_registry(htpasswd=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def tls_registry() -> Iterator[RegistryProcess]:
    with running_registry(htpasswd=True, tls=True) as registry:
        yield registry


@asynccontextmanager
async def running_token_registry() -> AsyncIterator[tuple[RegistryProcess, TokenServer]]:
    """A registry that trusts a token server of ours."""
    async with TokenServer.running() as tokens:
        with tempfile.TemporaryDirectory(prefix="tokens-") as name:
            bundle = Path(name) / "issuer.pem"
            bundle.write_bytes(tokens.certificate)
            auth = {
                "token": {
                    "realm": tokens.url,
                    "service": SERVICE,
                    "issuer": ISSUER,
                    "rootcertbundle": str(bundle),
                }
            }
            with running_registry(auth=auth) as registry:
                yield registry, tokens


# --- pushing -------------------------------------------------------------------------------------


async def push_component(client: OciClient, repository: str, tag: str, wasm: bytes) -> str:
    """In the layout of the CNCF's wasm working group; the digest of the manifest."""
    layer = await client.put_blob(repository, wasm, WASM_LAYER)
    config = await client.put_blob(repository, b'{"architecture":"wasm"}', WASM_CONFIG)
    return await push_manifest(client, repository, tag, layer, config=config)


async def push_manifest(
    client: OciClient, repository: str, tag: str, *layers: Descriptor, config: Descriptor
) -> str:
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": plain(config),
        "layers": [plain(layer) for layer in layers],
    }
    return await client.put_manifest(repository, tag, json.dumps(manifest).encode(), OCI_MANIFEST)


def plain(descriptor: Descriptor) -> dict[str, Any]:
    fields = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
        "annotations": descriptor.annotations,
        "artifactType": descriptor.artifact_type,
    }
    return {name: value for name, value in fields.items() if value is not None}


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
